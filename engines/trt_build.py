"""Build a TensorRT plan from one typed ONNX graph: no PyTorch, no checkpoint.

One path for TensorRT and TensorRT for RTX, through Polygraphy. The precision is the graph's alone: the parsed network
must be what the graph's name says before it is built, and the finished engine after.
"""

import importlib
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from engines.base import INPUT_NAME
from engines.graph_file import read_graph
from engines.trt_flavour import FLAVOURS, WORDS, Flavour, cache_folder, load_polygraphy, load_tensorrt
from engines.trt_plan import PlanKey

if TYPE_CHECKING:
    import tensorrt

Progress = Callable[[str, int, int], None]  # phase, steps done, steps in all
MIB = 2**20
NOISE = ("ModelImporter.cpp:", "catchCudaError")  # pieces of a trace, and a GPU that is not needed
# What a precision's name promises: the type, the kinds of layer that must have it (as TensorRT's LayerType names them),
# and their least share. In an INT8 graph the matrix products of attention stay in high precision by choice.
PROMISES = {
    "fp32": ("FLOAT", ("CONVOLUTION", "MATRIX_MULTIPLY"), 1.0),
    "fp16": ("HALF", ("CONVOLUTION", "MATRIX_MULTIPLY"), 0.5),
    "int8": ("INT8", ("CONVOLUTION",), 0.5),
}
# A type in the inspector's spelling of a tensor's format: "Half", "Row major linear FP16 format", "... Int8 format".
TYPE_WORD = re.compile("FP16|HALF|INT8|BF16|FP8|FP32|FLOAT")
SAME_TYPE = {"FP16": "HALF", "FP32": "FLOAT"}


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


def count_layers(network: "tensorrt.INetworkDefinition") -> dict[str, int]:
    """Layers by kind and type, such as `CONVOLUTION HALF`.

    The type is the first output's; a layer whose data come straight from a DequantizeLinear counts as INT8, since the
    builder fuses the two into an INT8 kernel.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"}
    counts: Counter[str] = Counter()
    for layer in layers:
        data = layer.get_input(0)
        quantised = data is not None and data.name in dequantised
        counts[f"{layer.type.name} {'INT8' if quantised else layer.get_output(0).dtype.name}"] += 1
    return dict(sorted(counts.items()))


def check_precision(precision: str, layers: Mapping[str, int], *, source: str) -> None:
    """Refuse a graph, named by `source`, whose `layers`, from `count_layers`, are not what its precision's name says.

    Raises:
        InputError: too few of the layers that do the arithmetic are of that type.
    """
    kind, layer_kinds, share = PROMISES[precision]
    compute = {key: count for key, count in layers.items() if key.split()[0] in layer_kinds}
    true = sum(count for key, count in compute.items() if key.split()[1] == kind)
    kept = true > 0 and true >= share * sum(compute.values())
    require(kept, f"{source} is called {precision}, but TensorRT sees {compute or 'no such layer'}; export it again.")


def inspect(content: bytes, plan: Path, key: PlanKey, *, input_size: int) -> dict[str, int]:
    """Layers of the finished engine by type; the inspector's whole table goes to `<plan>.layers.json`.

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
    write_json(plan.with_name(plan.name + ".layers.json"), information)
    return layer_types(information)


def check_call(result: object, call: str) -> None:
    """Raise RuntimeError, which `in_its_words` makes a sentence, where a call of TensorRT gave None or False."""
    if not result:
        raise RuntimeError(f"{call} failed")


def check_engine_precision(precision: str, types: Mapping[str, object], *, source: str) -> None:
    """Raise InputError where layers of a finished engine tell their `types`, and the promised one is not among them."""
    # Before its just-in-time compilation, an engine of TensorRT for RTX may tell none.
    kept = types.keys() <= {"other"} or PROMISES[precision][0] in types
    require(kept, f"{source} is called {precision}, but TensorRT built it from layers of {types}; do not use it.")


def layer_types(information: Mapping[str, Sequence[object]]) -> dict[str, int]:
    """Layers by the type of their first output, from the JSON of `EngineInspector.get_engine_information`."""
    counts: Counter[str] = Counter()
    for entry in information.get("Layers", ()):
        outputs = entry.get("Outputs") if isinstance(entry, dict) else None
        word = TYPE_WORD.search(outputs[0].get("Format/Datatype", "").upper()) if outputs else None
        counts[SAME_TYPE.get(word[0], word[0]) if word else "other"] += 1
    return dict(counts)


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
