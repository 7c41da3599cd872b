"""`cliphand train`: photographs in FreiHAND's layout to a run folder with checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.cli.train_help import DEFAULT_PRESET, defaults, takes_config_options

if TYPE_CHECKING:
    from cliphand.cli.train_options import Options


@takes_config_options
def train(
    data: Annotated[Path, typer.Option(help="Folder in FreiHAND's layout.")],
    out: Annotated[Path, typer.Option(help="Run folder to write; runs/NAME is found by `cliphand export`.")],
    config: Annotated[
        Path | None, defaults("Options from a file: a run's run.json, or one like it; those given here win.", "none")
    ] = None,
    hand: Annotated[Path | None, defaults("The hand's mesh, as `cliphand hand` writes it.", "DATA/hand.npz")] = None,
    preset: Annotated[str | None, defaults("Sizes of the network: light, paper or small.", DEFAULT_PRESET)] = None,
    start: Annotated[
        Path | None, defaults("Checkpoint or run whose weights it starts from, such as stage 1's.", "none")
    ] = None,
    teacher: Annotated[
        Path | None, defaults("Checkpoint or run that teaches; this run trains its student.", "none")
    ] = None,
    quantise_aware: Annotated[
        Path | None, defaults("Checkpoint or run to train further with INT8's rounding.", "none")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after OUT's last finished epoch.")] = False,
    **choices: object,
) -> None:
    """Train CLIP-Hand3D on photographs in FreiHAND's layout.

    Defaults are the paper's, but for fewer attention heads on the finer levels: --preset paper has its eight.

    With --teacher the run trains a student: it learns from the labels and from a trained model, whose crop it has,
    and whose sizes unless others are given. With --quantise-aware a checkpoint is trained further, in small steps and
    with its own options, with the rounding of its INT8 graph, which then loses less accuracy.
    """
    files = {"config": config, "hand": hand, "start": start, "teacher": teacher, "quantise_aware": quantise_aware}
    options = choices | files | {"preset": preset}
    _run({name: value for name, value in options.items() if value is not None}, data=data, out=out, resume=resume)


def _run(given: "Options", *, data: Path, out: Path, resume: bool) -> None:
    from rich.console import Console

    from cliphand.claims import check_folder
    from cliphand.cli.idle import idle_lines, refuse_idle
    from cliphand.cli.stopping import stoppable
    from cliphand.cli.train_options import check_inputs, check_options, plan_run
    from cliphand.files import remove_leftovers
    from cliphand.kinds import RUN
    from cliphand.training.run_place import check_place, read_history

    def advice() -> str:
        done = len(read_history(out))
        again = "go on with --resume" if done else "the same command starts again"
        return f"{done} epochs of {run.train.epochs} had finished; {again}."

    console = Console()
    check_options(given)
    check_folder(out, RUN)
    check_place(out, resume=resume)
    plan = plan_run(given)
    refuse_idle("train", given, plan.deciding())
    check_inputs(plan, given, data=data, out=out, resume=resume)
    remove_leftovers(out)
    for line in idle_lines(given, plan.deciding()):
        console.print(line, highlight=False, soft_wrap=True)

    from cliphand.cli.train_run import make_run

    run = make_run(plan, given, data=data, out=out)

    from cliphand.training.loop import train_hand

    with stoppable(advice):
        train_hand(run, resume=resume, tell=console.print)
    after = _next(data, out, stage=run.train.stage, quantised="quantise_aware" in given)
    console.print(f"Checkpoints: {out / 'last'} and {out / 'best'}; next: {after}", soft_wrap=True)


def _next(data: Path, out: Path, *, stage: str, quantised: bool) -> str:
    """The command that comes after the run."""
    from cliphand.checkpoint_place import RUN_FILE

    if stage == "joints":
        return (
            f"the mesh: cliphand train --config {out / RUN_FILE} --stage mesh --data {data} --start {out / 'best'} "
            "--out OTHER"
        )
    return f"cliphand export{' --int8' if quantised else ''} {out / 'best'}"
