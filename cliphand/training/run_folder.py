"""From which state a run goes on in its folder, and whether that state is its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from cliphand.checkpoint_place import RUN_FILE
from cliphand.config import require
from cliphand.data.identity import refuse_other_data
from cliphand.errors import InputError
from cliphand.files import read_json_object
from cliphand.training.recorder import STATE_KEY
from cliphand.training.run_place import RESUME_FILE, check_place, read_history
from cliphand.training.same_options import Facts, fingerprint, refuse_other_options
from cliphand.training.state import State, read_state


def state_to_resume(out: Path, facts: Facts, *, resume: bool) -> State | None:
    """The state from which a run with these facts goes on in `out`; None for the beginning.

    Raises:
        InputError: what stands there belongs to another run, or is damaged.
    """
    check_place(out, resume=resume)
    if not resume:
        return None
    before = read_json_object(out / RUN_FILE)
    refuse_other_options(before, facts, out=out)
    refuse_other_data(before.get("identity"), cast("Mapping[str, str]", facts["identity"]), run=out)
    path = out / RESUME_FILE
    if not path.exists():
        return None
    state = read_state(path)
    if _recorded(state).get("run") != fingerprint(before):
        raise InputError(f"{path} is of another run than {out / RUN_FILE}; put the right one back.")
    refuse_older(state, out)
    return state


def refuse_older(state: State, out: Path) -> None:
    """Refuse a state that is older than what the folder tells of.

    Raises:
        InputError: it is.
    """
    epochs, told = finished_epochs(state), len(read_history(out))
    if epochs < told:
        raise InputError(
            f"{out / RESUME_FILE} is of epoch {epochs}, but {out} tells of {told} epochs; put the newest one back."
        )


def epochs_left(state: State, epochs: int, out: Path) -> int:
    """How many of a run's epochs are still to do.

    Raises:
        InputError: it has done more than it is now asked for.
    """
    done = finished_epochs(state)
    require(done <= epochs, f"{out} has finished {done} epochs, and --epochs is {epochs}; give {done} or more.")
    return epochs - done


def finished_epochs(state: State) -> int:
    """How many epochs the run of a state has behind it."""
    return len(cast("list[object]", _recorded(state)["history"]))


def _recorded(state: State) -> Mapping[str, object]:
    callbacks = cast("Mapping[str, Mapping[str, object]]", state.get("callbacks", {}))
    return callbacks.get(STATE_KEY, {})
