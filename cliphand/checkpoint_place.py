"""Where a checkpoint is: its files' names and what a path given for one means. Nothing is opened."""

from pathlib import Path

from cliphand.errors import InputError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
RUN_FILE = "run.json"  # of a run folder
LAST, BEST = "last", "best"
OF_A_RUN = (BEST, LAST)  # a run's checkpoints, the one that it stands for first


def checkpoint_folder(path: Path) -> Path:
    """The checkpoint folder that a path means: a run folder's best/ (its last/ where none is best), or its own."""
    folder = path.parent if path.name == WEIGHTS else path
    if (folder / CONFIG).is_file():
        return folder
    return next((folder / name for name in OF_A_RUN if (folder / name / CONFIG).is_file()), folder)


def newest_checkpoint(runs: Path) -> Path:
    """The best checkpoint of the run under `runs` that was written last (its last one, where none is best yet).

    Raises:
        InputError: there is none.
    """
    found = [path.parent for name in OF_A_RUN for path in runs.glob(f"*/{name}/{CONFIG}")]
    if not found:
        raise InputError(f"there is no run under {runs}; run `cliphand train`, or name a checkpoint folder.")
    return checkpoint_folder(max(found, key=lambda folder: (folder / CONFIG).stat().st_mtime_ns).parent)
