"""`cliphand build`: TensorRT plans on the machine that will run them, from an export folder alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliphand.cli.options import takes
from cliphand.cli.progress import progress_bars

if TYPE_CHECKING:
    from rich.console import Console

    from engines.tensorrt.plan import BuildSettings, PlanRecord
    from engines.tensorrt.process import BuiltFolder, BuiltPlan


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What plans are built, and for which machine."""

    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Export folder, as `cliphand export` writes it.")]
    flavour: Annotated[
        Literal["tensorrt", "tensorrt-rtx"] | None,
        typer.Option(help="TensorRT, or TensorRT for RTX.", show_default="each that can build here"),
    ] = None
    batches: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MIN:OPT:MAX",
            help="Batch sizes that a plan is built for: smallest, the one it is fastest at, largest; repeat for more.",
            show_default="1:1:64",
        ),
    ] = None
    level: Annotated[int, typer.Option(help="Optimisation level, 0 to 5: higher searches longer.")] = 3
    workspace_mib: Annotated[
        int | None, typer.Option(help="Limit of TensorRT's scratch memory, in MiB.", show_default="no limit")
    ] = None
    tf32: Annotated[bool, typer.Option("--tf32", help="Let FP32 layers round what they multiply to TF32.")] = False
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Let later TensorRT versions and the lean runtime run the plans."),
    ] = False
    hardware: Annotated[
        Literal["none", "ampere_plus", "same_compute_capability"],
        typer.Option(help="Other GPUs that TensorRT's plans are to run on, if more slowly; none: this GPU alone."),
    ] = "none"
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X.Y",
            help="GPU that TensorRT for RTX builds for, such as 8.9; repeat for more.",
            show_default="its own",
        ),
    ] = None
    stripped: Annotated[
        bool, typer.Option("--stripped", help="Leave the weights out of the plan, which then needs the ONNX file.")
    ] = False
    gate_data: Annotated[
        Path | None,
        typer.Option(
            help="Data folder whose photographs the gate compares plans and graphs on.",
            show_default="the graphs', if it is here; else noise",
        ),
    ] = None


@takes(BuildOptions)
def build(options: BuildOptions) -> None:
    """Build TensorRT plans of an export's graphs; a plan that is there already, built alike, is kept.

    A plan that this machine can run is judged in millimetres, as the graphs were. Of one that it cannot run, the graph
    must give finite numbers on noise in ONNX Runtime. A plan that fails is named .rejected. A graph of which no plan
    can be built costs no other its plan. The exit code is 1 if either happened. Neither PyTorch nor the checkpoint is
    needed. Prints a line for each graph; the last line of stdout is one JSON object.
    """
    import json

    from rich.console import Console

    from cliphand.errors import InputError
    from engines.artefact.manifest import read_manifest
    from engines.tensorrt.process import buildable_flavours
    from export.gate.images import GateRequest, check_gate

    read_manifest(options.folder)  # a folder that is none is worth the first sentence
    if options.gate_data is not None:
        check_gate(GateRequest(options.gate_data))  # which nothing reads where no plan can be run
    settings = _settings(options)
    asked = () if options.flavour is None else (options.flavour,)
    names, left_out = buildable_flavours(asked)
    if not names:
        raise InputError(str(left_out))
    folders = {
        name: build_shown(options.folder, name, settings, gate_data=options.gate_data) for name in asked or names
    }
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for built in folders.values():
        print_built(built, console)
    if left_out is not None and not asked:
        console.print(left_out)
    typer.echo(json.dumps(_facts(folders)))
    if not all(all_stand(built) for built in folders.values()):
        raise typer.Exit(1)


def _settings(options: BuildOptions) -> "BuildSettings":
    from engines.tensorrt.plan import BatchRange, BuildSettings, parse_range

    return BuildSettings(
        profiles=tuple(parse_range(text) for text in options.batches or ()) or (BatchRange(),),
        level=options.level,
        workspace_mib=options.workspace_mib,
        tf32=options.tf32,
        version_compatible=options.version_compatible,
        hardware=options.hardware,
        compute_capabilities=tuple(options.compute_capability or ()),
        stripped=options.stripped,
    )


