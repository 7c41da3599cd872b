"""`cliphand report`: speed, accuracy and parity of an export as one HTML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from benchmarks.report.build import ReportRequest, Written


def report(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="An export folder.", show_default="newest in ./exports, or the shipped"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder in FreiHAND's layout.", show_default="the benchmark's")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="HTML file.", show_default="DIR/report.html")] = None,
    bench: Annotated[
        Path | None, typer.Option("--bench", help="What `cliphand bench` wrote.", show_default="DIR/bench.json")
    ] = None,
    split: Annotated[
        Literal["training", "evaluation"] | None,
        typer.Option(help="Split of the data.", show_default="the benchmark's, else evaluation"),
    ] = None,
    root: Annotated[
        Literal["truth", "scale"] | None,
        typer.Option(
            help="Depth from the true wrist and bone 0-9, or solved from K and the published bone length.",
            show_default="the benchmark's, else truth",
        ),
    ] = None,
    images: Annotated[int | None, typer.Option(help="Run the first so many images.", show_default="all")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint or run of PyTorch.", show_default="the one that was exported")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one call.", show_default="each engine's own")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENGINE", help="Engine for ONNX graphs; repeat for more.", show_default="all that are installed"
        ),
    ] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Run graphs that failed the parity gate as well.")
    ] = False,
) -> None:
    """Write an HTML report of an export, and its figures as PNG beside it.

    Accuracy is measured here, by PyTorch and by every graph; latencies are those that `cliphand bench` saved. Exit code
    1 if a model file was skipped because its engine refuses it.
    """
    from benchmarks.report.build import ReportRequest
    from export.folder.shipped import default_export

    request = ReportRequest(
        export=folder or default_export(typer.echo),
        out=out,
        data=data,
        bench=bench,
        split=split,
        root=root,
        n_images=images,
        checkpoint=checkpoint,
        threads=threads,
        runners=tuple(engine or ()),
        rejected=rejected,
    )
    written = _write(request)
    typer.echo(written.verdict)
    typer.echo(f"{written.html} (figures as PNG in {written.figures})")
    if written.broken:
        from benchmarks.contestants.plans import skipped_lines

        for line in skipped_lines(written.broken):
            typer.echo(line)
        raise typer.Exit(1)


def _write(request: "ReportRequest") -> "Written":
    """The report, written under a progress bar on stderr."""
    from benchmarks.report.build import write_report

    with progress_bars() as advance:
        return write_report(request, progress=advance)
