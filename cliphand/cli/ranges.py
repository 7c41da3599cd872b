"""What the numbers of every command may be, checked before it does anything; those of `train` are its configs'."""

import functools
import inspect
from collections.abc import Callable, Mapping

from annotated_types import Interval

from cliphand.checked import SEED, require_within
from cliphand.limits import (
    ALL,
    ANY,
    BATCH,
    CALLS,
    PROCESSES,
    REPEATS,
    SECONDS,
    SHARE,
    SPELL,
    THREADS,
    TOLERANCE_MM,
)

PIXELS = Interval(ge=1, le=1_000_000)
PLACE = Interval(ge=-1_000_000, le=1_000_000)

# By command and parameter; a tuple has one for each of the numbers that the option takes.
RANGES: Mapping[str, Mapping[str, Interval | tuple[Interval, ...]]] = {
    "bench": {
        "batch": BATCH,
        "threads": THREADS,
        "images": ALL,
        "calls": CALLS,
        "seconds": SECONDS,
        "interval": SHARE,
        "cold_starts": REPEATS,
        "side_by_side": SPELL,
        "processes": PROCESSES,
        "energy": SPELL,
    },
    "build": {"level": Interval(ge=0, le=5), "workspace_mib": Interval(ge=1, le=10_000_000)},
    "export": {
        "calibration_images": ALL,
        "seed": SEED,
        "images": ALL,
        "tolerance_mm": TOLERANCE_MM,
        "search_s": SPELL,
        "threads": THREADS,
    },
    "import_released": {"crop_side": PIXELS, "crop_margin": Interval(ge=1, le=10)},
    "predict": {
        "box": (PLACE, PLACE, PIXELS),
        "focal": PIXELS,
        "bone_mm": Interval(gt=0, le=1000),
        "threads": THREADS,
    },
    "report": {"images": ALL, "threads": THREADS},
    "synth": {"train": ALL, "evaluation": ANY, "seed": SEED, "workers": PROCESSES},
}


def within_ranges(command: Callable[..., None]) -> Callable[..., None]:
    """The command, refusing numbers out of its ranges; one that has no ranges comes back as it is.

    The wrapper raises:
        InputError: a number is out of range; the option is named.
    """
    ranges = RANGES.get(command.__name__)
    if ranges is None:
        return command
    usual = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}

    @functools.wraps(command)
    def run(**options: object) -> None:
        for name, limits in ranges.items():
            if options[name] is not None and options[name] != usual[name]:
                _check(f"--{name.replace('_', '-')}", options[name], limits)
        command(**options)

    return run


def _check(option: str, value: object, limits: Interval | tuple[Interval, ...]) -> None:
    numbers = value if isinstance(value, list | tuple) else (value,)
    each = limits if isinstance(limits, tuple) else (limits,) * len(numbers)
    for number, limit in zip(numbers, each, strict=True):
        require_within(number, limit, name=option)
