"""`cliphand import-released`: the authors' weights to a checkpoint that `export` and `bench` take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from cliphand.released_table import Entry

USES = {"model": "used", "topology": "used", "training": "training only"}


def import_released(
    weights: Annotated[Path, typer.Argument(metavar="FILE", help="The authors' CLIP_Hand_3D_PE_*.pth.tar.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Checkpoint folder to write.")],
    hand: Annotated[
        Path | None, typer.Option(help="hand.npz, for the mesh's faces: the weights have none, pictures need them.")
    ] = None,
    crop: Annotated[
        Literal["whole", "centre", "mask", "joints"], typer.Option(help="How a photograph becomes the model's square.")
    ] = "centre",
    crop_side: Annotated[float, typer.Option(help="Side of the `centre` square in pixels of the photograph.")] = 130.0,
    crop_margin: Annotated[float, typer.Option(help="Side of `mask` and `joints`, in sides of what they hold.")] = 1.3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write here what became of each tensor.")] = None,
) -> None:
    """Turn the authors' released weights into a checkpoint, without training and without executing the file.

    The weights were trained on squares of 1.3 times the box of the hand's mask; the default crop is FreiHAND's centre,
    since its evaluation images have no mask. The last line of stdout is one JSON object.
    """
    import json
    from collections import Counter

    from cliphand.claims import check_file, check_folder, json_kind
    from cliphand.config import CropConfig
    from cliphand.files import write_json
    from cliphand.kinds import IMPORTED
    from cliphand.released_table import released_table

    config = CropConfig(rule=crop, side_px=crop_side, margin=crop_margin)
    table = released_table()
    fates = {key: USES[entry.use] for key, entry in table.items()}
    kind = json_kind(IMPORTED.writer, fates)
    check_folder(out, IMPORTED)
    if json_file is not None:
        check_file(json_file, kind)

    from benchmarks.bench.table import plain_text
    from cliphand.released import import_released as write_checkpoint

    write_checkpoint(weights, out, hand=hand, crop=config)
    typer.echo(plain_text(_table(table)))
    if json_file is not None:
        write_json(json_file, fates, kind)
    counts = Counter(fates.values())
    typer.echo(f"Wrote {out}: {counts['used']} tensors used, {counts['training only']} for training only.")
    typer.echo(json.dumps({"checkpoint": str(out), "tensors": counts, "hand": None if hand is None else str(hand)}))


def _table(entries: "dict[str, Entry]") -> "Table":
    """One row per module of the file and use."""
    from collections import Counter

    from rich import box
    from rich.table import Table

    counts: Counter[tuple[str, str, str]] = Counter()
    for key, entry in entries.items():
        here = ".".join(entry.targets[0].split(".")[:1]) if entry.targets else "topology"
        counts[key.partition(".")[0], USES[entry.use], here if entry.use != "training" else "-"] += 1
    table = Table("module in the file", "tensors", "use", "module here", box=box.SIMPLE_HEAD, pad_edge=False)
    for (module, use, here), count in counts.items():
        table.add_row(module, str(count), use, here)
    return table
