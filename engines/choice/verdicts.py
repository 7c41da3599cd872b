"""What `parity.json` and `bench.json` tell of an export's files: it holds for the bytes that it was found of."""

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cliphand.errors import InputError
from cliphand.files import read_json_object
from engines.artefact.manifest import Manifest
from engines.tensorrt.plan import read_record

PARITY_NAME = "parity.json"
BENCH_NAME = "bench.json"


@dataclass(frozen=True, slots=True)
class Bound:
    """Rows of one of the two files.

    Attributes:
        rows: whose `sha256` is the model file's.
        stale: sentences, without their full stop, about model files whose rows are of other bytes.
        refusals: why TensorRT or a graph's own weights refuse it, by its file's name; of `parity.json` alone.
    """

    rows: tuple[Mapping[str, object], ...] = ()
    stale: tuple[str, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict)


def exported_parity(export: Path, manifest: Manifest) -> Bound:
    """What the export's own gate found of the graphs that its manifest lists."""
    sha256 = {name: artefact.sha256 for name, artefact in manifest.artefacts.items()}
    bound = _bound(export / PARITY_NAME, sha256, what="judged", again="export again")
    refusals = {
        name: str(told["refusal"]).rstrip(".")
        for name, told in _artefacts(export / PARITY_NAME).items()
        if told.get("refusal") is not None and told.get("sha256") == sha256.get(name)
    }
    return dataclasses.replace(bound, refusals=refusals)


def measured_rows(path: Path, sha256: Mapping[str, str]) -> Bound:
    """What `cliphand bench` wrote to `path` about model files as they are now, by name."""
    return _bound(path, sha256, what="measured", again="run `cliphand bench` again")


def model_files(export: Path, manifest: Manifest) -> dict[str, str]:
    """sha256 of every model file by its name: as the manifest says, and as the sidecars of plans do."""
    found = {name: artefact.sha256 for name, artefact in manifest.artefacts.items()}
    for path in export.glob("*.plan"):
        with suppress(InputError):
            found[path.name] = read_record(path).plan_sha256
    return found


def _bound(path: Path, sha256: Mapping[str, str], *, what: str, again: str) -> Bound:
    """The rows of a file that hold for model files as they are now.

    Raises:
        InputError: the file is not JSON.
    """
    rows = [(str(row.get("artefact")), row.get("sha256"), row) for row in _rows(path)]
    known = [(name, told, row) for name, told, row in rows if name in sha256]
    silent = list(dict.fromkeys(name for name, told, _ in known if told is None))
    other = list(dict.fromkeys(name for name, told, _ in known if told not in (None, sha256[name])))
    stale = []
    if silent:
        stale.append(f"{path.name} does not say which {' and '.join(silent)} it {what} (it holds no sha256): {again}")
    if other:
        stale.append(
            f"{' and '.join(other)} is not the one that {path.name} {what} (its sha256 differs), which proves nothing "
            f"of it: {again}"
        )
    return Bound(tuple(row for name, told, row in known if told == sha256[name]), tuple(stale))


def _artefacts(path: Path) -> dict[str, Mapping[str, object]]:
    """What `parity.json` says of how each graph was made, nothing where there is no such file."""
    told = read_json_object(path).get("artefacts") if path.exists() else None
    return {name: one for name, one in told.items() if isinstance(one, Mapping)} if isinstance(told, Mapping) else {}


def _rows(path: Path) -> list[Mapping[str, object]]:
    """The rows of a report, none where there is no such file."""
    rows = read_json_object(path).get("rows") if path.exists() else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
