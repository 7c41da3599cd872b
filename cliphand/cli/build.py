"""`cliphand build`: TensorRT plans on the machine that will run them, from an export folder alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from engines.trt_plan import BuildSettings
    from engines.trt_process import BuiltPlan


def build(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An export folder.")],
    flavour: Annotated[
        Literal["tensorrt", "tensorrt-rtx"] | None,
        typer.Option(help="Which TensorRT.", show_default="each that can build here"),
    ] = None,
    batches: Annotated[
        list[str] | None,
        typer.Option(help="MIN:OPT:MAX batch of a profile; repeat for more.", show_default="1:1:64"),
    ] = None,
    level: Annotated[int, typer.Option(help="Optimisation level, 0 to 5: higher searches longer.")] = 3,
    workspace_mib: Annotated[int | None, typer.Option(help="Limit of scratch memory.", show_default="none")] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let FP32 layers round to TF32.")] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Plans for later TensorRT versions and the lean runtime.")
    ] = False,
    hardware: Annotated[
        Literal["none", "ampere_plus", "same_compute_capability"],
        typer.Option(help="Other GPUs that TensorRT's plans run on, more slowly."),
    ] = "none",
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="GPU that TensorRT for RTX builds for, such as 8.9; repeat for more.", show_default="its own"
        ),
    ] = None,
    stripped: Annotated[bool, typer.Option("--stripped", help="Leave the weights to the ONNX file.")] = False,
) -> None:
    """Build TensorRT plans of an export's graphs; equal ones that stand there are kept.

    Needs neither PyTorch nor the checkpoint. Prints a line for each plan; the last line of stdout is one JSON object.
    """
    import json

    from rich.console import Console

    from cliphand.errors import InputError
    from engines.manifest import read_manifest
    from engines.trt_plan import BatchRange, BuildSettings, parse_range
    from engines.trt_process import buildable_flavours

    read_manifest(folder)  # a folder that is none is worth the first sentence
    settings = BuildSettings(
        profiles=tuple(parse_range(text) for text in batches or ()) or (BatchRange(),),
        level=level,
        workspace_mib=workspace_mib,
        tf32=tf32,
        version_compatible=version_compatible,
        hardware=hardware,
        compute_capabilities=tuple(compute_capability or ()),
        stripped=stripped,
    )
    names, left_out = buildable_flavours(() if flavour is None else (flavour,))
    if not names:
        raise InputError(str(left_out))
    built = [plan for name in ([flavour] if flavour else names) for plan in build_shown(folder, name, settings)]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for plan in built:
        console.print(sentence(plan))
    if left_out is not None and flavour is None:
        console.print(left_out)
    plans = [
        {"plan": str(plan.path), "reused": plan.reused, "layers": plan.record.findings["layers"]} for plan in built
    ]
    typer.echo(json.dumps({"plans": plans}))


def sentence(plan: "BuiltPlan") -> str:
    """What was built, in one line."""
    record, size_mb = plan.record, plan.path.stat().st_size / 1e6
    how = "is there already" if plan.reused else f"built in {record.build_s:.1f} s"
    spans = ", ".join(f"{span.min}-{span.max}" for span in record.key.settings.profiles)
    parity = record.findings["parity"]
    difference = (parity["max_difference_uvd"] or "NaN or infinity") if isinstance(parity, dict) else parity
    return (
        f"{plan.path}: {how}, {size_mb:.1f} MB, {record.key.precision}, batches {spans}, TensorRT "
        f"{record.key.tensorrt_version}, {record.findings['gpu']}, difference to its graph: {difference}"
    )


def build_shown(folder: Path, flavour: str, settings: "BuildSettings | None" = None) -> "tuple[BuiltPlan, ...]":
    """The plans of one flavour, under TensorRT's own phases as progress bars on stderr."""
    from engines.trt_process import build_plans

    # A phase comes again for every part of the network: it is shown while it runs.
    with progress_bars(passing=True) as advance:
        return build_plans(folder, flavour=flavour, settings=settings, progress=advance)
