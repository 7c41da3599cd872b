"""`cliphand export`: a checkpoint to an export folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from rich.console import Console

    from cliphand.checkpoint_config import CheckpointConfig
    from cliphand.data.freihand import Split
    from engines.artefact.manifest import Manifest
    from export.gate.images import GateRequest
    from export.gate.parity import Tolerance
    from export.precision.calibration import CalibrationRequest
    from export.precision.quantise import Method
    from export.precision.request import TypedRequest
    from export.precision.table import Keep
    from export.precision.typed_graphs import ParityReport

RUNS = Path("runs")


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Checkpoint or run folder.", show_default="the newest run's in ./runs, or the shipped"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Export folder to write.", show_default="exports/RUN")] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add an FP16 graph; what needs more stays in FP32.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Add an INT8 graph; what needs more stays in FP16 or FP32.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Data folder whose training images show how large values get.", show_default="what it was trained on"
        ),
    ] = None,
    calibration_images: Annotated[int, typer.Option(help="How many training images are used.")] = 500,
    calibration_method: Annotated[
        Literal["max", "entropy"],
        typer.Option(help="INT8 range of a tensor: its largest value, or the one that loses least information."),
    ] = "max",
    seed: Annotated[int, typer.Option(help="Seed of the choice of these images.")] = 0,
    gate_data: Annotated[
        Path | None,
        typer.Option(help="Data folder that the graphs are judged on.", show_default="the calibration folder"),
    ] = None,
    gate_split: Annotated[
        Literal["training", "evaluation"], typer.Option(help="Which split of that folder.")
    ] = "evaluation",
    images: Annotated[int, typer.Option(help="How many of its images.")] = 200,
    tolerance_mm: Annotated[
        float | None,
        typer.Option(help="Largest change of PA-PJPE and PA-PVPE that passes.", show_default="0.1 FP16, 0.3 INT8"),
    ] = None,
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Node or module of the graph that stays in FP32; repeat for more."),
    ] = None,
    drop_rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Rule not to apply, of those in parity.json that keep nodes in higher precision; repeat for more.",
        ),
    ] = None,
    search_s: Annotated[
        float, typer.Option(help="Seconds to search for the layers that make a graph fail; 0 does not search.")
    ] = 600.0,
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Keep the layers that were found in higher precision, and judge the graph again."),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of one call of the network.", show_default="each engine's own")
    ] = None,
    tensorrt: Annotated[
        bool | None,
        typer.Option(
            "--tensorrt/--no-tensorrt", help="Refuse unless TensorRT can build plans here, or build no plans at all."
        ),
    ] = None,
    tensorrt_rtx: Annotated[
        bool, typer.Option("--tensorrt-rtx", help="Refuse unless TensorRT for RTX can build plans here.")
    ] = False,
    aot: Annotated[
        bool,
        typer.Option("--aot", help="Add model.pt2: native code for this machine, compiled by PyTorch's AOTInductor."),
    ] = False,
) -> None:
    """Write a trained model as an ONNX graph, without what only training needs, and check it against PyTorch.

    Graphs of lower precision (--fp16, --int8) run on photographs beside PyTorch. One whose errors change by more than
    --tolerance-mm is named .rejected, and the exit code is 1. Those that pass become TensorRT plans, where it can be.
    """
    from rich.console import Console

    from cliphand.checkpoint_config import read_checkpoint_config
    from cliphand.checkpoint_place import checkpoint_folder
    from cliphand.claims import check_folder, held
    from cliphand.pretrained import CHECKPOINT, FOLDER, told
    from export.folder.contents import EXPORT

    insisted = _insisted(tensorrt, rtx=tensorrt_rtx)
    place = _default_checkpoint() if checkpoint is None else checkpoint_folder(checkpoint)
    shipped = checkpoint is None and place == FOLDER / CHECKPOINT
    target = out or _own_place(place, shipped=shipped)
    check_folder(target, EXPORT)
    with held(target):
        source = read_checkpoint_config(place)
        typed = None
        if fp16 or int8:
            from export.precision.request import TypedRequest

            typed = TypedRequest(
                precisions=(*(("fp16",) if fp16 else ()), *(("int8",) if int8 else ())),
                calibration=_calibration(source, calibration, calibration_images, seed, calibration_method),
                gate=_gate(source, gate_data or calibration, gate_split, images),
                keep=_keep(keep_fp32, drop_rule),
                tolerances=_tolerances(tolerance_mm),
                search_s=search_s,
                auto=auto,
                threads=threads,
                tensorrt=tensorrt is not False,
            )
        flavours, left_out = _flavours(insisted)
        console = Console(soft_wrap=True)
        if shipped:
            console.print(f"{told()}.", markup=False, highlight=False)
        passed = _write(source.path, target, typed, aot=aot, tensorrt=tensorrt is not False, console=console)
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


def _own_place(checkpoint: Path, *, shipped: bool) -> Path:
    """The folder among the exports that has the run's name, or the checkpoint's own."""
    from cliphand.checkpoint_place import OF_A_RUN
    from cliphand.pretrained import NAME
    from engines.artefact.manifest import EXPORTS

    place = checkpoint.resolve()  # which has a name where it was given as `.` or `best`
    return EXPORTS / (NAME if shipped else place.parent.name if place.name in OF_A_RUN else place.name)


def _training_data(source: "CheckpointConfig") -> Path:
    """The folder that the model was trained on, as its facts name it."""
    from cliphand.errors import InputError

    data = source.facts.get("data")
    if not isinstance(data, str):
        raise InputError("the checkpoint does not say what it was trained on; name a folder with --calibration DIR.")
    if not Path(data).is_dir():
        raise InputError(f"{data}, which the model was trained on, is not here; name a folder with --calibration DIR.")
    return Path(data)


def _calibration(
    source: "CheckpointConfig", folder: Path | None, images: int, seed: int, method: "Method"
) -> "CalibrationRequest":
    """Which images set the ranges, from a folder that has some."""
    from export.precision.calibration import CalibrationRequest, check_calibration, held_out

    request = CalibrationRequest(folder or _training_data(source), images, seed, method, held_out(source.facts))
    check_calibration(request)
    return request


def _gate(source: "CheckpointConfig", folder: Path | None, split: "Split", images: int) -> "GateRequest":
    """Which images judge, from a folder that has some."""
    from export.gate.images import GateRequest, check_gate

    request = GateRequest(folder or _training_data(source), split, images)
    check_gate(request)
    return request


def _keep(names: list[str] | None, rules: list[str] | None) -> "Keep":
    from export.precision.table import Keep

    return Keep(tuple(names or ()), tuple(rules or ()))


def _write(
    source: Path, target: Path, typed: "TypedRequest | None", *, aot: bool, tensorrt: bool, console: "Console"
) -> bool:
    """Write the graphs, all or none; tell of them, and whether all passed."""
    from cliphand.cli.parity import print_parity
    from cliphand.files import whole_folder
    from export.folder.contents import EXPORT
    from export.folder.inductor_package import add_packages
    from export.folder.write import write_export

    report, packages = None, {}
    with whole_folder(target, EXPORT) as folder:
        manifest = write_export(source, folder, tensorrt=tensorrt)
        if typed is not None:
            report = _write_typed(folder, typed)
        if aot:
            packages = add_packages(folder)
    _describe(manifest, target, console, tensorrt=tensorrt)
    if report is not None:
        print_parity(report, console)
    for path, check in packages.items():
        console.print(
            f"{target / path.name}: compiled in {check.compile_s:.0f} s, differs from PyTorch by at most "
            f"{check.max_share:.2g} of an output's range at batches {check.batches}"
        )
    return report is None or report.passed


def _tolerances(tolerance_mm: float | None) -> "dict[str, Tolerance]":
    """Limits by precision."""
    from export.gate.parity import BOUND_OVER_TOLERANCE, TOLERANCES, Tolerance

    if tolerance_mm is None:
        return dict(TOLERANCES)
    return dict(TOLERANCES) | dict.fromkeys(
        ("fp16", "int8"), Tolerance(tolerance_mm, BOUND_OVER_TOLERANCE * tolerance_mm)
    )


def _write_typed(folder: Path, request: "TypedRequest") -> "ParityReport":
    """Make and judge the graphs of lower precision under a progress bar."""
    from export.precision.typed_graphs import write_typed_graphs

    with progress_bars() as advance:
        return write_typed_graphs(folder, request, advance)


def _build_plans(folder: Path, flavours: tuple[str, ...], left_out: str | None, console: "Console") -> bool:
    """Build the plans of every graph that stands, say which flavours are left out, and whether all stand and passed."""
    from cliphand.cli.build import all_stand, build_shown, print_built

    folders = [build_shown(folder, flavour) for flavour in flavours]
    for built in folders:
        print_built(built, console)
    if left_out is not None:
        console.print(left_out, markup=False, highlight=False)
    return all(all_stand(built) for built in folders)


def _describe(manifest: "Manifest", target: Path, console: "Console", *, tensorrt: bool) -> None:
    from engines.artefact.manifest import GRAPH_NAME, mesh_warnings

    facts, artefact = manifest.exporter, manifest.artefacts[GRAPH_NAME]
    console.print(
        f"{target / GRAPH_NAME}: {artefact.bytes / 1e6:.1f} MB, {facts['gflop']:.2f} GFLOP an image, opset "
        f"{facts['opset']}, differs from PyTorch by at most {facts['max_difference_uvd']:.2g} uvd = "
        f"{facts['max_difference_mm']:.2g} mm at batches {facts['batches_checked']}, "
        f"{_builder(facts['tensorrt_rtx'], tensorrt=tensorrt)}"
    )
    for sentence in mesh_warnings(manifest.training):
        console.print(f"WARNING: {sentence}.", style="bold red", markup=False, highlight=False)


def _builder(version: object, *, tensorrt: bool) -> str:
    """What TensorRT for RTX made of the graph, or why it was not asked."""
    from export.precision.proof import why_not_asked

    if version is None:
        return f"not shown to TensorRT's parser, which TensorRT for RTX has ({why_not_asked(tensorrt=tensorrt)})"
    return f"parsed and built by TensorRT for RTX {version}"
