"""Make `cliphand/pretrained/` from a trained checkpoint: weights in FP16, graphs that passed the gate, and a card.

The graphs are judged in millimetres against the checkpoint as it is shipped. What would take more than 20 MB in the
wheel, or fails the gate, is refused, and the folder is as it was.

    python -m benchmarks.studies.ship_model CHECKPOINT --data DIR [--keep fp16 ...] [--result FILE.json]
        [--floors FILE.json] [--limits FILE.md]

The result is what `benchmarks.studies.default_model` prints on its last line, the floors what `joint_floor` does.
"""

import argparse
import dataclasses
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from benchmarks.studies.model_card import Evidence, card
from cliphand.checkpoint import Checkpoint, load_checkpoint, save_small_checkpoint
from cliphand.config import require
from cliphand.files import read_json_object, whole_folder
from cliphand.kinds import IMPORTED, TRAINED
from cliphand.pretrained import CARD, CHECKPOINT, EXPORT, FOLDER
from cliphand.told import told_in_one_sentence
from engines.artefact.manifest import Manifest, read_manifest, write_manifest
from engines.choice.verdicts import PARITY_NAME
from export.folder.contents import EXPORT as EXPORTED
from export.folder.write import export_checkpoint
from export.gate.images import GateRequest
from export.gate.parity import TOLERANCES, Tolerance
from export.precision.calibration import CalibrationRequest, held_out
from export.precision.request import TypedRequest
from export.precision.table import Keep
from export.precision.typed_graphs import write_typed_graphs

MAX_BYTES = 20_000_000  # of the folder in the wheel
TYPED: tuple[Literal["fp16", "int8"], ...] = ("fp16", "int8")


@dataclasses.dataclass(frozen=True, slots=True)
class Shipment:
    """What to ship.

    Attributes:
        checkpoint: folder or run.
        data: folder whose training images calibrate and whose evaluation images judge.
        keep: precisions of the graphs that are shipped, of `fp32`, `fp16` and `int8`.
        evidence: what the card is written from.
        images: that judge, and that calibrate.
        tolerance_mm: allowed change of PA-PJPE and PA-PVPE.
    """

    checkpoint: Path
    data: Path
    keep: tuple[str, ...] = ("fp16",)
    evidence: Evidence = dataclasses.field(default_factory=Evidence)
    images: int = 200
    tolerance_mm: float = 0.05


def ship(shipment: Shipment, folder: Path = FOLDER) -> Mapping[str, int]:
    """Fill the folder and return the compressed size in bytes of each file.

    Raises:
        InputError: the checkpoint or a result cannot be read, a graph fails the gate, or all of it is too large.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        save_small_checkpoint(shipment.checkpoint, made / CHECKPOINT)
        checkpoint = load_checkpoint(made / CHECKPOINT)
        manifest = _export(shipment, checkpoint, made)
        parity = read_json_object(made / EXPORT / PARITY_NAME)
        (made / CARD).write_text(card(checkpoint, manifest, parity, shipment.evidence), encoding="utf-8")
        sizes = packed_sizes(made)
        for name, kind in ((CHECKPOINT, IMPORTED if checkpoint.train is None else TRAINED), (EXPORT, EXPORTED)):
            with whole_folder(folder / name, kind) as fresh:
                shutil.copytree(made / name, fresh, dirs_exist_ok=True)
        shutil.copyfile(made / CARD, folder / CARD)
    return sizes


def packed_sizes(made: Path) -> dict[str, int]:
    """Bytes that each file takes in a wheel, which deflates.

    Raises:
        InputError: together they are more than `MAX_BYTES`.
    """
    files = (path for path in sorted(made.rglob("*")) if path.is_file())
    sizes = {path.relative_to(made).as_posix(): len(zlib.compress(path.read_bytes(), 6)) for path in files}
    told = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sizes.items())
    size_mb, most_mb = sum(sizes.values()) / 1e6, MAX_BYTES / 1e6
    require(
        size_mb <= most_mb,
        f"the wheel would hold {size_mb:.1f} MB of model, {most_mb:.0f} at most ({told}); keep fewer graphs (--keep), "
        "or train a smaller model.",
    )
    return sizes


def _export(shipment: Shipment, checkpoint: Checkpoint, made: Path) -> Manifest:
    """The export folder with the graphs that are kept, its checkpoint named by a relative path."""
    out = made / EXPORT
    manifest = export_checkpoint(checkpoint, out)
    # Stricter than the gate on the errors alone: single vertices keep its bound, which rounding to eight bits needs.
    limits: dict[str, Tolerance] = {
        one: dataclasses.replace(TOLERANCES[one], delta_mm=shipment.tolerance_mm) for one in TYPED
    }
    request = TypedRequest(
        precisions=tuple(precision for precision in TYPED if precision in shipment.keep),
        calibration=CalibrationRequest(shipment.data, shipment.images, 0, "max", held_out(manifest.training)),
        gate=GateRequest(shipment.data, "evaluation", shipment.images),
        keep=Keep((), ()),
        tolerances={**TOLERANCES, **limits},
        search_s=0.0,
        auto=False,
        threads=None,
        tensorrt=True,
    )
    report = write_typed_graphs(out, checkpoint, request, lambda *_: None)
    failed = [verdict.name for verdict in report.verdicts if not verdict.passed]
    require(not failed, f"{', '.join(failed)} failed the gate; see `cliphand export --int8 --auto`, or train on.")
    manifest = read_manifest(out)
    kept = {name: graph for name, graph in manifest.artefacts.items() if graph.precision in shipment.keep}
    for name in manifest.artefacts.keys() - kept.keys():
        (out / name).unlink()
    record = dataclasses.replace(manifest.checkpoint, path=f"../{CHECKPOINT}")
    manifest = dataclasses.replace(manifest, artefacts=kept, checkpoint=record)
    write_manifest(manifest, out)
    return manifest


def main() -> None:
    """Ship and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder in FreiHAND's layout")
    parser.add_argument("--keep", nargs="+", choices=("fp32", "fp16", "int8"), default=["fp16"], help="graphs")
    parser.add_argument("--result", type=Path, help="JSON file: how the model was made, and its errors")
    parser.add_argument("--floors", type=Path, help="JSON file: what the rendered hands' proportions cost")
    parser.add_argument("--limits", type=Path, help="Markdown file: what the model fails at")
    parser.add_argument("--images", type=int, default=200, help="that judge, and that calibrate")
    parser.add_argument("--tolerance-mm", type=float, default=0.05, help="allowed change of PA-PJPE and PA-PVPE")
    options = parser.parse_args()
    with told_in_one_sentence("ship_model"):
        shipment = Shipment(
            checkpoint=options.checkpoint,
            data=options.data,
            keep=tuple(options.keep),
            evidence=Evidence(options.result, options.floors, options.limits),
            images=options.images,
            tolerance_mm=options.tolerance_mm,
        )
        for name, size in ship(shipment).items():
            print(f"{name}: {size / 1e6:.2f} MB in the wheel")  # noqa: T201


if __name__ == "__main__":
    main()
