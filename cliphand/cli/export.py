"""`cliphand export`: a checkpoint to an export folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from rich.console import Console

    from engines.artefact.manifest import Manifest
    from export.gate.parity import Tolerance
    from export.precision.workshop import TypedRequest

RUNS = Path("runs")


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Checkpoint or run folder.", show_default="the newest run's, or the shipped"),
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
        list[str] | None,
        typer.Option(metavar="NAME", help="Node or module to keep in higher precision; repeat for more."),
    ] = None,
    drop_rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE", help="Default rule of what stays in higher precision, to leave out; repeat for more."
        ),
    ] = None,
    search_s: Annotated[float, typer.Option(help="Time for naming the layers to blame; 0 skips it.")] = 600.0,
    auto: Annotated[bool, typer.Option("--auto", help="Keep the blamed layers in higher precision.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of one call.", show_default="each engine's own")] = None,
    tensorrt: Annotated[
        bool | None,
        typer.Option("--tensorrt/--no-tensorrt", help="Insist on TensorRT's plans, or leave TensorRT out of it."),
    ] = None,
    tensorrt_rtx: Annotated[bool, typer.Option("--tensorrt-rtx", help="Insist on plans of TensorRT for RTX.")] = False,
    aot: Annotated[bool, typer.Option("--aot", help="Add a package of native code, compiled by AOTInductor.")] = False,
) -> None:
    """Strip what only training needs and write the ONNX graph, checked against PyTorch.

    Graphs of lower precision are judged in millimetres; one that fails is set aside as .rejected, and the exit code
    is 1. The others become TensorRT plans, of each flavour that can build them here.
    """
    from rich.console import Console

    from cliphand.checkpoint_place import OF_A_RUN, checkpoint_folder
    from cliphand.claims import check_folder, held
    from cliphand.pretrained import CHECKPOINT, FOLDER, NAME, told
    from engines.artefact.manifest import EXPORTS
    from export.folder.contents import EXPORT
    from export.precision.table import Keep

    insisted = _insisted(tensorrt, rtx=tensorrt_rtx)
    keep = Keep(tuple(keep_fp32 or ()), tuple(drop_rule or ()))
    source = _default_checkpoint() if checkpoint is None else checkpoint_folder(checkpoint)
    shipped = checkpoint is None and source == FOLDER / CHECKPOINT
    place = source.resolve()  # which has a name where `source` is `.` or `best`
    target = out or EXPORTS / (NAME if shipped else place.parent.name if place.name in OF_A_RUN else place.name)
    check_folder(target, EXPORT)
    flavours, left_out = _flavours(insisted)

    from export.folder.write import export_checkpoint

    with held(target):
        console = Console(soft_wrap=True)
        if shipped:
            console.print(f"{told()}.", markup=False, highlight=False)
        manifest = export_checkpoint(source, target, tensorrt=tensorrt is not False)
        _describe(manifest, target, console)
        passed = True
        if fp16 or int8:
            from export.gate.images import GateRequest
            from export.precision.calibration import CalibrationRequest, held_out
            from export.precision.workshop import TypedRequest

            data = calibration or _training_data(manifest)
            request = TypedRequest(
                precisions=(*(("fp16",) if fp16 else ()), *(("int8",) if int8 else ())),
                calibration=CalibrationRequest(
                    data, calibration_images, seed, calibration_method, held_out(manifest.training)
                ),
                gate=GateRequest(gate_data or data, gate_split, images),
                keep=keep,
                tolerances=_tolerances(tolerance_mm),
                search_s=search_s,
                auto=auto,
                threads=threads,
                tensorrt=tensorrt is not False,
            )
            passed = _write_typed(target, request, console)
        if aot:
            _compile(target, console)
        passed = _build_plans(target, flavours, left_out, console) and passed
        if not passed:
            raise typer.Exit(1)


def _default_checkpoint() -> Path:
    """The newest run's, else the shipped model's."""
    from cliphand.checkpoint_place import CONFIG, OF_A_RUN, newest_checkpoint
    from cliphand.pretrained import shipped_checkpoint

    if any(path for name in OF_A_RUN for path in RUNS.glob(f"*/{name}/{CONFIG}")):
        return newest_checkpoint(RUNS)
    return shipped_checkpoint(
        instead=f"there is no run under {RUNS} either: run `cliphand train`, or name a checkpoint folder"
    )


def _insisted(tensorrt: bool | None, *, rtx: bool) -> tuple[str, ...] | None:
    """The TensorRT flavours whose plans must be built; None for no plans at all."""
    from cliphand.config import require

    if tensorrt is False:
        require(not rtx, "--no-tensorrt leaves all plans out and --tensorrt-rtx insists on some; give one of them.")
        return None
    return (*(("tensorrt",) if tensorrt else ()), *(("tensorrt-rtx",) if rtx else ()))


def _flavours(insisted: tuple[str, ...] | None) -> tuple[tuple[str, ...], str | None]:
    """The TensorRT flavours to build with, and a sentence about those that cannot be; refused before any other work."""
    if insisted is None:
        return (), None

    from engines.tensorrt.process import buildable_flavours

    return buildable_flavours(insisted)


def _tolerances(tolerance_mm: float | None) -> "dict[str, Tolerance]":
    """Limits by precision."""
    from export.gate.parity import BOUND_OVER_TOLERANCE, TOLERANCES, Tolerance

    if tolerance_mm is None:
        return dict(TOLERANCES)
    return dict(TOLERANCES) | dict.fromkeys(
        ("fp16", "int8"), Tolerance(tolerance_mm, BOUND_OVER_TOLERANCE * tolerance_mm)
    )


def _compile(target: Path, console: "Console") -> None:
    """Add AOTInductor's packages."""
    from export.folder.inductor_package import add_packages

    for path, check in add_packages(target).items():
        console.print(
            f"{path}: compiled in {check.compile_s:.0f} s, differs from PyTorch by at most {check.max_share:.2g} of an "
            f"output's range at batches {check.batches}"
        )


def _build_plans(folder: Path, flavours: tuple[str, ...], left_out: str | None, console: "Console") -> bool:
    """Build the plans of every graph that stands, say which flavours are left out, and whether all stand and passed."""
    from cliphand.cli.build import all_stand, build_shown, print_built

    folders = [build_shown(folder, flavour) for flavour in flavours]
    for built in folders:
        print_built(built, console)
    if left_out is not None:
        console.print(left_out, markup=False, highlight=False)
    return all(all_stand(built) for built in folders)


def _describe(manifest: "Manifest", target: Path, console: "Console") -> None:
    from engines.artefact.manifest import GRAPH_NAME

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
        return "not shown to TensorRT's parser (TensorRT for RTX, which has one, is not installed or was left out)"
    return f"parsed and built by TensorRT for RTX {version}"


def _training_data(manifest: "Manifest") -> Path:
    """The folder that the model was trained on, as its facts name it."""
    from cliphand.errors import InputError

    data = manifest.training.get("data")
    if not isinstance(data, str):
        raise InputError("the checkpoint does not say what it was trained on; name a folder with --calibration DIR.")
    return Path(data)


def _write_typed(target: Path, request: "TypedRequest", console: "Console") -> bool:
    """Make and judge the graphs under a progress bar; tell whether all passed."""
    from cliphand.cli.parity import print_parity
    from export.precision.typed_graphs import write_typed_graphs

    with progress_bars() as advance:
        report = write_typed_graphs(target, request, advance)
    print_parity(report, console)
    return report.passed
