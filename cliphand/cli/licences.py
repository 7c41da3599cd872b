"""`cliphand licences`: under what terms everything stands that cliphand's requirements pulled in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cliphand.licences import Supply


def licences(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the JSON object here as well.")] = None,
) -> None:
    """List the licences of all installed dependencies; exit code 1 if one does not go with Apache-2.0 or is unknown.

    Unknown is what a distribution says neither in its metadata nor in a licence text that is known: read its files.
    """
    import json

    from cliphand.claims import check_file
    from cliphand.files import write_json
    from cliphand.kinds import LICENCES
    from cliphand.licences import Verdict, supply

    if json_file is not None:
        check_file(json_file, LICENCES)
    found = supply()
    counts = {verdict.value: sum(row.verdict is verdict for row in found.licences) for verdict in Verdict}
    unknown = [row.name for row in found.licences if row.verdict is Verdict.UNKNOWN]
    refused = counts[Verdict.INCOMPATIBLE.value] > 0
    value = {
        "distributions": [
            {
                "name": row.name,
                "version": row.version,
                "licence": row.licence,
                "verdict": row.verdict.value,
                "needed_by": row.needed_by,
            }
            for row in found.licences
        ],
        "not_installed": list(found.not_installed),
        "counts": counts,
        "unknown": unknown,
        "compatible": False if refused else None if unknown else True,
    }
    if json_file is not None:
        write_json(json_file, value, LICENCES)
    _show(found, counts)
    typer.echo(json.dumps(value))
    if refused or unknown:
        raise typer.Exit(1)


def _show(found: "Supply", counts: dict[str, int]) -> None:
    """The table, what needs a look first, and the counts."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cliphand.licences import Verdict

    order = tuple(Verdict)
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("distribution", "version", "verdict", "needed by"):
        table.add_column(heading, no_wrap=True)
    table.add_column("licence", overflow="fold")
    for row in sorted(found.licences, key=lambda row: (order.index(row.verdict), row.name)):
        cells = (row.name, row.version, row.verdict.value, row.needed_by, row.licence or "not stated")
        table.add_row(*map(Text, cells))
    console.print(table)
    console.print(
        f"{len(found.licences)} distributions: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}."
    )
    unknown = [row.name for row in found.licences if row.verdict is Verdict.UNKNOWN]
    if unknown:
        console.print(f"Unknown, so nothing is decided until somebody reads their files: {', '.join(unknown)}.")
    if found.not_installed:
        console.print(f"Not installed, so not looked at: {', '.join(found.not_installed)}.")
