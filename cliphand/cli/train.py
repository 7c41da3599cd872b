"""`cliphand train`: photographs in FreiHAND's layout to a run folder with checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from cliphand.cli.train_help import defaults, takes_config_options
from cliphand.cli.train_options import DEFAULT_PRESET, check_inputs, check_options, plan_run


@takes_config_options
def train(
    data: Annotated[Path, typer.Option(help="Folder in FreiHAND's layout.")],
    out: Annotated[Path, typer.Option(help="Run folder to write; runs/NAME is found by `cliphand export`.")],
    config: Annotated[
        Path | None, defaults("run.json of another run, or a file with its sections; options given win.", "none")
    ] = None,
    hand: Annotated[Path | None, defaults("Topology, from `cliphand hand`.", "DATA/hand.npz")] = None,
    preset: Annotated[str | None, defaults("Sizes of the network: light, paper or small.", DEFAULT_PRESET)] = None,
    start: Annotated[Path | None, defaults("Checkpoint or run to start from, such as stage 1's.", "none")] = None,
    teacher: Annotated[Path | None, defaults("Checkpoint or run whose student this run trains.", "none")] = None,
    quantise_aware: Annotated[Path | None, defaults("Checkpoint or run to fine-tune as INT8 graph.", "none")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after OUT's last finished epoch.")] = False,
    **choices: object,
) -> None:
    """Train CLIP-Hand3D on photographs in FreiHAND's layout.

    Defaults are the paper's, but for fewer attention heads on the finer levels: --preset paper has its eight.

    With --teacher a student of any backbone learns from a trained model as well; it has the teacher's sizes and crop.
    With --quantise-aware a checkpoint is fine-tuned as its INT8 graph, from its own options in small steps.
    """
    files = {"config": config, "hand": hand, "start": start, "teacher": teacher, "quantise_aware": quantise_aware}
    options = choices | files | {"preset": preset}
    given = {name: value for name, value in options.items() if value is not None}

    from rich.console import Console

    from cliphand.claims import check_folder
    from cliphand.cli.stopping import stoppable
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
    check_inputs(plan_run(given), given, data=data, out=out, resume=resume)
    remove_leftovers(out)

    from cliphand.cli.train_run import make_run

    run = make_run(given, data=data, out=out)

    from cliphand.training.loop import train_hand

    with stoppable(advice):
        train_hand(run, resume=resume, tell=console.print)
    export = "cliphand export" if quantise_aware is None else "cliphand export --int8"
    console.print(f"Checkpoints: {out / 'last'} and {out / 'best'}; next: {export} {out / 'best'}")
