"""A command's options as the fields of a class, so that the command's function holds its steps alone.

Options that several commands take are written here once.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_type_hints

import typer

Options = TypeVar("Options")

ExportFolder = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]",
        help="Export folder, as `cliphand export` writes it.",
        show_default="newest in ./exports, or the shipped",
    ),
]
Rejected = Annotated[
    bool, typer.Option("--rejected", help="Also run graphs that failed the gate in millimetres (NAME.rejected).")
]
Root = Literal["truth", "scale"]
SplitName = Literal["training", "evaluation"]
ROOT_HELP = (
    "What makes metres of the model's hand: truth (the labels' wrist depth and length of bone 0-9), or scale (the "
    "camera matrix and the published length of bone 9-10)."
)
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Also open .pt2 packages and version-compatible plans: they run native code of whoever wrote the folder.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="CPU threads that a call of the network may use.",
        show_default="each engine's own choice",
    ),
]


def takes(kind: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Give a command an option for each field of a dataclass, of which it gets one value.

    Args:
        kind: the dataclass; its fields are annotated as Typer's parameters are.
    """

    def with_options(command: Callable[[Options], None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(*values: object, **named: object) -> None:
            command(kind(*values, **named))

        run.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
        run.__annotations__ = get_type_hints(kind, include_extras=True)
        return run

    return with_options
