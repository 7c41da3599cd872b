"""`cliphand export`: a checkpoint to an export folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cliphand.cli.export_options import ExportOptions, typed_request
from cliphand.cli.options import takes
from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from rich.console import Console

    from cliphand.checkpoint import Checkpoint
    from cliphand.checkpoint_config import CheckpointConfig
    from engines.artefact.manifest import Manifest
    from export.precision.request import TypedRequest
    from export.precision.typed_graphs import ParityReport

RUNS = Path("runs")


@takes(ExportOptions)
def export(options: ExportOptions) -> None:
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

    insisted = _insisted(options.tensorrt, rtx=options.tensorrt_rtx)
    place = _default_checkpoint() if options.checkpoint is None else checkpoint_folder(options.checkpoint)
    shipped = options.checkpoint is None and place == FOLDER / CHECKPOINT
    target = options.out or _own_place(place, shipped=shipped)
    check_folder(target, EXPORT)
    with held(target):
        source = read_checkpoint_config(place)
        typed = typed_request(source, options)
        flavours, left_out = _flavours(insisted)
        console = Console(soft_wrap=True)
        if shipped:
            console.print(f"{told()}.", markup=False, highlight=False)
        passed = _write(source, target, typed, aot=options.aot, tensorrt=options.tensorrt is not False, console=console)
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


def _write(
    source: "CheckpointConfig",
    target: Path,
    typed: "TypedRequest | None",
    *,
    aot: bool,
    tensorrt: bool,
    console: "Console",
) -> bool:
    """Write the graphs, all or none; tell of them, and whether all passed."""
    from cliphand.checkpoint import load_described
    from cliphand.cli.parity_table import print_parity
    from cliphand.files import whole_folder
    from export.folder.contents import EXPORT
    from export.folder.inductor_package import add_packages
    from export.folder.write import write_export

    report, packages = None, {}
    with whole_folder(target, EXPORT) as folder:
        checkpoint = load_described(source)
        manifest = write_export(checkpoint, folder, tensorrt=tensorrt)
        if typed is not None:
            report = _write_typed(folder, checkpoint, typed)
        if aot:
            packages = add_packages(folder, checkpoint)
    _describe(manifest, target, console, tensorrt=tensorrt)
    if report is not None:
        print_parity(report, console)
    for path, check in packages.items():
        console.print(
            f"{target / path.name}: compiled in {check.compile_s:.0f} s, differs from PyTorch by at most "
            f"{check.max_share:.2g} of an output's range at batches {check.batches}"
        )
    return report is None or report.passed


def _write_typed(folder: Path, checkpoint: "Checkpoint", request: "TypedRequest") -> "ParityReport":
    """Make and judge the graphs of lower precision under a progress bar."""
    from export.precision.typed_graphs import write_typed_graphs

    with progress_bars() as advance:
        return write_typed_graphs(folder, checkpoint, request, advance)


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
