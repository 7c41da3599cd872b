"""From which state a run goes on in its folder, and whether that state is its own."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from cliphand.data.identity import refuse_other_data
from cliphand.errors import InputError
from cliphand.files import read_json_object
from cliphand.training.recorder import STATE_KEY
from cliphand.training.run_place import RESUME_FILE, RUN_FILE, check_place, read_history
from cliphand.training.state import State, read_state

CONFIGS = ("model", "crop", "train", "recipe")

Facts = Mapping[str, object]


def state_to_resume(out: Path, facts: Facts, *, resume: bool) -> State | None:
    """The state from which a run with these facts goes on in `out`; None for the beginning.

    Raises:
        InputError: what stands there belongs to another run, or is damaged.
    """
    check_place(out, resume=resume)
    if not resume:
        return None
    before = read_json_object(out / RUN_FILE)
    _check_same(before, facts, out)
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


def finished_epochs(state: State) -> int:
    """How many epochs the run of a state has behind it."""
    return len(cast("list[object]", _recorded(state)["history"]))


def _recorded(state: State) -> Mapping[str, object]:
    callbacks = cast("Mapping[str, Mapping[str, object]]", state.get("callbacks", {}))
    return callbacks.get(STATE_KEY, {})


def fingerprint(facts: Facts) -> str:
    """A hash of all that the states of one run have in common."""
    return hashlib.sha256(json.dumps(_comparable(facts), sort_keys=True).encode()).hexdigest()


def _comparable(facts: Facts) -> dict[str, object]:
    """The configs without what may change, and the identity, as JSON gives them back."""
    chosen = {name: facts.get(name) for name in (*CONFIGS, "identity", "start_sha256")}
    train = dict(cast("Mapping[str, object]", chosen["train"] or {}))
    for name in free_options(facts):
        train.pop(name, None)
    return cast("dict[str, object]", json.loads(json.dumps(chosen | {"train": train})))


def free_options(facts: Facts) -> tuple[str, ...]:
    """Options that may differ when a run goes on."""
    train = cast("Mapping[str, object]", facts.get("train") or {})
    # A cosine falls over all epochs: with more of them every step so far would have been another.
    return ("workers",) if train.get("schedule") == "cosine" else ("epochs", "workers")


def _check_same(before: Facts, now: Facts, out: Path) -> None:
    ours, theirs = _comparable(now), _comparable(before)
    for section in CONFIGS:
        if ours[section] != theirs[section]:
            free = " and ".join(f"--{name}" for name in free_options(now))
            raise InputError(
                f"{out} was started with another {section} config; resume with the same options (only {free} may "
                "differ)."
            )
    refuse_other_data(before.get("identity"), cast("Mapping[str, str]", now["identity"]), run=out)
    if ours["start_sha256"] != theirs["start_sha256"]:
        raise InputError(f"{out} was started from other weights; resume with the --start that it had.")
