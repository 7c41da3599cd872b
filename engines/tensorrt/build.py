"""Build a TensorRT plan from one typed ONNX graph: no PyTorch, no checkpoint.

One path for TensorRT and TensorRT for RTX, through Polygraphy. The precision is the graph's alone: the parsed network
must be what the graph's name says before it is built, and the finished engine after.
"""

import importlib
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from onnx import TensorProto
from onnx.shape_inference import infer_shapes

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import write_json
from cliphand.progress import Progress
from engines.artefact.graph_file import read_graph
from engines.base import INPUT_NAME
from engines.tensorrt.flavour import FLAVOURS, WORDS, Flavour, cache_folder, load_polygraphy, load_tensorrt
from engines.tensorrt.layers import check_precision, count_layers, engine_layers
from engines.tensorrt.plan import PlanKey

if TYPE_CHECKING:
    import tensorrt

MIB = 2**20
NOISE = ("ModelImporter.cpp:", "catchCudaError")  # pieces of a trace, and a GPU that is not needed


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
    hardware = {  # "none" is left unset: TensorRT for RTX warns of any value
        "ampere_plus": trt.HardwareCompatibilityLevel.AMPERE_PLUS,
        "same_compute_capability": trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY,
    }
    workspace, crop = settings.workspace_mib, (3, input_size, input_size)
    config = polygraphy.create_config(
        builder,
        network,
        profiles=[
            polygraphy.Profile().add(INPUT_NAME, (span.min, *crop), (span.opt, *crop), (span.max, *crop))
            for span in settings.profiles
        ],
        builder_optimization_level=settings.level,
        memory_pool_limits=None if workspace is None else {trt.MemoryPoolType.WORKSPACE: workspace * MIB},
        tf32=settings.tf32,
        load_timing_cache=cache,
        hardware_compatibility_level=hardware.get(settings.hardware),
        version_compatible=settings.version_compatible,
        strip_plan=settings.stripped,
        profiling_verbosity=trt.ProfilingVerbosity.DETAILED,
        progress_monitor=monitor(trt, progress),
    )
    if settings.stripped:
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)  # the same weights come back: nothing is given up for refit
    if settings.compute_capabilities:
        set_targets(trt, config, settings.compute_capabilities)
    with in_its_words(f"{flavour.title} {trt.__version__} cannot build {onnx}"):
        plan = polygraphy.engine_bytes_from_network((builder, network, parser), config=config, save_timing_cache=cache)
    return bytes(plan), layers


def set_targets(trt: ModuleType, config: "tensorrt.IBuilderConfig", capabilities: tuple[str, ...]) -> None:
    """Name the GPUs that a plan of TensorRT for RTX is for, such as `8.9`."""
    known = {name.removeprefix("SM"): kind for name, kind in trt.ComputeCapability.__members__.items() if "SM" in name}
    config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        target = known.get(capability.replace(".", ""))
        taken = target is not None and config.set_compute_capability(target, place)
        require(
            taken, f"compute capability {capability} is not one that {trt.__name__} builds for: {', '.join(known)}."
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
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            steps[phase_name] = num_steps
            progress(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress(phase_name, step + 1, steps[phase_name])
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            progress(phase_name, steps[phase_name], steps[phase_name])

    return Monitor()


def parse(onnx: Path, flavour: Flavour) -> "tuple[tensorrt.Builder, tensorrt.INetworkDefinition, tensorrt.OnnxParser]":
    """Read a graph into a strongly typed network: every layer computes in the type that the graph gives it.

    Returns:
        The network between its builder and its parser, which must live as long as it does.

    Raises:
        InputError: the flavour cannot be used here, the file is refused by `read_graph`, or the parser rejects the
            graph; in the parser's words.
    """
    trt, polygraphy = load_tensorrt(flavour), load_polygraphy(flavour)
    graph = infer_shapes(read_graph(onnx)).graph
    with in_its_words(f"{flavour.title} {trt.__version__} rejects {onnx}"):
        builder, network, parser = polygraphy.network_from_onnx_path(str(onnx), strongly_typed=True)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    types |= {constant.name: constant.data_type for constant in graph.initializer}
    doubles = ", ".join(name for name, kind in types.items() if kind == TensorProto.DOUBLE)
    require(
        not doubles, f"{onnx} holds float64 tensors ({doubles}), which TensorRT rounds to float32; export it again."
    )
    return builder, network, parser


def inspect(content: bytes, plan: Path, key: PlanKey, *, input_size: int) -> dict[str, int]:
    """Layers of the finished engine, from `engine_layers`; the inspector's whole table goes to `<plan>.layers.json`.

    Raises:
        InputError: this GPU does not load the plan.
    """
    flavour, opt = FLAVOURS[key.flavour], key.settings.profiles[0].opt
    trt, polygraphy = load_tensorrt(flavour), load_polygraphy(flavour)
    with in_its_words(f"{flavour.title} built {plan}, but this GPU does not load it"):
        engine = polygraphy.engine_from_bytes(content)
        check_call(inspector := engine.create_engine_inspector(), "create_engine_inspector")
        if not key.settings.stripped:  # without a shape the inspector may leave the types out
            check_call(context := engine.create_execution_context(), "create_execution_context")
            check_call(context.set_input_shape(INPUT_NAME, (opt, 3, input_size, input_size)), "set_input_shape")
            inspector.execution_context = context
    information = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    write_json(plan.with_name(plan.name + ".layers.json"), information, None)
    return engine_layers(information)


def check_call(result: object, call: str) -> None:
    """Raise RuntimeError, which `in_its_words` makes a sentence, where a call of TensorRT gave None or False."""
    if not result:
        raise RuntimeError(f"{call} failed")


@contextmanager
def in_its_words(what: str) -> Iterator[None]:
    """Turn a failure inside TensorRT into one sentence: `what`, and what TensorRT itself said.

    Raises:
        InputError: TensorRT or Polygraphy failed.
    """
    logger = importlib.import_module("polygraphy.logger").G_LOGGER
    logger.use_python_logging_system, logger.colors, logger.letter = True, False, False
    listener, channel = BufferingHandler(sys.maxsize), logging.getLogger("Polygraphy")
    channel.propagate = False
    channel.addHandler(listener)
    failure = importlib.import_module("polygraphy.exception").PolygraphyException
    try:
        yield
    except (failure, TypeError, RuntimeError) as error:  # TypeError: a builder that its library did not create
        # Polygraphy's own summary is critical; the importer's trace repeats in pieces what the parser's error says.
        errors = (" ".join(event.getMessage().split()) for event in listener.buffer if event.levelno == logging.ERROR)
        words = "; ".join(dict.fromkeys(text for text in errors if not any(noise in text for noise in NOISE)))
        raise InputError(f"{what}: {(words or str(error))[:WORDS]}") from None
    finally:
        channel.removeHandler(listener)
