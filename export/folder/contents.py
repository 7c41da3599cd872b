"""What of a folder is an export: the files that its manifest lists, to the byte, and what later commands added."""

from collections.abc import Callable
from pathlib import Path

from cliphand.claims import OWN, FileKind, FolderKind, has_keys, is_marked
from cliphand.files import read_json_object, sha256_of
from cliphand.hand import HAND_NAME
from cliphand.kinds import BENCH, EXPORTED_HAND, HAND, INSPECT, PARITY, REPORT, REPORT_FIGURES
from engines.artefact.manifest import MANIFEST_NAME
from engines.choice.verdicts import BENCH_NAME, PARITY_NAME
from engines.open import REJECTED

REPORT_NAME = "report.html"
FIGURES_NAME = "report_figures"
PLAN_END, SIDECAR, LAYERS = ".plan", ".plan.json", ".plan.layers.json"
MANIFEST_KEYS = ("format_version", "joint_order", "artefacts", "checkpoint", "cliphand_version")


def is_built_plan(plan: Path) -> bool:
    """Whether a plan is the one that the sidecar beside it describes."""
    sidecar = plan.with_name(plan.name + ".json")
    return _is_sidecar(sidecar) and read_json_object(sidecar)["plan_sha256"] == sha256_of(plan)


def _is_sidecar(path: Path) -> bool:
    return has_keys(path, ("key", "onnx", "plan_sha256", "findings"))


def _is_layers(path: Path) -> bool:
    plan = path.with_name(path.name.removesuffix(LAYERS) + PLAN_END)
    return any(_is_sidecar(plan.with_name(f"{plan.name}{end}.json")) for end in ("", REJECTED))


def _is_hand(path: Path) -> bool:
    """Exports of before the mark are recognised too; what `cliphand hand` wrote was put there by hand."""
    return is_marked(path, EXPORTED_HAND.writer) or not is_marked(path, HAND.writer)


def _are_figures(path: Path) -> bool:
    return path.is_dir() and not REPORT_FIGURES.foreign(path)


PLAN = FileKind("cliphand build", is_built_plan)
PLAN_SIDECAR = FileKind("cliphand build", _is_sidecar)
ADDED: dict[str, Callable[[Path], bool]] = {
    HAND_NAME: _is_hand,
    BENCH_NAME: BENCH.is_own,
    PARITY_NAME: PARITY.is_own,
    REPORT_NAME: REPORT.is_own,
    FIGURES_NAME: _are_figures,
}
BUILT: dict[str, Callable[[Path], bool]] = {
    LAYERS: _is_layers,
    SIDECAR: _is_sidecar,
    f"{PLAN_END}{REJECTED}.json": _is_sidecar,
    PLAN_END: is_built_plan,
    f"{PLAN_END}{REJECTED}": is_built_plan,
}


def foreign(folder: Path) -> list[str]:
    """Names in a folder that no command of this project put there; all where it is no export."""
    names = [path.name for path in folder.iterdir()]
    if not has_keys(folder / MANIFEST_NAME, MANIFEST_KEYS):
        return names
    listed = read_json_object(folder / MANIFEST_NAME)["artefacts"]
    artefacts = listed if isinstance(listed, dict) else {}
    return [name for name in names if name != MANIFEST_NAME and not _is_own(folder / name, artefacts.get(name))]


def _is_own(path: Path, listed: object) -> bool:
    if path.name.startswith(OWN):
        return True  # of a process that died, or of this one
    if path.is_symlink():
        return False
    if isinstance(listed, dict):
        return path.is_file() and listed.get("sha256") == sha256_of(path)
    if path.name in ADDED:
        return ADDED[path.name](path)
    ending = next((ending for ending in BUILT if path.name.endswith(ending)), None)
    return (ending is not None and BUILT[ending](path)) or (path.suffix == ".json" and INSPECT.is_own(path))


EXPORT = FolderKind("cliphand export", foreign)
