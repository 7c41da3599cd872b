"""Options that do nothing beside what else is given or left out: a user who gives one expects that it works.

They are refused, or told where what they say holds whether or not they are given.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cliphand.errors import InputError

Values = Mapping[str, object]  # by parameter; those of `train` are what its configs hold in the end


@dataclass(frozen=True, slots=True)
class Idle:
    """Options that do nothing.

    Attributes:
        options: parameters.
        when: whether these values make them idle.
        why: and what to do, as the end of a sentence that begins with the option.
    """

    options: tuple[str, ...]
    when: Callable[[Values], object]
    why: str


def _without(*names: str) -> Callable[[Values], bool]:
    """Whether none of the options is given, or all are zero."""
    return lambda values: not any(values[name] for name in names)


LOWER = "is about graphs of lower precision; give --fp16 or --int8 as well"
IDLE: Mapping[str, tuple[Idle, ...]] = {
    "bench": (
        Idle(
            ("processes",),
            _without("side_by_side"),
            "counts processes that call side by side; give --side-by-side more than 0",
        ),
    ),
    "export": (
        Idle(
            (
                *("calibration", "calibration_images", "calibration_method", "seed", "gate_data", "gate_split"),
                *("images", "tolerance_mm", "keep_fp32", "drop_rule", "search_s", "auto", "threads"),
            ),
            _without("fp16", "int8"),
            LOWER,
        ),
        Idle(("calibration_method",), _without("int8"), "is about INT8's ranges; give --int8 as well"),
        Idle(("auto",), _without("search_s"), "keeps what a search finds; give --search-s more than 0"),
    ),
    "predict": (
        Idle(
            ("cache",), lambda values: values["no_cache"], "names a folder and --no-cache keeps none; give one of them"
        ),
    ),
    "train": (
        Idle(
            ("crop_side",),
            lambda values: values["crop"] != "centre",
            "is the side of the crop `centre`; give --crop centre as well",
        ),
        Idle(
            ("crop_margin",),
            lambda values: values["crop"] not in ("mask", "joints"),
            "is the margin of the crops `mask` and `joints`; give --crop mask or --crop joints as well",
        ),
        Idle(
            ("step_epochs", "step_factor"),
            lambda values: values["schedule"] != "step",
            "is of the schedule `step`; give --schedule step as well",
        ),
    ),
}
# Of `train`: what a run without that part would hold in its record all the same.
TOLD = (
    Idle(
        ("weight_vertices", "weight_normals", "weight_edges", "weight_consistency_3d", "weight_clip"),
        lambda values: values["stage"] == "joints",
        "does nothing in stage joints, which trains neither a mesh nor a text branch",
    ),
    Idle(
        ("text_tower", "prompt_joints"),
        lambda values: values["stage"] == "joints" or not values["weight_clip"],
        "does nothing in this run: without --stage mesh and a --weight-clip it has no text branch",
    ),
)


def refuse_idle(command: str, given: Values, values: Values) -> None:
    """Refuse options that do nothing.

    Args:
        command: the name of its function.
        given: the options that the user gave, by parameter.
        values: all that decides.

    Raises:
        InputError: there is one; it and what is to be given with it are named.
    """
    if idle := _idle(IDLE[command], given, values):
        raise InputError(idle[0])


def idle_lines(given: Values, values: Values) -> list[str]:
    """A line for each option of `train` that does nothing and may stand."""
    return _idle(TOLD, given, values)


def _idle(rules: tuple[Idle, ...], given: Values, values: Values) -> list[str]:
    return [
        f"--{option.replace('_', '-')} {rule.why}."
        for rule in rules
        if rule.when(values)
        for option in rule.options
        if given.get(option)  # a zero asks for nothing
    ]


def without_idle(command: Callable[..., None]) -> Callable[..., None]:
    """The command, refusing options that do nothing; `train`, which knows its configs only later, comes back as it is.

    The wrapper raises:
        InputError: see `refuse_idle`.
    """
    if command.__name__ not in IDLE or command.__name__ == "train":
        return command
    usual = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}

    @functools.wraps(command)
    def run(**options: object) -> None:
        given = {name: value for name, value in options.items() if value != usual[name]}
        refuse_idle(command.__name__, given, options)
        command(**options)

    return run
