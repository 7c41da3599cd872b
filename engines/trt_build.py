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
from typing import TYPE_CHECKING

import numpy as np

from cliphand.config import require
from cliphand.files import sha256_of, whole_file, write_json
from engines.base import INPUT_NAME, OUTPUT_SHAPES
from engines.cuda_device import Gpu, find_gpu
from engines.manifest import check_artefact, read_manifest
from engines.ort import OrtEngine
from engines.trt_flavour import FLAVOURS, Flavour, cache_folder, load_polygraphy, load_tensorrt
from engines.trt_network import check_engine_precision, check_precision, count_layers, in_its_words, layer_types, parse
from engines.trt_plan import BuildSettings, PlanKey, PlanRecord, check_settings, plan_path, reusable, write_record
from engines.trt_run import TrtEngine

if TYPE_CHECKING:
    import tensorrt

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all
MIB = 2**20
NO_GPU = "built without a GPU"
NOT_EXECUTED = "not executed here"


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan that now stands in the export folder; `reused` where an equal one stood there already."""

    path: Path
    record: PlanRecord
    reused: bool


def build_folder(folder: Path, flavour: Flavour, settings: BuildSettings, progress: Progress) -> list[BuiltPlan]:
    """Build a plan of every graph in an export folder, in this process; see `engines.trt_process.build_plans`.

    Raises:
        InputError: the folder, a graph or a setting is refused, or TensorRT fails; in its words.
    """
    manifest, found = read_manifest(folder), find_gpu()
    gpu = found if isinstance(found, Gpu) else None
    check_settings(settings, flavour, gpu=gpu)
    version = load_tensorrt(flavour).__version__
    graphs = [folder / name for name in manifest.artefacts if name.endswith(".onnx")]
    require(len(graphs) > 0, f"{folder} lists no ONNX graph; give a folder that `cliphand export` wrote.")
    built = []
    for onnx in graphs:
        graph, checkpoint = check_artefact(manifest, onnx), manifest.checkpoint.sha256
        key = PlanKey(flavour.name, graph.precision, checkpoint, graph.sha256, version, gpu, settings)
        built.append(build_plan(onnx, key, input_size=manifest.input_size, progress=progress))
    return built


def build_plan(onnx: Path, key: PlanKey, *, input_size: int, progress: Progress) -> BuiltPlan:
    """Build one graph's plan and its sidecar, or reuse those that are there.

    Raises:
        InputError: graph or plan are not of the precision that their name says, or TensorRT fails; in its words.
    """
    plan = plan_path(onnx, FLAVOURS[key.flavour])
    known = reusable(plan, key)
    if known is not None:
        return BuiltPlan(plan, known, reused=True)
    start = time.perf_counter()
    content, layers = build_bytes(onnx, key, input_size=input_size, progress=progress)
    build_s = time.perf_counter() - start
    findings: dict[str, object] = {"layers": layers, "engine_layers": None, "gpu": NO_GPU, "parity": NOT_EXECUTED}
    if key.gpu is not None:
        findings |= {"engine_layers": inspect(content, plan, key, input_size=input_size), "gpu": key.gpu.name}
    with whole_file(plan) as temporary:
        temporary.write_bytes(content)
    record = PlanRecord(key, onnx.name, input_size, sha256_of(plan), build_s, findings)
    write_record(record, plan)
    if key.gpu is not None and importlib.util.find_spec("pycuda") is not None:
        record = dataclasses.replace(record, findings=findings | {"parity": measure_parity(plan, onnx)})
        write_record(record, plan)
    return BuiltPlan(plan, record, reused=False)


def build_bytes(onnx: Path, key: PlanKey, *, input_size: int, progress: Progress) -> tuple[bytes, dict[str, int]]:
    """The plan of a graph, and the layers of its network by kind and type.

    Raises:
        InputError: the graph is not of the precision that its name says, or TensorRT rejects it; in its words.
    """
    flavour, settings, cache = FLAVOURS[key.flavour], key.settings, timing_cache(key)
    trt, polygraphy = load_tensorrt(flavour), load_polygraphy(flavour)
    builder, network, parser = parse(onnx, flavour)
    layers = count_layers(network)
    check_precision(key.precision, layers, source=str(onnx))
    hardware = {
        "none": None,  # left unset: TensorRT for RTX warns of any value
        "ampere_plus": trt.HardwareCompatibilityLevel.AMPERE_PLUS,
        "same_compute_capability": trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY,
    }
    workspace, crop = settings.workspace_mib, (3, input_size, input_size)
    create = polygraphy.CreateConfig(
        profiles=[
            polygraphy.Profile().add(INPUT_NAME, min=(span.min, *crop), opt=(span.opt, *crop), max=(span.max, *crop))
            for span in settings.profiles
        ],
        builder_optimization_level=settings.level,
        memory_pool_limits=None if workspace is None else {trt.MemoryPoolType.WORKSPACE: workspace * MIB},
        tf32=settings.tf32,
        load_timing_cache=cache,
        hardware_compatibility_level=hardware[settings.hardware],
        version_compatible=settings.version_compatible,
        strip_plan=settings.stripped,
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
        progress_monitor=monitor(trt, progress),
    )
    config = create(builder, network)
    if settings.stripped:
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)  # the same weights come back: nothing is given up for refit
    set_targets(trt, config, settings.compute_capabilities)
    with in_its_words(f"{flavour.title} {trt.__version__} cannot build {onnx}"):
        plan = polygraphy.engine_bytes_from_network((builder, network, parser), config=config, save_timing_cache=cache)
    return bytes(plan), layers


def set_targets(trt: ModuleType, config: "tensorrt.IBuilderConfig", capabilities: tuple[str, ...]) -> None:
    """Name the GPUs that a plan of TensorRT for RTX is for; none leaves its default ones."""
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        target = trt.ComputeCapability.__members__.get("SM" + capability.replace(".", ""))
        valid = ", ".join(name.removeprefix("SM") for name in trt.ComputeCapability.__members__ if "SM" in name)
        require(
            target is not None and config.set_compute_capability(target, place),
            f"compute capability {capability} is not one that {trt.__name__} builds for: {valid}.",
        )


def timing_cache(key: PlanKey) -> str | None:
    """File of the kernels' timings, which hold for one GPU, CUDA and TensorRT version; None without a GPU."""
    if key.gpu is None:
        return None
    parts = (key.flavour, key.tensorrt_version, f"cuda{key.gpu.cuda_version}", key.gpu.name, key.gpu.compute_capability)
    path = cache_folder() / (re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)) + ".timing")
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)


