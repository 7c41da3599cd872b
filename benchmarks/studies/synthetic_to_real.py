"""What a model trained on synthetic hands alone makes of real photographs.

For each folder: the model's PA-PJPE beside that of always guessing the mean synthetic pose, and a 95 % bootstrap
interval, over images, of their difference: the model beats the guess by more than chance where that interval lies below
zero. Crops follow the checkpoint's own rule. The last line is one JSON object.

    python -m benchmarks.studies.synthetic_to_real CHECKPOINT --synthetic DATA --real FOLDER [FOLDER ...]
"""

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measure.accuracy import PredictedHands, per_image_pa_pjpe_mm, predict
from benchmarks.measure.machine import machine_facts
from benchmarks.measure.photographs import Photographs
from cliphand.arrays import FloatArray
from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint, load_checkpoint
from cliphand.data.freihand import FreiHand, open_freihand
from cliphand.errors import InputError
from cliphand.metrics import constant_prediction, mean_pose
from cliphand.provenance import git_commit
from engines.runtimes.eager import EagerEngine
from export.gate.parity import bootstrap_interval


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One folder's evaluation split, in millimetres.

    Attributes:
        pa_pjpe_mm: of the joints regressed from the predicted mesh.
        one_look_pa_pjpe_mm: the same where each photograph is looked at only once.
        lixel_pa_pjpe_mm: of the joint regressor's own joints.
        mean_pose_pa_pjpe_mm: of the mean training pose.
        difference_mm: model minus mean pose.
        difference_interval_mm: its 95 % bootstrap interval over images.
        better_images_share: share of images on which the model beats the mean pose.
    """

    data: str
    images: int
    pa_pjpe_mm: float
    one_look_pa_pjpe_mm: float
    lixel_pa_pjpe_mm: float
    mean_pose_pa_pjpe_mm: float
    difference_mm: float
    difference_interval_mm: tuple[float, float]
    better_images_share: float


def study(checkpoint: Checkpoint, synthetic: Path, folders: list[Path]) -> list[StudyRow]:
    """Score the checkpoint on each folder's evaluation split.

    Raises:
        InputError: a folder is unreadable or has no joints.
    """
    poses = open_freihand(synthetic, "training").xyz
    if poses is None:
        raise InputError(f"{synthetic} has no training joints; give the folder the model was trained on.")
    guess = mean_pose(poses)
    with EagerEngine(checkpoint, threads=None) as engine:
        return [_row(engine, checkpoint, guess, folder) for folder in folders]


def predict_split(engine: EagerEngine, checkpoint: Checkpoint, folder: Path) -> tuple[FreiHand, PredictedHands]:
    """A folder's evaluation split, and what the engine of a checkpoint makes of all its images.

    Raises:
        InputError: the folder is unreadable.
    """
    data = open_freihand(folder, "evaluation")
    size = checkpoint.model_config.input_size
    photographs = Photographs(data=data, crop=checkpoint.crop, input_size=size, root="truth")
    hands = predict({"model": engine}, photographs, checkpoint.topology.joint_regressor, n_images=len(data))["model"]
    return data, hands


def _row(engine: EagerEngine, checkpoint: Checkpoint, guess: FloatArray, folder: Path) -> StudyRow:
    data, hands = predict_split(engine, checkpoint, folder)
    once = hands
    if checkpoint.crop.second_look:
        one_look = dataclasses.replace(checkpoint, crop=dataclasses.replace(checkpoint.crop, second_look=False))
        once = predict_split(engine, one_look, folder)[1]
    model, lixel, constant, once_only = (
        per_image_pa_pjpe_mm(dataclasses.replace(hands, xyz=xyz), data)
        for xyz in (hands.xyz, hands.lixel_xyz, constant_prediction(guess, len(data)), once.xyz)
    )
    difference = model - constant
    return StudyRow(
        data=str(folder),
        images=len(data),
        pa_pjpe_mm=float(model.mean()),
        one_look_pa_pjpe_mm=float(once_only.mean()),
        lixel_pa_pjpe_mm=float(lixel.mean()),
        mean_pose_pa_pjpe_mm=float(constant.mean()),
        difference_mm=float(difference.mean()),
        difference_interval_mm=bootstrap_interval(difference),
        better_images_share=float((difference < 0).mean()),
    )


def table(rows: list[StudyRow]) -> Table:
    """The rows for people."""
    result = Table(title="PA-PJPE in mm of a model that saw synthetic hands only")
    for heading in ("data", "images", "model", "one look", "lixel", "mean pose", "difference (95 %)", "better on"):
        result.add_column(heading, justify="left" if heading == "data" else "right")
    for row in rows:
        low, high = row.difference_interval_mm
        result.add_row(
            row.data,
            str(row.images),
            f"{row.pa_pjpe_mm:.2f}",
            f"{row.one_look_pa_pjpe_mm:.2f}",
            f"{row.lixel_pa_pjpe_mm:.2f}",
            f"{row.mean_pose_pa_pjpe_mm:.2f}",
            f"{row.difference_mm:+.2f} ({low:+.2f} to {high:+.2f})",
            f"{row.better_images_share:.0%}",
        )
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="trained on synthetic images alone")
    parser.add_argument("--synthetic", type=Path, required=True, help="the folder it was trained on")
    parser.add_argument("--real", type=Path, nargs="+", required=True, help="folders in FreiHAND's layout")
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    rows = study(checkpoint, options.synthetic, [options.synthetic, *options.real])
    Console().print(table(rows))
    result = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "crop": to_json(checkpoint.crop),
        "training": dict(checkpoint.facts),
        "machine": machine_facts(),
        "commit": git_commit(),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
