"""Build TensorRT plans from the typed ONNX graphs of an export folder: no PyTorch, no checkpoint.

One path for TensorRT and TensorRT for RTX, through Polygraphy. The precision is the graph's alone; before anything is
built, the parsed network must be what the graph's name says.
"""

import dataclasses
import importlib.util
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import sha256_of, whole_file, write_json
from engines.base import INPUT_NAME
from engines.cuda_device import Gpu, find_gpu
from engines.manifest import check_artefact, read_manifest
from engines.trt_flavour import Flavour, cache_folder, flavour_named, load_tensorrt
from engines.trt_network import Parsed, count_layers, in_its_words, parse
from engines.trt_parity import measure_parity
from engines.trt_plan import (
    BatchRange,
    BuildSettings,
    PlanKey,
    PlanRecord,
    make_key,
    plan_path,
    reusable,
    write_record,
)
from engines.trt_rules import check_engine_precision, check_precision, check_settings, layer_types

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all
MIB = 2**20


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan that now stands in the export folder; `reused` where an equal one stood there already."""

    path: Path
    record: PlanRecord
    reused: bool


class _TargetedConfig(Protocol):
    """TensorRT for RTX's additions to IBuilderConfig."""

    num_compute_capabilities: int

    def set_compute_capability(self, target: object, index: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One graph to build.

    Attributes:
        onnx: the graph.
        input_size: side of its square crops in pixels.
        flavour: that builds it.
        key: with the settings.
        gpu: of this machine, or None.
    """

    onnx: Path
    input_size: int
    flavour: Flavour
    key: PlanKey
    gpu: Gpu | None

    @property
    def plan(self) -> Path:
        """Where the plan will stand."""
        return plan_path(self.onnx, self.flavour)


def build_folder(folder: Path, flavour_name: str, settings: BuildSettings, progress: Progress) -> list[BuiltPlan]:
    """Build a plan of every graph in an export folder, in this process; see `engines.trt_process.build_plans`.

    Raises:
        InputError: the folder, a graph or a setting is refused, or TensorRT fails; in its words.
    """
    flavour, manifest, found = flavour_named(flavour_name), read_manifest(folder), find_gpu()
    gpu = found if isinstance(found, Gpu) else None
    check_settings(settings, flavour, gpu=gpu)
    version = load_tensorrt(flavour).__version__
    graphs = [folder / name for name in manifest.artefacts if name.endswith(".onnx")]
    require(len(graphs) > 0, f"{folder} lists no ONNX graph; give a folder that `cliphand export` wrote.")
    built = []
    for onnx in graphs:
        artefact = check_artefact(manifest, onnx)
        key = make_key(
            flavour,
            settings,
            version=version,
            gpu=gpu,
            precision=artefact.precision,
            checkpoint_sha256=manifest.checkpoint.sha256,
            onnx_sha256=artefact.sha256,
        )
        built.append(build_plan(Job(onnx, manifest.input_size, flavour, key, gpu), progress))
    return built


def build_plan(job: Job, progress: Progress) -> BuiltPlan:
    """Build one graph's plan and its sidecar, or reuse those that are there.

    Raises:
        InputError: the graph is not of the precision that its name says, or TensorRT rejects it; in its words.
    """
    known = reusable(job.plan, job.key)
    if known is not None:
        return BuiltPlan(job.plan, known, reused=True)
    parsed = parse(job.onnx, job.flavour)
    layers = count_layers(parsed.network)
    check_precision(job.key.precision, layers, source=str(job.onnx))
    start = time.perf_counter()
    with in_its_words(f"{job.flavour.title} {job.key.tensorrt_version} cannot build {job.onnx}"):
        content = _optimise(parsed, job, progress)
    build_s = time.perf_counter() - start
    with whole_file(job.plan) as temporary:
        temporary.write_bytes(content)
    table = None if job.gpu is None else _inspect(parsed, job, content)
    record = PlanRecord(
        key=job.key,
        onnx=job.onnx.name,
        input_size=job.input_size,
        plan_sha256=sha256_of(job.plan),
        build_s=build_s,
        layers=layers,
        engine_layers=table,
    )
    write_record(record, job.plan)
    if job.gpu is not None and importlib.util.find_spec("pycuda") is not None:
        record = dataclasses.replace(record, parity=measure_parity(job.plan, job.onnx))
        write_record(record, job.plan)
    return BuiltPlan(job.plan, record, reused=False)


def _optimise(parsed: Parsed, job: Job, progress: Progress) -> bytes:
    """The plan's bytes."""
    trt, polygraphy, settings = parsed.trt, parsed.polygraphy, job.key.settings
    hardware = {
        "none": None,  # left unset: TensorRT for RTX warns of any value
        "ampere_plus": trt.HardwareCompatibilityLevel.AMPERE_PLUS,
        "same_compute_capability": trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY,
    }
    workspace, cache = settings.workspace_mib, timing_cache(job.key)
    create = polygraphy.CreateConfig(
        profiles=[_profile(polygraphy, span, job.input_size) for span in settings.profiles],
        builder_optimization_level=settings.level,
        memory_pool_limits=None if workspace is None else {trt.MemoryPoolType.WORKSPACE: workspace * MIB},
        tf32=settings.tf32,
        load_timing_cache=cache,
        hardware_compatibility_level=hardware[settings.hardware],
        version_compatible=settings.version_compatible,
        strip_plan=settings.stripped,
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
        progress_monitor=_monitor(trt, progress),
    )
    config = create(parsed.builder, parsed.network)
    if settings.stripped:
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)  # the same weights come back: nothing is given up for refit
    _set_targets(trt, config, settings.compute_capabilities)
    network = (parsed.builder, parsed.network, parsed.parser)
    return bytes(polygraphy.engine_bytes_from_network(network, config=config, save_timing_cache=cache))


