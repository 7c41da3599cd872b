"""The card of the model that comes with cliphand: what it is, how it was made, how far off it is, where it fails."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure.photographs import SECOND_LOOK
from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint
from cliphand.errors import InputError
from cliphand.files import read_json_object
from engines.artefact.manifest import Manifest
from export.gate.parity import engine_words

Row = Mapping[str, object]
MAKING = ("step", "input_px", "epochs", "views", "learning_rate", "precision", "validation_mm")
ERRORS = {
    "data": "data",
    "images": "images",
    "pa_pjpe_mm": "joints of the mesh",
    "one_look_pa_pjpe_mm": "after one look",
    "lixel_pa_pjpe_mm": "joint regressor",
    "mean_pose_pa_pjpe_mm": "mean pose",
    "difference_interval_mm": "mesh's minus mean pose, 95 %",
    "floor_mm": "floor",
}
GATE = ("artefact", "engine", "images", "pa_pjpe_mm", "delta_pa_pjpe_mm")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the card is written from.

    Attributes:
        result: what `benchmarks.studies.default_model` printed last.
        floors: what `benchmarks.studies.joint_floor` printed last.
        limits: Markdown on what the model fails at.
    """

    result: Path | None = None
    floors: Path | None = None
    limits: Path | None = None


def card(checkpoint: Checkpoint, manifest: Manifest, parity: Row, evidence: Evidence) -> str:
    """Markdown.

    Raises:
        InputError: a file of the evidence cannot be read or holds something else.
    """
    model = checkpoint.model_config
    result = {} if evidence.result is None else _holding(evidence.result, "default_model", "pa_pjpe_mm")
    facts = {
        "network": f"{model.backbone}, {model.input_size} px, {manifest.exporter['parameters']:,} weights, "
        f"{manifest.exporter['gflop']:.2f} GFLOP an image",
        "crop": f"rule {checkpoint.crop.rule}, margin {checkpoint.crop.margin}"
        + (f"; {SECOND_LOOK}" if checkpoint.crop.second_look else ""),
        "sha256 of the weights": checkpoint.sha256,
        "trained at commit": checkpoint.facts.get("commit", "unknown"),
        "exported at commit": manifest.commit,
        "licence": "Apache-2.0",
    }
    judged = [
        {**row, "engine": engine_words(str(row.get("engine")), str(row.get("precision")))}
        for row in _rows(parity)
        if row.get("artefact") in manifest.artefacts
    ]
    parts = [
        "# The model that comes with cliphand",
        "CLIP-Hand3D's image branch, trained on this project's rendered hands alone: no labelled photograph, no "
        "weights of others and nothing of MANO went into it.",
        _facts(facts),
    ]
    if "steps" in result:
        parts += [
            f"## How it was made\n\n`{result['command']}`",
            _table(MAKING, _rows(result, "steps")),
        ]
    if result:
        parts += ["## Error, PA-PJPE in mm", _table(ERRORS, _with_floors(_rows(result), evidence.floors))]
        parts.append(
            "The mean pose is that of the training hands, always guessed. The floor is what the best pose and shape of "
            "the rendered hand leave: its bones have other proportions than the labels'."
        )
    if evidence.limits is not None:
        parts.append(evidence.limits.read_text(encoding="utf-8").strip())
    parts += ["## Graphs against PyTorch, mm", _table(GATE, judged)]
    if checkpoint.train is not None:
        recipe = json.dumps(to_json(checkpoint.train), indent=1)
        parts.append(f"## Recipe of the last step\n\n```json\n{recipe}\n```")
    return "\n\n".join(parts) + "\n"


def _with_floors(rows: Sequence[Row], floors: Path | None) -> list[Row]:
    """The rows with their folders' names alone and, where they are known, the floors of those folders."""
    known = {}
    if floors is not None:
        found = _rows(_holding(floors, "joint_floor", "best_shape_mm"))
        known = {_name(row): row["best_shape_mm"] for row in found if row.get("joints") == "labelled"}
    return [{**row, "data": _name(row), "floor_mm": known.get(_name(row), "-")} for row in rows]


def _name(row: Row) -> str:
    return Path(str(row["data"])).name


def _holding(path: Path, study: str, key: str) -> Mapping[str, object]:
    found = read_json_object(path)
    if not _rows(found) or not all({"data", key} <= {*row} for row in _rows(found)):
        raise InputError(f"{path} holds no rows with data and {key}; give what benchmarks.studies.{study} prints last.")
    return found


def _rows(found: Mapping[str, object], key: str = "rows") -> list[Row]:
    rows = found.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _facts(facts: Row) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in facts.items())])


def _table(columns: Mapping[str, str] | Sequence[str], rows: Sequence[Row]) -> str:
    """Rows under columns, which may have headings other than their keys."""
    headings = columns.values() if isinstance(columns, Mapping) else columns
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_cell(row.get(key, '-')) for key in columns)} |" for row in rows)])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if 0 < abs(value) < 0.05 else f"{value:.2f}"
    if isinstance(value, list | tuple):
        return " to ".join(map(_cell, value))
    return str(value).replace("|", "\\|").replace("\n", " ")
