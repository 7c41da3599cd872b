"""Make `cliphand/pretrained/` from a trained checkpoint: weights in FP16, graphs that passed the gate, and a card.

The graphs are judged in millimetres against the checkpoint as it is shipped. What would take more than 20 MB in the
wheel, or fails the gate, is refused, and the folder is as it was.

    python -m benchmarks.studies.ship_model CHECKPOINT --data DIR [--result FILE.json ...] [--keep int8 ...]

Each result is an object with `rows`, as `benchmarks.studies.synthetic_to_real` prints on its last line.
"""

import argparse
import dataclasses
import json
import shutil
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint, load_checkpoint, save_small_checkpoint
from cliphand.config import require
from cliphand.errors import InputError
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
COLUMNS = ("data", "images", "pa_pjpe_mm", "mean_pose_pa_pjpe_mm", "difference_interval_mm")


@dataclasses.dataclass(frozen=True, slots=True)
class Shipment:
    """What to ship.

    Attributes:
        checkpoint: folder or run.
        data: folder whose training images calibrate and whose evaluation images judge.
        keep: precisions of the graphs that are shipped, of `fp32`, `fp16` and `int8`.
        results: JSON files whose rows the card holds.
        images: that judge, and that calibrate.
        tolerance_mm: allowed change of PA-PJPE and PA-PVPE.
    """

    checkpoint: Path
    data: Path
    keep: tuple[str, ...] = ("int8",)
    results: tuple[Path, ...] = ()
    images: int = 200
    tolerance_mm: float = 0.05


def ship(shipment: Shipment, folder: Path = FOLDER) -> Mapping[str, int]:
    """Fill the folder and return the compressed size in bytes of each file.

    Raises:
        InputError: the checkpoint or a result cannot be read, a graph fails the gate, or all of it is too large.
    """
    results = [row for path in shipment.results for row in _rows(path)]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        save_small_checkpoint(shipment.checkpoint, made / CHECKPOINT)
        checkpoint = load_checkpoint(made / CHECKPOINT)
        manifest = _export(shipment, made)
        (made / CARD).write_text(card(checkpoint, manifest, read_json_object(made / EXPORT / PARITY_NAME), results))
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


def _export(shipment: Shipment, made: Path) -> Manifest:
    """The export folder with the graphs that are kept, its checkpoint named by a relative path."""
    out = made / EXPORT
    manifest = export_checkpoint(made / CHECKPOINT, out)
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
    report = write_typed_graphs(out, request, lambda *_: None)
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


def card(
    checkpoint: Checkpoint,
    manifest: Manifest,
    parity: Mapping[str, object],
    results: Sequence[Mapping[str, object]],
) -> str:
    """What the model is, in Markdown: its facts, its errors beside a constant guess, and what each graph changes."""
    model = checkpoint.model_config
    facts = {
        "backbone": f"{model.backbone}, {model.input_size} px",
        "weights": f"{manifest.exporter['parameters']:,}",
        "GFLOP an image": f"{manifest.exporter['gflop']:.2f}",
        **{key: str(value) for key, value in checkpoint.facts.items()},
        "crop": json.dumps(to_json(checkpoint.crop)),
        "recipe": "unknown" if checkpoint.train is None else json.dumps(to_json(checkpoint.train)),
        "sha256 of the weights": checkpoint.sha256,
        "exported at commit": manifest.commit,
        "licence": "Apache-2.0",
    }
    rows = parity.get("rows")
    judged = [row for row in rows if row.get("artefact") in manifest.artefacts] if isinstance(rows, list) else []
    gate = ("artefact", "engine", "images", "pa_pjpe_mm", "delta_pa_pjpe_mm")
    parts = ["# The model that comes with cliphand", _table(("", ""), [{"": k, " ": v} for k, v in facts.items()])]
    if results:
        parts += ["## Error on data it was not trained on, mm", _table(COLUMNS, results)]
    return "\n\n".join([*parts, "## Graphs against PyTorch, mm", _table(gate, judged)]) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown; a row's own values where no column has a name."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        cells = [row.get(column, "-") for column in columns] if any(columns) else [*row.values()]
        lines.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return " to ".join(map(_cell, value))
    return str(value).replace("|", "\\|").replace("\n", " ")


def _rows(path: Path) -> list[Mapping[str, object]]:
    rows = read_json_object(path).get("rows")
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"data", "pa_pjpe_mm"} <= {*row} for row in rows
    ):
        raise InputError(f"{path} holds no rows with data and pa_pjpe_mm; give what synthetic_to_real prints last.")
    return rows


def main() -> None:
    """Ship and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder in FreiHAND's layout")
    parser.add_argument("--keep", nargs="+", choices=("fp32", "fp16", "int8"), default=["int8"], help="graphs")
    parser.add_argument("--result", type=Path, nargs="+", default=[], help="JSON files for the card's table")
    parser.add_argument("--images", type=int, default=200, help="that judge, and that calibrate")
    parser.add_argument("--tolerance-mm", type=float, default=0.05, help="allowed change of PA-PJPE and PA-PVPE")
    options = parser.parse_args()
    with told_in_one_sentence("ship_model"):
        shipment = Shipment(
            checkpoint=options.checkpoint,
            data=options.data,
            keep=tuple(options.keep),
            results=tuple(options.result),
            images=options.images,
            tolerance_mm=options.tolerance_mm,
        )
        for name, size in ship(shipment).items():
            print(f"{name}: {size / 1e6:.2f} MB in the wheel")  # noqa: T201


if __name__ == "__main__":
    main()
