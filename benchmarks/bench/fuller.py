"""Whether a result that stands where a benchmark would write its own holds more than the benchmark will measure."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.bench.run import BenchRequest
from benchmarks.measure.isolated import IsolatedSettings
from cliphand.errors import InputError
from cliphand.files import read_json_object
from engines.artefact.manifest import Manifest, read_manifest
from engines.choice.verdicts import model_files
from engines.open import NATIVE, PLAN, REJECTED, RUNNERS, file_kind

SHOWN = 3  # rows that the sentence names


def refuse_narrower(path: Path, request: BenchRequest) -> None:
    """Keep a fuller result of the same export, which other commands read.

    Raises:
        InputError: the file holds rows of the model files as they are now, or figures of them, that the request leaves
            out, or it was scored on more images than are asked for.
    """
    if not path.exists():
        return
    told = read_json_object(path)
    manifest = read_manifest(request.export)
    rows = [row for row in _rows(told) if _holds(row, told, manifest, request.export)]
    lost = [_name(row) for row in rows if not measured_again(row, request)]
    images = _fact(told, "data", "images")
    reasons = []
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        reasons.append(f"of {'; '.join(lost[:SHOWN])}{more}")
    if rows and request.n_images is not None and isinstance(images, int) and images > request.n_images:
        reasons.append(f"on {images} images")
    if reasons:
        raise InputError(
            f"{path} holds results that this benchmark leaves out ({', '.join(reasons)}), and `cliphand predict` and "
            f"`cliphand report` read it: write this one to another --json FILE, or replace it with --json {path}."
        )


def _rows(told: Mapping[str, object]) -> list[Mapping[str, object]]:
    rows = told.get("rows")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _fact(told: Mapping[str, object], table: str, key: str) -> object:
    values = told.get(table)
    return values.get(key) if isinstance(values, Mapping) else None


def _holds(row: Mapping[str, object], told: Mapping[str, object], manifest: Manifest, export: Path) -> bool:
    """Whether a row is of a model file, or of the checkpoint, as it is now; other rows are worth nothing any more."""
    if row.get("kind") == "artefact":
        return model_files(export, manifest).get(str(row.get("artefact"))) == row.get("sha256")
    return _fact(told, "export", "checkpoint_sha256") == manifest.checkpoint.sha256


def measured_again(row: Mapping[str, object], request: BenchRequest) -> bool:
    """Whether the request asks for all that a row tells."""
    kind, file = row.get("kind"), Path(str(row.get("artefact")))
    asked = row.get("batch") in request.batches
    asked &= row.get("isolated") is None or request.isolated != IsolatedSettings()
    if kind == "artefact" and file_kind(file) == PLAN:
        return asked
    asked &= row.get("threads") in request.threads
    if kind == "baseline":
        asked &= request.baselines
    if kind == "artefact":
        known = RUNNERS.get(file_kind(file), {})
        asked &= row.get("runner") in ([name for name in request.runners if name in known] or list(known)[:1])
        asked &= request.rejected or file.suffix != REJECTED
        asked &= request.trust or file_kind(file) not in NATIVE
    return asked


def _name(row: Mapping[str, object]) -> str:
    return f"{row.get('key')} at batch {row.get('batch')}"
