"""A run folder from outside: its files' names, whether a run may begin or go on there, and what it tells of itself."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cliphand.checkpoint_place import BEST, LAST, RUN_FILE
from cliphand.claims import held
from cliphand.errors import InputError
from cliphand.files import read_json_object

RESUME_FILE = "resume.ckpt"
METRICS_FILE = "metrics.json"
FINISHED = (RESUME_FILE, METRICS_FILE, LAST, BEST)  # what there is once an epoch has finished
LOCK_S = 5.0  # the processes of a run that was killed end within this time


def check_place(out: Path, *, resume: bool) -> None:
    """Refuse a folder in which a run can neither begin nor go on.

    Raises:
        InputError: it holds something else, or a run that would be lost, or nothing to resume.
    """
    begun, finished = (out / RUN_FILE).exists(), [name for name in FINISHED if (out / name).exists()]
    if not begun:
        if resume:
            raise InputError(f"{out} holds no run to resume; check --out, or leave --resume out.")
        if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
            raise InputError(f"{out} exists and is no run folder; choose an --out that is absent or empty.")
    elif not finished:
        return
    elif not resume:
        raise InputError(f"{out} already holds a run; choose another --out, or go on with --resume.")
    elif RESUME_FILE not in finished:
        raise InputError(
            f"{out} holds no {RESUME_FILE}, only {' and '.join(finished)}; put it back, or choose another --out."
        )


@contextmanager
def writing(out: Path, *, resume: bool) -> Iterator[None]:
    """Make the folder, and keep other processes from training in it until the block ends.

    Raises:
        InputError: another process is training there, or has been since it was looked at.
        OSError: it cannot be written.
    """
    with held(out, wait_s=LOCK_S):
        check_place(out, resume=resume)
        out.mkdir(exist_ok=True)
        yield


def read_history(out: Path) -> list[Mapping[str, float]]:
    """The epochs of a run so far, oldest first; empty where none has finished."""
    path = out / METRICS_FILE
    epochs = read_json_object(path).get("epochs") if path.exists() else []
    return epochs if isinstance(epochs, list) else []
