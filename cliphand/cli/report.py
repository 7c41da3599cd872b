"""`cliphand report`: speed, accuracy and parity of an export as one HTML file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.cli.options import ROOT_HELP, ExportFolder, Rejected, Root, SplitName, Threads, takes
from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from benchmarks.report.build import ReportRequest, Written


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What is shown, and where it is written."""

    folder: ExportFolder = None
    data: Annotated[
        Path | None, typer.Option("--data", help="A folder in FreiHAND's layout.", show_default="the benchmark's")
    ] = None
    out: Annotated[Path | None, typer.Option("--out", help="HTML file to write.", show_default="DIR/report.html")] = (
        None
    )
    bench: Annotated[
        Path | None, typer.Option("--bench", help="What `cliphand bench` wrote.", show_default="DIR/bench.json")
    ] = None
    split: Annotated[
        SplitName | None, typer.Option(help="Split of the data.", show_default="the benchmark's, else evaluation")
    ] = None
    root: Annotated[Root | None, typer.Option(help=ROOT_HELP, show_default="the benchmark's, else truth")] = None
    images: Annotated[
        int | None, typer.Option(metavar="N", help="Score the first N images alone.", show_default="all")
    ] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint or run that PyTorch runs, to compare with.", show_default="the one that was exported"
        ),
    ] = None
    threads: Threads = None
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENGINE", help="What runs the ONNX graphs; repeat for more.", show_default="all installed"
        ),
    ] = None
    rejected: Rejected = False


@takes(ReportOptions)
def report(options: ReportOptions) -> None:
    """Write an HTML report of an export, and its figures as PNG beside it.

    Accuracy is measured here, by PyTorch and by every graph; latencies are those that `cliphand bench` saved. Exit code
    1 if a model file was skipped because its engine refuses it.
    """
    from benchmarks.report.build import ReportRequest
    from export.folder.shipped import default_export

    request = ReportRequest(
        export=options.folder or default_export(typer.echo),
        out=options.out,
        data=options.data,
        bench=options.bench,
        split=options.split,
        root=options.root,
        n_images=options.images,
        checkpoint=options.checkpoint,
        threads=options.threads,
        runners=tuple(options.engine or ()),
        rejected=options.rejected,
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
