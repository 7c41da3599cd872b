"""An ONNX graph as TensorRT's own parser reads it: a strongly typed network, and the type of each of its layers."""

import importlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from onnx import GraphProto, TensorProto, load_model

from cliphand.config import require
from cliphand.errors import InputError
from engines.trt_flavour import Flavour, load_polygraphy, load_tensorrt
from engines.trt_rules import WORDS

NOISE = ("ModelImporter.cpp:", "catchCudaError")  # pieces of a trace, and a GPU that is not needed


class _DataType(Protocol):
    name: str


class _Tensor(Protocol):
    name: str
    dtype: _DataType


class _Layer(Protocol):
    type: _DataType
    num_inputs: int
    num_outputs: int

    def get_input(self, index: int) -> _Tensor | None: ...
    def get_output(self, index: int) -> _Tensor: ...


class Network(Protocol):
    """The part of TensorRT's INetworkDefinition that is read here."""

    num_layers: int

    def get_layer(self, index: int) -> _Layer:
        """Layer number `index`."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed graph, with what must stay alive as long as it does.

    Attributes:
        trt: the flavour's module.
        polygraphy: its TensorRT backend.
        builder: TensorRT's builder.
        network: of the builder.
        parser: owner of the weights that the network refers to.
        logger: the one that TensorRT has in this process.
    """

    trt: ModuleType
    polygraphy: ModuleType
    builder: object
    network: Network
    parser: object
    logger: object


def parse(onnx: Path, flavour: Flavour) -> Parsed:
    """Read a graph into a strongly typed network: every layer computes in the type that the graph gives it.

    Raises:
        InputError: the flavour cannot be used here, or its parser rejects the graph; in the parser's words.
    """
    trt, polygraphy = load_tensorrt(flavour), load_polygraphy(flavour)
    doubles = float64_tensors(load_model(onnx).graph)
    require(
        not doubles,
        f"{onnx} holds float64 tensors ({', '.join(doubles)}), which TensorRT rounds to float32 without a word; export "
        "it again.",
    )
    with in_its_words(f"{flavour.title} {trt.__version__} rejects {onnx}"):
        parts = polygraphy.network_from_onnx_path(str(onnx), strongly_typed=True)
    builder, network, parser = parts
    return Parsed(trt, polygraphy, builder, cast("Network", network), parser, polygraphy.get_trt_logger())


def float64_tensors(graph: GraphProto) -> list[str]:
    """Names of what brings float64 into a graph: inputs, constants, and outputs of nodes with a float64 attribute."""
    names = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.DOUBLE]
    names += [constant.name for constant in graph.initializer if constant.data_type == TensorProto.DOUBLE]
    for node in graph.node:
        casts = node.op_type == "Cast" and any(attribute.i == TensorProto.DOUBLE for attribute in node.attribute)
        if casts or any(attribute.t.data_type == TensorProto.DOUBLE for attribute in node.attribute):
            names += node.output
    return names


def count_layers(network: Network) -> dict[str, int]:
    """Layers by kind and type, such as `CONVOLUTION HALF`.

    The type is the first output's; a layer whose data come straight from a DequantizeLinear counts as INT8, since the
    builder fuses the two into an INT8 kernel.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {
        layer.get_output(place).name
        for layer in layers
        if layer.type.name == "DEQUANTIZE"
        for place in range(layer.num_outputs)
    }
    counts: Counter[str] = Counter()
    for layer in layers:
        data = layer.get_input(0) if layer.num_inputs else None
        quantised = data is not None and data.name in dequantised
        counts[f"{layer.type.name} {'INT8' if quantised else layer.get_output(0).dtype.name}"] += 1
    return dict(sorted(counts.items()))


@contextmanager
def in_its_words(what: str) -> Iterator[None]:
    """Turn a failure inside TensorRT into one sentence: `what`, and what TensorRT itself said.

    Raises:
        InputError: TensorRT or Polygraphy failed.
    """
    logger = importlib.import_module("polygraphy.logger").G_LOGGER
    logger.use_python_logging_system, logger.colors, logger.letter = True, False, False
    listener = _Listener()
    channel = logging.getLogger("Polygraphy")
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
