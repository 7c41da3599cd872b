"""An ONNX graph as TensorRT sees it: parsed into a strongly typed network, and proof that it is what its name says."""

import importlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onnx import GraphProto, TensorProto, load_model

from cliphand.config import require
from cliphand.errors import InputError
from engines.trt_flavour import WORDS, Flavour, load_polygraphy, load_tensorrt

if TYPE_CHECKING:
    import tensorrt

NOISE = ("ModelImporter.cpp:", "catchCudaError")  # pieces of a trace, and a GPU that is not needed
# What a precision's name promises: the type, the kinds of layer that must have it (as TensorRT's LayerType names them),
# and their least share. In an INT8 graph the matrix products of attention stay in high precision by choice.
PROMISES = {
    "fp32": ("FLOAT", ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"), 1.0),
    "fp16": ("HALF", ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"), 0.5),
    "int8": ("INT8", ("CONVOLUTION",), 0.5),
}
# As the inspector spells a tensor's format: "Half", "Row major linear FP16 format", "Int8 ...".
TYPE_WORDS = {
    "FP16": ("FP16", "HALF"),
    "INT8": ("INT8",),
    "BF16": ("BF16",),
    "FP8": ("FP8",),
    "FP32": ("FP32", "FLOAT"),
}


def parse(onnx: Path, flavour: Flavour) -> "tuple[tensorrt.Builder, tensorrt.INetworkDefinition, tensorrt.OnnxParser]":
    """Read a graph into a strongly typed network: every layer computes in the type that the graph gives it.

    Returns:
        The network between its builder and its parser, which must live as long as it does.

    Raises:
        InputError: the flavour cannot be used here, or its parser rejects the graph; in the parser's words.
    """
    trt, polygraphy = load_tensorrt(flavour), load_polygraphy(flavour)
    doubles = ", ".join(float64_tensors(load_model(onnx).graph))
    require(
        not doubles,
        f"{onnx} holds float64 tensors ({doubles}), which TensorRT rounds to float32 without a word; export it again.",
    )
    with in_its_words(f"{flavour.title} {trt.__version__} rejects {onnx}"):
        builder, network, parser = polygraphy.network_from_onnx_path(str(onnx), strongly_typed=True)
    return builder, network, parser


def float64_tensors(graph: GraphProto) -> list[str]:
    """Names of what brings float64 into a graph: inputs, constants, and outputs of nodes with a float64 attribute."""
    names = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.DOUBLE]
    names += [constant.name for constant in graph.initializer if constant.data_type == TensorProto.DOUBLE]
    for node in graph.node:
        casts = node.op_type == "Cast" and any(attribute.i == TensorProto.DOUBLE for attribute in node.attribute)
        if casts or any(attribute.t.data_type == TensorProto.DOUBLE for attribute in node.attribute):
            names += node.output
    return names


def count_layers(network: "tensorrt.INetworkDefinition") -> dict[str, int]:
    """Layers by kind and type, such as `CONVOLUTION HALF`.

    The type is the first output's; a layer whose data come straight from a DequantizeLinear counts as INT8, since the
    builder fuses the two into an INT8 kernel.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"}
    counts: Counter[str] = Counter()
    for layer in layers:
        data = layer.get_input(0) if layer.num_inputs else None
        quantised = data is not None and data.name in dequantised
        counts[f"{layer.type.name} {'INT8' if quantised else layer.get_output(0).dtype.name}"] += 1
    return dict(sorted(counts.items()))


def check_precision(precision: str, layers: Mapping[str, int], *, source: str) -> None:
    """Refuse a graph whose arithmetic is not what its name says.

    Args:
        precision: `fp32`, `fp16` or `int8`; any other name states nothing.
        layers: from `count_layers`.
        source: named in the error.

    Raises:
        InputError: too few of the layers that do the arithmetic are of that type.
    """
    if precision not in PROMISES:
        return
    kind, layer_kinds, share = PROMISES[precision]
    compute = {key: count for key, count in layers.items() if key.split()[0] in layer_kinds}
    true = sum(count for key, count in compute.items() if key.split()[1] == kind)
    require(
        true >= share * sum(compute.values()) and true > 0,
        f"{source} is called {precision}, but TensorRT sees {compute or 'none of the layers that count'}; export it "
        "again.",
    )


def check_engine_precision(precision: str, engine_layers: Mapping[str, int], *, source: str) -> None:
    """Refuse a plan of a reduced precision in which no layer got that type.

    Raises:
        InputError: `engine_layers`, from `layer_types`, do not hold it.
    """
    wanted = {"fp16": "FP16", "int8": "INT8"}.get(precision)
    require(
        wanted is None or engine_layers.get(wanted, 0) > 0,
        f"{source} is called {precision}, but TensorRT built it from layers of {dict(engine_layers)}; do not use it.",
    )


def layer_types(information: Mapping[str, object]) -> dict[str, int]:
    """Layers by the type of their first output, from the JSON of `EngineInspector.get_engine_information`."""
    counts: Counter[str] = Counter()
    layers = information.get("Layers")
    for entry in layers if isinstance(layers, list) else []:
        outputs = entry.get("Outputs") if isinstance(entry, Mapping) else None
        text = str(outputs[0].get("Format/Datatype", "")).upper() if outputs else ""
        counts[next((name for name, words in TYPE_WORDS.items() if any(word in text for word in words)), "other")] += 1
    return dict(counts)


@contextmanager
def in_its_words(what: str) -> Iterator[None]:
    """Turn a failure inside TensorRT into one sentence: `what`, and what TensorRT itself said.

    Raises:
        InputError: TensorRT or Polygraphy failed.
    """
    logger = importlib.import_module("polygraphy.logger").G_LOGGER
    logger.use_python_logging_system, logger.colors, logger.letter = True, False, False
    listener, channel = _Listener(), logging.getLogger("Polygraphy")
    channel.propagate = False
    channel.addHandler(listener)
    failure = importlib.import_module("polygraphy.exception").PolygraphyException
    try:
        yield
    except (failure, TypeError, RuntimeError) as error:  # TypeError: a builder that its library did not create
        words = "; ".join(listener.heard or [str(error)])
        raise InputError(f"{what}: {words[:WORDS]}") from None
    finally:
        channel.removeHandler(listener)


class _Listener(logging.Handler):
    """Keeps the errors, each once, on one line."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = " ".join(record.getMessage().split())
        # Polygraphy's own summary is critical; the importer's trace repeats in pieces what the parser's error says.
        if record.levelno < logging.CRITICAL and not any(noise in words for noise in (*NOISE, *self.heard)):
            self.heard.append(words)
