"""`cliphand data`: look at data before anything is trained on it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from cliphand.data.check import Facts
    from cliphand.data.freihand import FreiHand

app = typer.Typer(no_args_is_help=True, help="Look at data before anything is trained on it.")


@app.callback()
def data() -> None:
    """Look at data before anything is trained on it."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder in FreiHAND's layout.")],
    picture: Annotated[
        Path | None, typer.Option(help="PNG to write: skeletons over some images of each split.", metavar="FILE.png")
    ] = None,
) -> None:
    """Check every label, image, mask and layer of a folder in FreiHAND's layout and print what it holds."""
    from cliphand.claims import check_file
    from cliphand.data.freihand import SPLITS, label_path, open_freihand
    from cliphand.data.synthetic.record import refuse_unfinished
    from cliphand.errors import InputError
    from cliphand.files import require_folder
    from cliphand.kinds import LABEL_SHEET

    if picture is not None:
        if picture.suffix.lower() != ".png":
            raise InputError(f"{picture} is written as PNG; name a file that ends in .png.")
        check_file(picture, LABEL_SHEET)
    require_folder(folder, advice="give a folder in FreiHAND's layout")
    refuse_unfinished(folder)
    present = [split for split in SPLITS if (folder / split).exists() or label_path(folder, split, "K").exists()]
    if not present:
        raise InputError(
            f"{folder} holds neither a training nor an evaluation split; give a folder with training/rgb and "
            "training_K.json, or evaluation/rgb and evaluation_K.json."
        )
    if picture is not None and not any(label_path(folder, split, "xyz").exists() for split in present):
        raise InputError(f"{folder} has no joints to draw ({present[0]}_xyz.json); leave --picture out.")

    from cliphand.data.check import check_freihand

    facts: dict[str, Facts] = {}
    with progress_bars(clock="remaining") as advance:
        splits = {split: open_freihand(folder, split) for split in present}
        for split, data in splits.items():
            facts[split] = check_freihand(data, progress=partial(advance, split))
    _print_facts(folder, facts)
    hint = "" if picture else " (see --picture)"
    typer.echo(
        "Looked at: the numbers of the labels, and every image, mask and layer, decoded. Not looked at: whether an "
        f"image shows the hand of its label; mirrored or exchanged images pass{hint}."
    )
    if picture is not None:
        _draw(picture, list(splits.values()))


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
    from cliphand.files import require_folder

    require_folder(folder, advice="give a folder in FreiHAND's layout")
    typer.echo(f"{write_allowed(folder, tuple(checks))}: {', '.join(sorted(set(checks)))} may fail")


def _draw(picture: Path, splits: "list[FreiHand]") -> None:
    """Write the sheet of skeletons and say which images it shows."""
    from cliphand.data.label_sheet import label_sheet, spread
    from cliphand.kinds import LABEL_SHEET
    from cliphand.pictures import write_png

    write_png(picture, label_sheet(splits), LABEL_SHEET)
    for data in splits:
        if data.xyz is None:
            typer.echo(f"{picture}: nothing of {data.split}, which has no joints.")
        else:
            shown = spread(len(data))
            numbers = ", ".join(map(str, shown))
            typer.echo(f"{picture}: skeletons over {len(shown)} of {len(data)} {data.split} images: {numbers}.")


def _print_facts(folder: Path, facts: "dict[str, Facts]") -> None:
    from rich.console import Console
    from rich.table import Table

    flat, images = (sum(getattr(value, name) for value in facts.values()) for name in ("flat_images", "images"))
    verdict = "no fault found in what was checked"
    if flat:
        verdict += f", but {flat} of {images} images are of one flat colour and show no hand"
    table = Table("", *facts, title=f"{folder}: {verdict}")
    for row in zip(*(_rows(value) for value in facts.values()), strict=True):
        table.add_row(row[0][0], *(text for _, text in row))
    Console().print(table)


def _rows(facts: "Facts") -> list[tuple[str, str]]:
    """The name and the text of each fact."""
    sizes = ", ".join(f"{width} x {height} ({count})" for (width, height), count in facts.image_sizes)
    difference_mm, inside = facts.scale_difference_mm, facts.joints_inside_share
    return [
        ("images", f"{facts.images}"),
        ("labels", f"{facts.labels}"),
        ("versions", f"{facts.versions}"),
        ("label fields", ", ".join(facts.fields)),
        ("label checks made", ", ".join(facts.checks) or "none"),
        ("label checks allowed to fail", ", ".join(facts.allowed) or "none"),
        ("masks", f"{facts.masks}"),
        ("masks without a hand", f"{facts.empty_masks}"),
        ("hands in layers", f"{facts.layers}"),
        ("pictures to put those before", f"{facts.scenery}"),
        ("images of one flat colour, which teach nothing", f"{facts.flat_images}"),
        ("image sizes, px (count)", sizes),
        ("scale against bone 9-10, largest difference, mm", "-" if difference_mm is None else f"{difference_mm:.3f}"),
        ("projected joints inside the image, %", "-" if inside is None else f"{100 * inside:.2f}"),
    ]
