"""`cliphand synth`: make a synthetic data set in FreiHAND's layout."""

from pathlib import Path
from typing import Annotated

import typer

from cliphand.cli.progress import progress_bars


def synth(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; new, empty, or begun by the same command.")],
    train: Annotated[int, typer.Option("--train", help="Training images.")] = 10_000,
    evaluation: Annotated[int, typer.Option("--evaluation", help="Evaluation images.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Of all that is drawn: the same seed, the same files.")] = 0,
    backgrounds: Annotated[
        Path | None, typer.Option("--backgrounds", help="Folder of photographs to put behind most hands.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="varied; layers: put before new backgrounds while training; or plain: palms before one colour.",
        ),
    ] = "varied",
    workers: Annotated[int, typer.Option("--workers", help="Processes that render; 0: one per core.")] = 0,
) -> None:
    """Render hands with labels: a data set that needs no registration and no download.

    Killed and started again, it goes on where it stopped. On a finished set it makes lost and damaged files again, and
    with a larger --train adds images, which join the set once all are there.
    """
    import os

    from rich.console import Console

    from cliphand.data.synthetic.dataset import make_dataset
    from cliphand.data.synthetic.kinds import KINDS
    from cliphand.data.synthetic.plan import make_plan
    from cliphand.errors import InputError

    if workers < 0:
        raise InputError(f"--workers is {workers}; valid are 1 or more, or 0 for one per core.")
    plan = make_plan(out, training=train, evaluation=evaluation, seed=seed, backgrounds=backgrounds, kind=kind)
    unread = plan.backgrounds.left_out
    if unread:
        count = f"{len(unread)} of {len(unread) + len(plan.backgrounds.used)}"
        Console(stderr=True).print(
            f"{count} pictures in {backgrounds} cannot be read and are left out; the first is {unread[0]}.",
            highlight=False,
            soft_wrap=True,
        )
    with progress_bars(clock="remaining", rate="images") as advance:
        make_dataset(plan, workers=workers or len(os.sched_getaffinity(0)), progress=advance)
    Console().print(f"{train} training and {evaluation} evaluation images in {out}; look at {out / 'preview.png'}")
    Console().print(f"These hands are larger than FreiHAND's: train on them with {KINDS[kind].crop_options}.")
