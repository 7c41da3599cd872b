"""Predictions to look at that nobody picked: those at evenly spaced quantiles of the error.

Each cell holds the predicted mesh and the predicted and the true skeleton, drawn into the same square around the true
hand; below, the folder, the image, its PA-PJPE and the share of images that are better. Photographs of others are not
drawn; `--photographs` adds them, for data that may be shown.

    python -m benchmarks.studies.error_quantiles CHECKPOINT --data FOLDER [FOLDER ...] --out FILE.png [--count 12]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measure.accuracy import PredictedHands, per_image_pa_pjpe_mm
from benchmarks.studies.synthetic_to_real import predict_split
from cliphand.arrays import ByteArray, FloatArray
from cliphand.checkpoint import Checkpoint, load_checkpoint
from cliphand.config import require
from cliphand.data.freihand import FreiHand
from cliphand.data.overlay import draw_mesh, draw_skeleton, project
from cliphand.data.photograph import read_image
from cliphand.kinds import ERROR_QUANTILES
from cliphand.pictures import PAPER, caption, write_png
from cliphand.told import told_in_one_sentence
from engines.runtimes.eager import EagerEngine

SIDE_PX, CELLS_A_ROW = 150, 3
MARGIN = 1.5  # of the square, over the extent of the true joints


@dataclass(frozen=True, slots=True)
class _Judged:
    """A folder's evaluation split with what the model makes of it; errors_mm (B,) are PA-PJPE."""

    name: str
    data: FreiHand
    hands: PredictedHands
    errors_mm: FloatArray


def at_quantiles(errors: FloatArray, count: int) -> list[int]:
    """Places in `errors` of the smallest, the largest, and `count - 2` evenly spaced quantiles between them.

    Raises:
        InputError: there are fewer errors than that.
    """
    require(2 <= count <= len(errors), f"--count is {count}; valid are 2 to {len(errors)}, which so many images allow.")
    order = np.argsort(errors, kind="stable")
    return [int(order[round(share * (len(errors) - 1))]) for share in np.linspace(0, 1, count)]


def draw_quantiles(
    checkpoint: Checkpoint, folders: Sequence[Path], out: Path, *, count: int = 12, photographs: bool = False
) -> Path:
    """Write the picture.

    Args:
        checkpoint: a trained model.
        folders: in FreiHAND's layout, with joints of the evaluation split; their images are ranked together.
        out: PNG file.
        count: predictions.
        photographs: whether each cell begins with the photograph.

    Raises:
        InputError: a folder is unreadable, or there are fewer images than `count`.
    """
    with EagerEngine(checkpoint, threads=None) as engine:
        judged = [_judge(engine, checkpoint, folder) for folder in folders]
    errors = np.concatenate([one.errors_mm for one in judged])
    places = [(one, index) for one in judged for index in range(len(one.errors_mm))]
    cells = [
        _cell(*places[chosen], checkpoint, better=float((errors < errors[chosen]).mean()), photographs=photographs)
        for chosen in at_quantiles(errors, count)
    ]
    cells += [np.full_like(cells[0], PAPER)] * (-len(cells) % CELLS_A_ROW)
    rows = [np.hstack(cells[start : start + CELLS_A_ROW]) for start in range(0, len(cells), CELLS_A_ROW)]
    write_png(out, np.vstack(rows), ERROR_QUANTILES)
    return out


def _judge(engine: EagerEngine, checkpoint: Checkpoint, folder: Path) -> _Judged:
    data, hands = predict_split(engine, checkpoint, folder)
    return _Judged(folder.resolve().name, data, hands, per_image_pa_pjpe_mm(hands, data))


def _cell(judged: _Judged, index: int, checkpoint: Checkpoint, *, better: float, photographs: bool) -> ByteArray:
    """One prediction: panels side by side above a line of text."""
    label = judged.data.label_index(index)
    assert judged.data.xyz is not None  # noqa: S101  # errors were measured against them
    truth, predicted = judged.data.xyz[label], judged.hands.xyz[index]
    placed, K = _square(truth, judged.data.K[label])
    paper = np.full((SIDE_PX, SIDE_PX, 3), PAPER, np.uint8)
    panels = [
        draw_mesh(paper, judged.hands.verts[index], K, checkpoint.topology.faces, opacity=1.0),
        draw_skeleton(paper, predicted, K),
        draw_skeleton(paper, truth, K),
    ]
    if photographs:
        image = read_image(judged.data.image_path(index))
        panels.insert(0, np.asarray(cv2.warpAffine(image, placed, (SIDE_PX, SIDE_PX), borderValue=(PAPER,) * 3)))
    text = f"{judged.name} {index}: {judged.errors_mm[index]:.1f} mm; {better:.0%} are better"
    return np.vstack([np.hstack(panels), caption(text, SIDE_PX * len(panels))])


def _square(joints: FloatArray, K: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The 2 x 3 matrix from the photograph's pixels to a square around the hand, and K after it."""
    pixels = project(joints, K)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    scale = SIDE_PX / (MARGIN * float((high - low).max()))
    placed = np.hstack([scale * np.eye(2), (SIDE_PX / 2 - scale * (low + high) / 2)[:, None]])
    return placed, np.vstack([placed, [0.0, 0.0, 1.0]]) @ K


def main() -> None:
    """Draw and tell where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint or run folder")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders in FreiHAND's layout")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    parser.add_argument("--count", type=int, default=12, help="predictions")
    parser.add_argument("--photographs", action="store_true", help="draw the photographs as well")
    options = parser.parse_args()
    with told_in_one_sentence("error_quantiles"):
        checkpoint = load_checkpoint(options.checkpoint)
        out = draw_quantiles(
            checkpoint, options.data, options.out, count=options.count, photographs=options.photographs
        )
        print(out)  # noqa: T201


if __name__ == "__main__":
    main()
