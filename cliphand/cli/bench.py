"""`cliphand bench`: speed and accuracy of every engine of an export folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from benchmarks.bench.run import BenchRequest, Report


def bench(
    data: Annotated[Path, typer.Option("--data", help="A folder in FreiHAND's layout.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="An export folder.", show_default="newest in ./exports, or the shipped"),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Batch size; repeat for more.", show_default="1")
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Threads of one call; repeat for more.", show_default="each engine's own"),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENGINE",
            help="onnxruntime, onnxruntime-cuda, openvino or openvino-reduced, for ONNX graphs; repeat for more.",
            show_default="all installed",
        ),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Compare torch.compile and the network as published, too.")
    ] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Print all columns, beyond 120 characters.")] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Run graphs that failed the parity gate as well.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the native code that .pt2 packages and version-compatible plans bring.")
    ] = False,
    root: Annotated[
        Literal["truth", "scale"],
        typer.Option(help="Depth from the true wrist and bone 0-9, or solved from K and the published bone length."),
    ] = "truth",
    images: Annotated[int | None, typer.Option(help="Score the first so many images.", show_default="all")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where to write the JSON object.", show_default="DIR/bench.json")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write the exported model's hands here, as `cliphand score` takes them.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Checkpoint or run of the PyTorch row.", show_default="the one that was exported"),
    ] = None,
    split: Annotated[Literal["training", "evaluation"], typer.Option(help="Split of the data.")] = "evaluation",
    calls: Annotated[int, typer.Option(help="Timed calls of each engine and batch size, at most.")] = 200,
    seconds: Annotated[float, typer.Option(help="Time limit of each engine, batch size and kind of timing.")] = 10.0,
    interval: Annotated[
        float, typer.Option(help="Stop when the 95 % interval of every median is narrower than this share; 0 goes on.")
    ] = 0.03,
    cold_starts: Annotated[int, typer.Option(help="Processes started for each engine; 0 leaves them out.")] = 3,
    side_by_side: Annotated[
        float, typer.Option(help="Seconds of calls side by side, in threads and in processes; 0 leaves them out.")
    ] = 2.0,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes side by side; 0 leaves them out.", show_default="one for each core, at most 8"),
    ] = None,
    energy: Annotated[float, typer.Option(help="Seconds of calls while energy is read; 0 leaves it out.")] = 1.0,
) -> None:
    """Time every engine of an export and score its hands, beside PyTorch.

    Prints a table with one row per engine x precision x batch x threads; the last line of stdout is one JSON object. It
    is saved in the export folder, where `cliphand predict` and `cliphand report` read which engine is fastest; a fuller
    result there is kept. Exit code 1 if a model file was skipped because its engine refuses it.
    """
    from benchmarks.bench.fuller import refuse_narrower
    from benchmarks.bench.run import BenchRequest
    from benchmarks.contestants.exported import installed_runners
    from benchmarks.measure.interleaved import SpeedSettings
    from benchmarks.measure.isolated import IsolatedSettings
    from benchmarks.measure.roofline import is_told_by
    from engines.choice.verdicts import BENCH_NAME
    from export.folder.shipped import default_export

    export = folder or default_export(typer.echo)
    report = json_file or export / BENCH_NAME
    _check_targets(export, report, predictions)
    runners = tuple(engine or installed_runners())
    request = BenchRequest(
        export=export,
        data=data,
        batches=tuple(batch or (1,)),
        threads=tuple(threads or (None,)),
        runners=runners,
        rejected=rejected,
        trust=trust,
        baselines=baselines,
        roofline=is_told_by(runners),
        root=root,
        n_images=images,
        split=split,
        checkpoint=checkpoint,
        predictions=predictions,
        speed=SpeedSettings(calls=calls, seconds=seconds, interval=interval or None),
        isolated=IsolatedSettings(
            cold_starts=cold_starts, throughput_s=side_by_side, processes=processes, energy_s=energy
        ),
    )
    if json_file is None:
        refuse_narrower(report, request)
    measured = measure(request)
    _show(measured, report, wide=wide)
    if any(one.broken for one in measured.skipped):
        raise typer.Exit(1)


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