def _profile(polygraphy: ModuleType, span: BatchRange, side: int) -> object:
    """An optimisation profile of the one input."""
    shapes = {bound: (getattr(span, bound), 3, side, side) for bound in ("min", "opt", "max")}
    return polygraphy.Profile().add(INPUT_NAME, **shapes)


def _set_targets(trt: ModuleType, config: "_TargetedConfig", capabilities: tuple[str, ...]) -> None:
    """Name the GPUs that a plan of TensorRT for RTX is for; none leaves its default ones."""
    if not capabilities:
        return
    config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        target = trt.ComputeCapability.__members__.get("SM" + capability.replace(".", ""))
        if target is None:
            valid = ", ".join(name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if "SM" in name)
            raise InputError(f"compute capability {capability} is not one that {trt.__name__} builds for: {valid}.")
        require(config.set_compute_capability(target, place), f"compute capability {capability} is refused.")


def timing_cache(key: PlanKey) -> str | None:
    """File of the kernels' timings, which hold for one GPU, CUDA and TensorRT version; None without a GPU."""
    if key.compute_capability is None:
        return None
    gpu = re.sub(r"[^A-Za-z0-9]+", "-", key.gpu)
    name = f"{key.flavour}-{key.tensorrt_version}-cuda{key.cuda_version}-{gpu}-{key.compute_capability}.timing"
    path = cache_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)


def _monitor(trt: ModuleType, progress: Progress) -> object:
    """TensorRT's IProgressMonitor, reporting to `progress`."""
    steps: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, steps[phase_name])
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            progress(phase_name, steps[phase_name], steps[phase_name])

    return Monitor()


def _inspect(parsed: Parsed, job: Job, content: bytes) -> dict[str, int]:
    """Layers of the finished engine by type; the inspector's whole table goes to `<plan>.layers.json`.

    Raises:
        InputError: this GPU does not load the plan, or no layer got the type that the graph's name promises.
    """
    trt, settings = parsed.trt, job.key.settings
    runtime = trt.Runtime(parsed.logger)
    runtime.engine_host_code_allowed = settings.version_compatible
    engine = runtime.deserialize_cuda_engine(content)
    require(engine is not None, f"{job.flavour.title} built {job.plan}, but {job.key.gpu} does not load it.")
    inspector = engine.create_engine_inspector()
    context = None if settings.stripped else engine.create_execution_context()
    if context is not None:  # without a shape the inspector may leave the types out
        side = job.input_size
        context.set_input_shape(INPUT_NAME, (settings.profiles[0].opt, 3, side, side))
        inspector.execution_context = context
    information = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    write_json(job.plan.with_name(job.plan.name + ".layers.json"), information)
    types = layer_types(information)
    check_engine_precision(job.key.precision, types, source=str(job.plan))
    return types
