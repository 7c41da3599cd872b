"""What each command writes and how it knows its own earlier output; see `cliphand.claims`."""

from functools import partial
from pathlib import Path

from cliphand.checkpoint_place import CONFIG, WEIGHTS
from cliphand.claims import OWN, FileKind, FolderKind, has_keys, is_marked, json_kind, marked_kind
from cliphand.files import read_json_object, sha256_of

BENCH = json_kind("cliphand bench", ("machine", "export", "protocol", "root", "speed", "rows"))
DOCTOR = json_kind("cliphand doctor", ("facts", "engines", "can_run", "can_train"))
LICENCES = json_kind("cliphand licences", ("distributions", "not_installed", "counts", "compatible"))
INSPECT = json_kind("cliphand inspect", ("export", "graphs", "agreement", "parity"))
PARITY = json_kind("cliphand export", ("reference", "rows", "gate", "calibration", "precision_table"))
SCORE = json_kind(
    "cliphand score",
    ("predictions", "data", "alignment", "joints", "mesh"),
    ("xyz_mean3d", "xyz_auc3d", "xyz_al_mean3d", "xyz_al_auc3d"),
)
LABEL_SHEET = marked_kind("cliphand data check")
PREDICTED_HAND = json_kind("cliphand predict", ("image", "engine", "joint_order", "joints_uvd", "verts_uvd", "unit"))
PREDICTED_PICTURE = marked_kind("cliphand predict")
HAND = marked_kind("cliphand hand")
EXPORTED_HAND = marked_kind("cliphand export")
REPORT = marked_kind("cliphand report")
QUICKSTART_PICTURE = marked_kind("cliphand quickstart")
ERROR_QUANTILES = marked_kind("benchmarks.studies.error_quantiles")
SUMMARY = json_kind("cliphand quickstart", ("pa_pjpe_mm", "mean_pose_pa_pjpe_mm", "minutes"))
NAIVE_STUDY = json_kind("benchmarks.studies.naive_study", ("study", "machine", "checkpoint", "model", "rows"))
VARIANTS = json_kind("benchmarks.studies.variants", ("study", "baseline", "mean_pose_pa_pjpe_mm", "rows"))
GPU_CHECK = json_kind("benchmarks.gpu.check", ("machine", "gpu", "gflop", "findings", "rows"))


def _foreign_figures(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not is_marked(path, REPORT.writer)]


def _not_of_quickstart(folder: Path) -> list[str]:
    if has_keys(folder / "data" / "synthetic.json", ("generator", "seed", "kind", "complete")):
        return []  # beside its data it looks at each file that it writes
    return _names(folder, "data")


def _not_of_a_run(folder: Path) -> list[str]:
    if has_keys(folder / "run.json", ("model", "crop", "train")):
        return []
    return _names(folder, "csv", "tensorboard")  # which a run begins with


def _not_of_a_checkpoint(folder: Path, *, trained: bool) -> list[str]:
    """All where it is none, or one that was imported and not trained, or the other way."""
    names = [path.name for path in folder.iterdir()]
    if not has_keys(folder / CONFIG, ("format", "model", "crop", "train", "facts")):
        return names
    if (read_json_object(folder / CONFIG)["train"] is not None) != trained:
        return names
    return [name for name in names if name not in (WEIGHTS, CONFIG)]


def _not_of_variants(folder: Path) -> list[str]:
    """Each variant has a folder, with its run or with a note on its graphs."""
    return [name for name in _names(folder) if not _is_of_variants(folder / name)]


def _is_of_variants(path: Path) -> bool:
    run, graphs = has_keys(path / "run" / "run.json", ("model",)), has_keys(path / "graphs.json", ("weights",))
    return run or graphs or VARIANTS.is_own(path)


def _not_of_gpu_check(folder: Path) -> list[str]:
    """A check begins with an export, or with a copy of one."""
    begun = has_keys(folder / "export" / "manifest.json", ("artefacts", "checkpoint"))
    return _names(folder, "export", "gpu_check.json") if begun else _names(folder)


def _names(folder: Path, *known: str) -> list[str]:
    """Names in a folder but for the known ones and what processes leave."""
    return [path.name for path in folder.iterdir() if path.name not in known and not path.name.startswith(OWN)]


QUICKSTART = FolderKind("cliphand quickstart", _not_of_quickstart, replaced=False)
RUN = FolderKind("cliphand train", _not_of_a_run, replaced=False)
TRAINED = FolderKind(RUN.writer, partial(_not_of_a_checkpoint, trained=True))
IMPORTED = FolderKind("cliphand import-released", partial(_not_of_a_checkpoint, trained=False))
VARIANTS_FOLDER = FolderKind(VARIANTS.writer, _not_of_variants, replaced=False)
GPU_CHECK_FOLDER = FolderKind(GPU_CHECK.writer, _not_of_gpu_check, replaced=False)
REPORT_FIGURES = FolderKind(REPORT.writer, _foreign_figures)


def predictions_kind(report: Path) -> FileKind:
    """Predictions that a report of `cliphand bench` says it wrote: FreiHAND's format has no room for a mark."""

    def is_recorded(path: Path) -> bool:
        if not has_keys(report, ("export",)):
            return False
        export = read_json_object(report)["export"]
        recorded = export.get("predictions") if isinstance(export, dict) else None
        return isinstance(recorded, dict) and recorded.get("sha256") == sha256_of(path)

    return FileKind(BENCH.writer, is_recorded)