def _facts(folders: "Mapping[str, BuiltFolder]") -> dict[str, object]:
    """The JSON form of what was built, by flavour."""
    from engines.tensorrt.plan import has_passed

    plans = [
        {
            "plan": str(plan.path),
            "reused": plan.reused,
            "passed": has_passed(plan.record),
            **{name: plan.record.findings.get(name) for name in ("layers", "engine_layers", "proof", "parity")},
        }
        for built in folders.values()
        for plan in built.plans
    ]
    failures = [
        {"graph": graph, "flavour": name, "reason": reason}
        for name, built in folders.items()
        for graph, reason in built.failures.items()
    ]
    return {"plans": plans, "failures": failures}


def all_stand(built: "BuiltFolder") -> bool:
    """Whether every graph has its plan, and the gate let all pass that could be judged."""
    from engines.tensorrt.plan import has_passed

    return not built.failures and all(has_passed(plan.record) is not False for plan in built.plans)


def print_built(built: "BuiltFolder", console: "Console") -> None:
    """A line for each graph."""
    for plan in built.plans:
        console.print(sentence(plan), markup=False, highlight=False)
    for graph, reason in built.failures.items():
        console.print(f"{graph}: no plan: {reason}.", markup=False, highlight=False)


def sentence(plan: "BuiltPlan") -> str:
    """What was built, in one line."""
    record, size_mb = plan.record, plan.path.stat().st_size / 1e6
    how = "is there already" if plan.reused else f"built in {record.build_s:.1f} s"
    spans = ", ".join(f"{span.min}-{span.max}" for span in record.key.settings.profiles)
    return (
        f"{plan.path}: {how}, {size_mb:.1f} MB, {record.key.precision}, {record.findings.get('proof')}, "
        f"batches {spans}, TensorRT {record.key.tensorrt_version}, {record.findings.get('gpu')}, {verdict(record)}"
    )


def verdict(record: "PlanRecord") -> str:
    """What the gate says of a plan, in half a sentence."""
    from export.gate.parity import few_images

    parity = record.findings.get("parity")
    if not isinstance(parity, dict):
        note = record.findings.get("graph_on_noise")
        return f"gate: {parity} ({note})" if note else f"gate: {parity}"
    failures = parity.get("failures")
    if failures:
        return f"gate: FAILED, set aside: {'; '.join(str(failure) for failure in failures)}"
    compared = parity.get("photographs")
    judged = "noise" if compared is None else "the photographs"
    few = few_images([compared.get("images")]) if isinstance(compared, dict) else None
    noise = parity.get("noise")
    p99 = noise.get("vertices_p99_mm") if isinstance(noise, dict) else None
    near = f", vertices p99 {p99:.3g} mm from its graph's on noise" if isinstance(p99, float) else ""
    return f"gate: passed on {judged}{near}{f' ({few[:1].lower()}{few[1:]})' if few else ''}"


def build_shown(
    folder: Path, flavour: str, settings: "BuildSettings | None" = None, *, gate_data: Path | None = None
) -> "BuiltFolder":
    """The plans of one flavour, judged, under TensorRT's own phases as progress bars on stderr."""
    import dataclasses

    from engines.tensorrt.process import build_plans
    from export.gate.plans import gate_request, judge_plans

    _check_plans(folder, flavour)
    request = gate_request(folder, gate_data)
    # A phase comes again for every part of the network: it is shown while it runs.
    with progress_bars(passing=True) as advance:
        built = build_plans(folder, flavour=flavour, settings=settings, progress=advance)
        return dataclasses.replace(built, plans=tuple(judge_plans(folder, built.plans, request)))


def _check_plans(folder: Path, flavour: str) -> None:
    """Refuse, before hours of work, to replace a plan that somebody else built.

    Raises:
        InputError: it has no sidecar that describes it, or cannot be written.
    """
    from cliphand.claims import check_file
    from engines.artefact.manifest import read_manifest
    from engines.tensorrt.flavour import FLAVOURS
    from engines.tensorrt.plan import plan_path, record_path
    from export.folder.contents import PLAN, PLAN_SIDECAR

    for name in read_manifest(folder).artefacts:
        if name.endswith(".onnx"):
            plan = plan_path(folder / name, FLAVOURS[flavour])
            check_file(plan, PLAN)
            check_file(record_path(plan), PLAN_SIDECAR)
