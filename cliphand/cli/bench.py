"""`cliphand bench`: speed and accuracy of every engine of an export folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.cli.options import ROOT_HELP, ExportFolder, Rejected, Root, SplitName, Trust, takes
from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from benchmarks.bench.run import BenchRequest, Report


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is measured, how long, and where it is written."""

    data: Annotated[Path, typer.Option("--data", help="A folder in FreiHAND's layout.")]
    folder: ExportFolder = None
    batch: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Images in a call; repeat for more.", show_default="1"),
    ] = None
    threads: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="CPU threads that a call of the network may use; repeat for more.",
            show_default="each engine's own choice",
        ),
    ] = None
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENGINE",
            help="What runs the ONNX graphs: onnxruntime, onnxruntime-cuda, openvino or openvino-reduced; repeat for "
            "more.",
            show_default="all installed",
        ),
    ] = None
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Also time the checkpoint in torch.compile and in the form of its paper."),
    ] = False
    wide: Annotated[bool, typer.Option("--wide", help="Print all columns: wider than 120 characters.")] = False
    rejected: Rejected = False
    trust: Trust = False
    root: Annotated[Root, typer.Option(help=ROOT_HELP)] = "truth"
    images: Annotated[
        int | None, typer.Option(metavar="N", help="Score the first N images alone.", show_default="all")
    ] = None
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the JSON object.", show_default="DIR/bench.json")
    ] = None
    predictions: Annotated[
        Path | None, typer.Option(help="Write the exported model's hands here, as `cliphand score` takes them.")
    ] = None
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint or run that PyTorch runs, to compare with.", show_default="the one that was exported"
        ),
    ] = None
    split: Annotated[SplitName, typer.Option(help="Split of the data.")] = "evaluation"
    calls: Annotated[int, typer.Option(help="Timed calls of each engine and batch size, at most.")] = 200
    seconds: Annotated[float, typer.Option(help="Time limit of each engine, batch size and kind of timing.")] = 10.0
    interval: Annotated[
        float,
        typer.Option(
            help="Stop once the 95 % confidence interval of every median is narrower than this share of it; 0 does not "
            "stop early."
        ),
    ] = 0.03
    cold_starts: Annotated[
        int, typer.Option(help="How often each engine is started in a new process; 0 leaves that out.")
    ] = 3
    side_by_side: Annotated[
        float,
        typer.Option(help="Seconds of calls at the same time, from threads and from processes; 0 leaves them out."),
    ] = 2.0
    processes: Annotated[
        int | None,
        typer.Option(
            help="How many processes call at the same time; 0 leaves them out.",
            show_default="one for each core, at most 8",
        ),
    ] = None
    energy: Annotated[
        float, typer.Option(help="Seconds of calls between two readings of the energy counter; 0 leaves it out.")
    ] = 1.0


@takes(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Time every engine of an export and score its hands, beside PyTorch.

    Prints a table with one row per engine x precision x batch x threads; the last line of stdout is one JSON object. It
    is saved in the export folder, where `cliphand predict` and `cliphand report` read which engine is fastest; a fuller
    result there is kept. Exit code 1 if a model file was skipped because its engine refuses it.
    """
    from benchmarks.bench.fuller import refuse_narrower
    from engines.choice.verdicts import BENCH_NAME
    from export.folder.shipped import default_export

    export = options.folder or default_export(typer.echo)
    report = options.json_file or export / BENCH_NAME
    _check_targets(export, report, options.predictions)
    request = _request(export, options)
    if options.json_file is None:
        refuse_narrower(report, request)
    measured = measure(request)
    _show(measured, report, wide=options.wide)
    if any(one.broken for one in measured.skipped):
        raise typer.Exit(1)


def _request(export: Path, options: BenchOptions) -> "BenchRequest":
    from benchmarks.bench.run import BenchRequest
    from benchmarks.contestants.exported import installed_runners
    from benchmarks.measure.interleaved import SpeedSettings
    from benchmarks.measure.isolated import IsolatedSettings
    from benchmarks.measure.roofline import is_told_by

    runners = tuple(options.engine or installed_runners())
    return BenchRequest(
        export=export,
        data=options.data,
        batches=tuple(options.batch or (1,)),
        threads=tuple(options.threads or (None,)),
        runners=runners,
        rejected=options.rejected,
        trust=options.trust,
        baselines=options.baselines,
        roofline=is_told_by(runners),
        root=options.root,
        n_images=options.images,
        split=options.split,
        checkpoint=options.checkpoint,
        predictions=options.predictions,
        speed=SpeedSettings(calls=options.calls, seconds=options.seconds, interval=options.interval or None),
        isolated=IsolatedSettings(
            cold_starts=options.cold_starts,
            throughput_s=options.side_by_side,
            processes=options.processes,
            energy_s=options.energy,
        ),
    )


def _check_targets(export: Path, report: Path, predictions: Path | None) -> None:
    """Refuse to write over what the command did not write."""
    from cliphand.claims import check_file
    from cliphand.config import require
    from cliphand.kinds import BENCH, predictions_kind

    if export.is_dir():  # what is no export is worth the first sentence
        check_file(report, BENCH)
    if predictions is not None:
        check_file(predictions, predictions_kind(report))
        require(predictions.resolve() != report.resolve(), f"--predictions and --json are both {report}; name two.")


def measure(request: "BenchRequest") -> "Report":
    """The report, made under a progress bar on stderr."""
    from benchmarks.bench.run import run_bench

    with progress_bars(quiet=True) as advance:
        return run_bench(request, progress=advance)


def _show(report: "Report", json_file: Path, *, wide: bool) -> None:
    """Print the table and, as the last line, the JSON object, which is written to a file as well."""
    import dataclasses
    import json

    from benchmarks.bench.table import table_text
    from cliphand.files import write_json
    from cliphand.kinds import BENCH

    value = dataclasses.asdict(report)
    typer.echo(table_text(report, wide=wide))
    write_json(json_file, value, BENCH)
    typer.echo(json.dumps(value, allow_nan=False))
