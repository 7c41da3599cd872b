"""Whether a run goes on with the options that it was started with; all that is asked is in its `run.json`."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from cliphand.checkpoint_place import RUN_FILE
from cliphand.errors import InputError
from cliphand.files import SHORT_HASH
from cliphand.training.option_names import FLAGS

SHOWN = 4  # options that a sentence tells
LEARNT_FROM = ("recipe.teacher", "recipe.quantise_aware")
CONFIGS = ("model", "crop", "train", "recipe")

Facts = Mapping[str, object]  # as `run.json` holds them


def refuse_other_options(before: Facts, now: Facts, *, out: Path) -> None:
    """Refuse to go on with a run with other options.

    Args:
        before: what the run recorded when it began.
        now: the same of the command that is to go on.
        out: the run folder, named in errors.

    Raises:
        InputError: an option differs; what the run has and what was given are told.
    """
    free = free_options(now)
    was, given = _flat(_configs(before, free)), _flat(_configs(now, free))
    odd = [place for place in {**was, **given} if was.get(place) != given.get(place)]
    odd.sort(key=lambda place: place not in LEARNT_FROM)  # which the others may follow from
    theirs = [_words(place, was.get(place)) for place in odd]
    ours = [_words(place, given.get(place)) for place in odd]
    # A quantise-aware run starts from the checkpoint that it quantises, which is told then.
    if before.get("start_sha256") != now.get("start_sha256") and "recipe.quantise_aware" not in odd:
        theirs, ours = [_start(before), *theirs], [_start(now), *ours]
    if theirs:
        raise InputError(
            f"{out} was started with {_first(theirs)}, and is now to go on with {_first(ours)}; resume with what it "
            f"was started with, all of which --config {out / RUN_FILE} gives (only "
            f"{' and '.join(f'--{name}' for name in free)} may differ)."
        )


def fingerprint(facts: Facts) -> str:
    """A hash of all that the states of one run have in common."""
    chosen = _configs(facts, free_options(facts)) | {name: facts.get(name) for name in ("identity", "start_sha256")}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def free_options(facts: Facts) -> tuple[str, ...]:
    """Options that may differ when a run goes on."""
    train = cast("Mapping[str, object]", facts.get("train") or {})
    # A cosine falls over all epochs: with more of them every step so far would have been another.
    return ("workers",) if train.get("schedule") == "cosine" else ("epochs", "workers")


def _configs(facts: Facts, free: tuple[str, ...]) -> dict[str, object]:
    """The configs without what may change, as JSON gives them back."""
    train = {name: value for name, value in cast("Facts", facts.get("train") or {}).items() if name not in free}
    chosen = {name: facts.get(name) for name in CONFIGS} | {"train": train}
    return cast("dict[str, object]", json.loads(json.dumps(chosen)))


def _flat(value: object, place: str = "") -> dict[str, object]:
    """Every plain value by its place, `train.loss.clip`."""
    if not isinstance(value, dict):
        return {place: value}
    below = [_flat(inner, f"{place}.{name}".removeprefix(".")) for name, inner in value.items()]
    return {name: inner for flat in below for name, inner in flat.items()}


def _first(words: list[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return f"{', '.join(words[:SHOWN])}{more}"


def _words(place: str, value: object) -> str:
    """An option as it is typed; a field that has none by its place."""
    name = FLAGS.get(place, place)
    if value is None:
        return f"no {name}"
    if isinstance(value, bool):
        return name if value else name.replace("--", "--no-")
    if place in LEARNT_FROM:
        return f"{name} of the weights {str(value)[:SHORT_HASH]}..."
    return f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"


def _start(facts: Facts) -> str:
    if facts.get("start") is None:
        return "no --start"
    return f"--start {facts['start']} of the weights {str(facts.get('start_sha256'))[:SHORT_HASH]}..."
