"""`cliphand`: one command for each job. `cliphand COMMAND --help` tells its options."""

import sys
from typing import Annotated, cast

import typer

from cliphand import __version__
from cliphand.cli.bench import bench
from cliphand.cli.build import build
from cliphand.cli.data import app as data_app
from cliphand.cli.doctor import doctor
from cliphand.cli.export import export
from cliphand.cli.hand import hand
from cliphand.cli.idle import without_idle
from cliphand.cli.import_released import import_released
from cliphand.cli.inspect import inspect
from cliphand.cli.licences import licences
from cliphand.cli.predict import predict
from cliphand.cli.quickstart import quickstart
from cliphand.cli.ranges import within_ranges
from cliphand.cli.report import report
from cliphand.cli.score import score
from cliphand.cli.stopping import ADVICE, STARTS_AGAIN, stoppable
from cliphand.cli.synth import synth
from cliphand.cli.train import train
from cliphand.errors import InputError
from cliphand.extras import with_extras
from cliphand.told import told_in_one_sentence

app = typer.Typer(
    help="Train CLIP-Hand3D, export it, and prove in millimetres that the engine still does what PyTorch did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
USAGE_ERROR = cast("type[Exception]", typer.BadParameter.__base__)  # of Typer's own parser, or Click's in older ones
COMMANDS = (
    quickstart,
    train,
    export,
    bench,
    report,
    predict,
    inspect,
    build,
    doctor,
    licences,
    score,
    hand,
    synth,
    import_released,
)
for command in COMMANDS:
    app.command()(within_ranges(without_idle(with_extras(command))))
app.add_typer(data_app, name="data")


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"cliphand {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold options for every command; without a docstring of its own this text is not shown."""


def main() -> None:
    """Run the command line: what a user can mend is one sentence on stderr, with the exit codes of `cliphand.told`."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]

    def advice() -> str:
        return ADVICE.get(next(iter(arguments), ""), STARTS_AGAIN)

    with told_in_one_sentence("cliphand", debug="--debug" in sys.argv), stoppable(advice):
        _refuse_empty(arguments)
        try:
            code = app(args=arguments, prog_name="cliphand", standalone_mode=False)
        except USAGE_ERROR as error:
            code = _refused(error)
    sys.exit(code or 0)


def _refused(error: Exception) -> int:
    """The exit code of a command that was named without options and so showed its help.

    Raises:
        InputError: anything else that the parser of the command line refused.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # as Typer knows it: its place differs between versions
        return 2
    said = " ".join(cast("typer.BadParameter", error).format_message().split()).rstrip(".")
    needed = getattr(getattr(error, "param", None), "help", None)  # not every refusal is about a parameter
    if needed and type(error).__name__ == "MissingParameter":
        said += f" ({needed[:1].lower()}{needed[1:].rstrip('.')})"
    context = cast("typer.BadParameter", error).ctx
    command = "cliphand" if context is None else context.command_path
    raise InputError(f"{said[:1].lower()}{said[1:]}; `{command} --help` tells what is valid.")


def _refuse_empty(arguments: list[str]) -> None:
    """An empty path would mean the current folder."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            option = argument or before
            raise InputError(f"an argument is empty ({option!r}); leave it out, or give it a value.")
