"""`cliphand data`: look at data before anything is trained on it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from cliphand.data.check import Facts

app = typer.Typer(no_args_is_help=True, help="Look at data before anything is trained on it.")


@app.callback()
def data() -> None:
    """Look at data before anything is trained on it."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder in FreiHAND's layout.")],
) -> None:
    """Check every label, image and mask of a folder in FreiHAND's layout and print what it holds."""
    from cliphand.data.check import check_freihand
    from cliphand.data.freihand import SPLITS, label_path
    from cliphand.errors import InputError

    present = [split for split in SPLITS if (folder / split).exists() or label_path(folder, split, "K").exists()]
    if not present:
        raise InputError(
            f"{folder} holds neither a training nor an evaluation split; give a folder with training/rgb and "
            "training_K.json, or evaluation/rgb and evaluation_K.json."
        )
    facts: dict[str, Facts] = {}
    with progress_bars(clock="remaining") as advance:
        for split in present:
            facts[split] = check_freihand(folder, split, progress=partial(advance, split))
    _print_facts(folder, facts)


@app.command()
def allow(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder in FreiHAND's layout.")],
    checks: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECK...",
            help="extent, bone, scale, agreement (joints and mesh), chirality (left hands), projection, hand (npz).",
        ),
    ],
) -> None:
    """Let these checks of the labels fail in a folder whose labels are meant so: writes its plausibility.json.

    Every command that opens the folder heeds it. The checks of an earlier `allow` that are not named are made again.
    """
    from cliphand.data.plausible import write_allowed
    from cliphand.errors import InputError

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder in FreiHAND's layout.")
    typer.echo(f"{write_allowed(folder, tuple(checks))}: {', '.join(sorted(set(checks)))} may fail")


def _print_facts(folder: Path, facts: "dict[str, Facts]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *facts, title=f"{folder}: every label is sound and every image decodes")
    for row in zip(*(_rows(value) for value in facts.values()), strict=True):
        table.add_row(row[0][0], *(text for _, text in row))
    Console().print(table)
    typer.echo("That each image shows the hand of its label is not checked: mirrored or exchanged images pass.")


def _rows(facts: "Facts") -> list[tuple[str, str]]:
    """The name and the text of each fact."""
    sizes = ", ".join(f"{width} x {height} ({count})" for (width, height), count in facts.image_sizes)
    difference_mm, inside = facts.scale_difference_mm, facts.joints_inside_share
    return [
        ("images", f"{facts.images}"),
        ("labels", f"{facts.labels}"),
        ("versions", f"{facts.versions}"),
        ("label fields", ", ".join(facts.fields)),
        ("masks", f"{facts.masks}"),
        ("masks without a hand", f"{facts.empty_masks}"),
        ("images of one flat colour, which teach nothing", f"{facts.flat_images}"),
        ("image sizes, px (count)", sizes),
        ("scale against bone 9-10, largest difference, mm", "-" if difference_mm is None else f"{difference_mm:.3f}"),
        ("projected joints inside the image, %", "-" if inside is None else f"{100 * inside:.2f}"),
        ("checks allowed to fail", ", ".join(facts.allowed) or "none"),
    ]