def monitor(trt: ModuleType, progress: Progress) -> "tensorrt.IProgressMonitor":
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


def inspect(content: bytes, plan: Path, key: PlanKey, *, input_size: int) -> dict[str, int]:
    """Layers of the finished engine by type; the inspector's whole table goes to `<plan>.layers.json`.

    Raises:
        InputError: this GPU does not load the plan, or no layer got the type that the graph's name promises.
    """
    flavour, settings = FLAVOURS[key.flavour], key.settings
    trt = load_tensorrt(flavour)
    runtime = trt.Runtime(load_polygraphy(flavour).get_trt_logger())
    runtime.engine_host_code_allowed = settings.version_compatible
    engine = runtime.deserialize_cuda_engine(content)
    require(engine is not None, f"{flavour.title} built {plan}, but this GPU does not load it.")
    inspector = engine.create_engine_inspector()
    if not settings.stripped:  # without a shape the inspector may leave the types out
        context = engine.create_execution_context()
        context.set_input_shape(INPUT_NAME, (settings.profiles[0].opt, 3, input_size, input_size))
        inspector.execution_context = context
    information = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    write_json(plan.with_name(plan.name + ".layers.json"), information)
    types = layer_types(information)
    check_engine_precision(key.precision, types, source=str(plan))
    return types


def measure_parity(plan: Path, onnx: Path) -> dict[str, object]:
    """Largest differences in uvd to the graph in ONNX Runtime, on noise, at every profile's least and largest batch.

    Raises:
        InputError: the plan cannot be run here.
    """
    worst, finite = dict.fromkeys(OUTPUT_SHAPES, 0.0), True
    with TrtEngine(plan) as runner, OrtEngine(onnx) as reference:
        batches = sorted({size for span in runner.profiles for size in (span.min, span.max)})
        for batch in batches:
            noise = np.random.default_rng(batch).uniform(-1, 1, (batch, 3, runner.input_size, runner.input_size))
            ours, theirs = runner(noise.astype(np.float32)), reference(noise.astype(np.float32))
            for name in worst:
                difference = np.abs(getattr(ours, name) - getattr(theirs, name))
                finite = finite and bool(np.isfinite(difference).all())
                worst[name] = max(worst[name], float(np.nan_to_num(difference).max()))
    return {"reference": "ONNX Runtime", "batches": batches, "max_difference_uvd": worst, "finite": finite}
