"""Progress bars on stderr, so that stdout holds results alone."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Literal

from cliphand.progress import Progress as Advance

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

Clock = Literal["elapsed", "remaining"]


@contextmanager
def progress_bars(
    *, clock: Clock = "elapsed", rate: str = "", quiet: bool = False, passing: bool = False
) -> Iterator[Advance]:
    """A bar for each thing that is being done, from the first word about it on; nothing is drawn before.

    Args:
        clock: what stands behind the bar.
        rate: unit of the steps, such as `images`; their number a second is shown.
        quiet: draw only when something has advanced: a thread that refreshes would take time from what is being timed.
        passing: show a bar only while it is under way.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[rate]}")] if rate else []
    columns.append(TimeElapsedColumn() if clock == "elapsed" else TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), auto_refresh=not quiet, transient=passing)
    with ExitStack() as drawn:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if not tasks:
                drawn.enter_context(bar)
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None, completed=done, rate="")
            task = tasks[what]
            speed = bar.tasks[task].speed if rate else None
            bar.update(
                task,
                completed=done,
                total=total or None,
                rate=f"{speed:.0f} {rate}/s" if speed else "",
                visible=not passing or done < total,
                refresh=quiet,
            )

        yield advance
