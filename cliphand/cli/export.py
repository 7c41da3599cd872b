"""`cliphand export`: a checkpoint to an export folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from engines.manifest import Manifest
    from export.candidates import TypedRequest

RUNS = Path("runs")
EXPORTS = Path("exports")
BOUND_OVER_TOLERANCE = 10  # on distances of vertices: alignment would hide a mesh that moves as a whole


def export(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Checkpoint folder.", show_default="the newest run's best/")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Export folder to write.", show_default="exports/RUN")] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add a mixed-precision graph.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Add a quantised graph, its rest in FP16 or FP32.")] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder whose training images set the ranges.", show_default="what it was trained on"),
    ] = None,
    calibration_images: Annotated[int, typer.Option(help="How many of them.")] = 500,
    calibration_method: Annotated[Literal["max", "entropy"], typer.Option(help="How ranges follow.")] = "max",
    seed: Annotated[int, typer.Option(help="Of the choice of calibration images.")] = 0,
    gate_data: Annotated[
        Path | None, typer.Option(help="Folder the graphs are judged on.", show_default="the calibration folder")
    ] = None,
    gate_split: Annotated[Literal["training", "evaluation"], typer.Option(help="Split of it.")] = "evaluation",
    images: Annotated[int, typer.Option(help="How many images judge.")] = 200,
    tolerance_mm: Annotated[
        float | None, typer.Option(help="Allowed change of PA-PJPE and PA-PVPE.", show_default="0.1 FP16, 0.3 INT8")
    ] = None,
    keep_fp32: Annotated[
        list[str] | None, typer.Option(help="Node or module to keep in higher precision; repeat for more.")
    ] = None,
    drop_rule: Annotated[
        list[str] | None, typer.Option(help="Default rule of what stays in higher precision, to leave out.")
    ] = None,
    search_s: Annotated[float, typer.Option(help="Time for naming the layers to blame; 0 skips it.")] = 600.0,
    auto: Annotated[bool, typer.Option("--auto", help="Keep the blamed layers in higher precision.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of one call.", show_default="each engine's own")] = None,
) -> None:
    """Strip what only training needs and write the ONNX graph, checked against PyTorch.

    Graphs of lower precision are judged in millimetres; one that fails is set aside as .rejected, and the exit code
    is 1.
    """
    from rich.console import Console

    from cliphand.checkpoint import newest_checkpoint
    from export.folder import export_checkpoint

    source = checkpoint or newest_checkpoint(RUNS)
    name = source.parent.name if source.name in ("best", "last") else source.name
    target = out or EXPORTS / name
    console = Console(soft_wrap=True)
    manifest = export_checkpoint(source, target)
    _describe(manifest, target, console)
    if not (fp16 or int8):
        return

    from export.calibration import CalibrationRequest
    from export.candidates import TypedRequest
    from export.gate_images import GateRequest
    from export.parity import TOLERANCES, Tolerance
    from export.precision_table import Keep

    asked = {"fp16": fp16, "int8": int8}
    data = calibration or _training_data(manifest)
    limits = dict(TOLERANCES)
    if tolerance_mm is not None:
        limits |= {low: Tolerance(tolerance_mm, BOUND_OVER_TOLERANCE * tolerance_mm) for low in asked}
    request = TypedRequest(
        precisions=tuple(low for low in ("fp16", "int8") if asked[low]),
        calibration=CalibrationRequest(data, calibration_images, seed, calibration_method),
        gate=GateRequest(gate_data or data, gate_split, images),
        keep=Keep(tuple(keep_fp32 or ()), tuple(drop_rule or ())),
        tolerances=limits,
        search_s=search_s,
        auto=auto,
        threads=threads,
    )
    _write_typed(target, request, console)


def _describe(manifest: "Manifest", target: Path, console: "Console") -> None:
    from export.folder import GRAPH_NAME

    facts, artefact = manifest.exporter, manifest.artefacts[GRAPH_NAME]
    console.print(
        f"{target / GRAPH_NAME}: {artefact.bytes / 1e6:.1f} MB, {facts['gflop']:.2f} GFLOP an image, opset "
        f"{facts['opset']}, differs from PyTorch by at most {facts['max_difference_uvd']:.2g} uvd = "
        f"{facts['max_difference_mm']:.2g} mm at batches {facts['batches_checked']}, "
        f"{_builder(facts['tensorrt_rtx'])}"
    )


def _builder(version: object) -> str:
    """What TensorRT for RTX made of the graph."""
    if version is None:
        return "operators within TensorRT's list (TensorRT for RTX, which would build it, is not installed)"
    return f"parsed and built by TensorRT for RTX {version}"


def _training_data(manifest: "Manifest") -> Path:
    """The folder that the model was trained on, as its facts name it."""
    from cliphand.errors import InputError

    data = manifest.training.get("data")
    if not isinstance(data, str):
        raise InputError("the checkpoint does not say what it was trained on; name a folder with --calibration DIR.")
    return Path(data)


def _write_typed(target: Path, request: "TypedRequest", console: "Console") -> None:
    """Make and judge the graphs under a progress bar; exit code 1 where one fails."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from cliphand.cli.parity import print_parity
    from export.typed_graphs import write_typed_graphs

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done)

        report = write_typed_graphs(target, request, advance)
    print_parity(report, console)
    if not report.passed:
        raise typer.Exit(1)
