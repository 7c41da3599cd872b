"""Frozen values whose fields carry their types and ranges, and their one JSON form; pydantic does the checking.

pydantic is imported with the first value of which a field is given: help and defaults do without it.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypeVar, cast, dataclass_transform, get_type_hints

from annotated_types import Interval

from cliphand.errors import InputError

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

Kind = TypeVar("Kind")

Share = Annotated[float, Interval(ge=0, le=1)]
Weight = Annotated[float, Interval(ge=0, le=1e6)]
Count = Annotated[int, Interval(ge=1, le=100_000)]
SEED = Interval(ge=0, le=2**32 - 1)  # what NumPy, PyTorch and Lightning all take
Seed = Annotated[int, SEED]

# Infinity and NaN are refused for every float, and so is a number for a string or a truth value for a number.
RULES: "ConfigDict" = {"strict": True, "extra": "forbid", "allow_inf_nan": False, "arbitrary_types_allowed": True}
# The library's words for a rule, and ours.
WORDS = {
    r"^\w+ should": "it must",
    " after validation, not.*": "",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "a valid array": "a list",
    "an object": "a JSON object",
}
LONGEST = 80  # characters of a refused value that an error shows


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def checked(kind: type[Kind]) -> type[Kind]:
    """Make a class a frozen dataclass whose values are checked against its annotations as one is made.

    A value of the wrong type or out of range raises InputError. Defaults are not checked; what concerns several fields
    belongs into `__post_init__`.
    """
    made = dataclasses.dataclass(frozen=True, slots=True)(kind)
    plain = made.__init__
    places = [field.name for field in dataclasses.fields(made) if not field.kw_only]  # type: ignore[arg-type]

    @functools.wraps(plain)
    def init(self: object, *values: object, **named: object) -> None:
        if len(values) > len(places) or not (values or named):
            plain(self, *values)
            return
        by_name = dict(zip(places, values, strict=False)) | named  # so that errors name the field
        from pydantic import ValidationError
        from pydantic_core import ArgsKwargs

        try:
            checker = _adapter(type(self)).validator  # type: ignore[arg-type]  # typeshed has no type as hashable
            checker.validate_python(ArgsKwargs((), by_name), self_instance=self)
        except ValidationError as error:
            raise InputError(_sentence(error, type(self).__name__, {})) from None

    made.__init__ = init  # type: ignore[method-assign]
    made.__pydantic_config__ = RULES  # type: ignore[attr-defined]
    return made


def to_json(value: object) -> dict[str, object]:
    """The JSON form of a checked value: a dict of plain values."""
    return dataclasses.asdict(value)  # type: ignore[call-overload,no-any-return]


def from_json(kind: type[Kind], value: object, *, source: str, called: Mapping[str, str] | None = None) -> Kind:
    """Rebuild a value of class `kind` from its JSON form.

    Args:
        kind: a class that `checked` made.
        value: as `json.loads` gives it.
        source: where it comes from, told with every error; empty for none.
        called: what the user calls a field, where it is not its name.

    Raises:
        InputError: an unknown or missing key, a value of the wrong type or out of range; `source` is named.
    """
    from pydantic import ValidationError

    where = f"{source}: " if source else ""
    if not isinstance(value, Mapping):
        raise InputError(f"{source or kind.__name__} is {shown(value)}; it must be a JSON object.")
    try:
        # As text, because pydantic is strict about lists and tuples in Python but knows that JSON has only lists.
        return cast("Kind", _adapter(kind).validate_json(json.dumps(value)))  # type: ignore[arg-type]
    except ValidationError as error:
        said = _sentence(error, kind.__name__, called or {}, null="null")
        raise InputError(f"{where}{said}") from None
    except InputError as error:
        raise InputError(f"{where}{error}") from None


def check_fields(kind: type[object], values: Mapping[str, object], *, called: Mapping[str, str]) -> None:
    """Check values of single fields, where the others are not known yet.

    Args:
        kind: a class that `checked` made.
        values: in their JSON form, by field.
        called: what the user calls each field.

    Raises:
        InputError: a value is of the wrong type or out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(kind, include_extras=True)
    for field, value in values.items():
        try:
            TypeAdapter(hints[field], config=RULES).validate_json(json.dumps(value))
        except ValidationError as error:
            raise InputError(_sentence(error, called[field], {"": called[field]})) from None


def require_within(number: object, limits: Interval, *, name: str, kind: type | None = None) -> None:
    """Refuse a number that is not finite, not within its limits, or not of the kind where one is given.

    Raises:
        InputError: it is; `name` is told.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        # The type is known only here, which a type checker does not take.
        TypeAdapter(Annotated[kind or type(number), limits], config=RULES).validate_python(number)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InputError(_sentence(error, name, {})) from None


@functools.cache
def _adapter(kind: type[object]) -> "TypeAdapter[object]":
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def shown(value: object) -> str:
    """A value of a JSON file, for a sentence."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _sentence(error: "ValidationError", whole: str, called: Mapping[str, str], *, null: str = "None") -> str:
    """The first thing that is wrong: the field, what was given (`null` for nothing), what is valid."""
    first = error.errors(include_url=False, include_context=False)[0]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).removeprefix(".")
    name = called.get(path.partition("[")[0], path) or whole
    match first["type"]:
        case "unexpected_keyword_argument":
            return f"{name} is unknown; remove it, or write the file again with this version."
        case "missing" | "missing_argument":
            return f"{name} is missing."
        case _:
            given, rule = null if first["input"] is None else repr(first["input"]), first["msg"]
            for theirs, ours in WORDS.items():
                rule = re.sub(theirs, ours, rule)
            return f"{name} is {given if len(given) <= LONGEST else given[:LONGEST] + '...'}; {rule}."
