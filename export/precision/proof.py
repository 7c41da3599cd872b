"""Proof that a graph is what its name says: layers by kind and type as TensorRT sees them, and weight bytes by type.

TensorRT for RTX parses the graph into a strongly typed network and builds it; neither needs a GPU. It does so in a
process of its own: the builder takes gigabytes and may end its process on an internal error.
"""

import math
import multiprocessing
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import onnx

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.lifeline import end_with_parent
from engines.artefact.graph_file import read_graph
from engines.tensorrt.build import build_bytes
from engines.tensorrt.flavour import TENSORRT_RTX, load_tensorrt, why_not_built
from engines.tensorrt.plan import BuildSettings, PlanKey
from export.precision.maker import PRECISIONS

BYTES = {"FLOAT": 4, "FLOAT16": 2, "BFLOAT16": 2, "INT8": 1}  # of a weight, by its type
LEAST_SHARE = 0.5  # "mostly": of the weights' numbers


@dataclass(frozen=True, slots=True)
class Proof:
    """What TensorRT and the file itself say about a graph.

    Attributes:
        tensorrt: version that parsed and built it; None where TensorRT was not asked.
        layers: such as `CONVOLUTION HALF`, with their count; empty where TensorRT was not asked.
        plan_bytes: size of the built plan; 0 where TensorRT was not asked.
        weight_bytes: bytes of the graph's floating-point and INT8 constants by type.
        why_not: why TensorRT was not asked, as half a sentence; None where it was.
    """

    tensorrt: str | None
    layers: Mapping[str, int]
    plan_bytes: int
    weight_bytes: Mapping[str, int]
    why_not: str | None = None


def prove(path: Path, precision: str, *, tensorrt: bool = True) -> Proof:
    """Parse, build and count.

    Args:
        path: the ONNX graph.
        precision: what its name says: `fp32`, or one of `export.precision.maker.PRECISIONS`.
        tensorrt: ask TensorRT for RTX where it is installed; without it only the file speaks.

    Raises:
        InputError: TensorRT rejects the graph, in its own words, or the graph is not mostly of that precision.
    """
    graph = read_graph(path).graph
    side = graph.input[0].type.tensor_type.shape.dim[3].dim_value
    weights = weight_bytes(graph)
    check_weights(precision, weights, source=str(path))
    if (why_not := why_not_asked(tensorrt=tensorrt)) is not None:
        return Proof(None, {}, 0, weights, why_not)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent) as process:
            version, layers, plan_bytes = process.submit(_build, path, precision, side).result()
    except BrokenProcessPool:
        raise InputError(f"TensorRT for RTX ended its process while it built {path}; export it again.") from None
    return Proof(version, layers, plan_bytes, weights)


def why_not_asked(*, tensorrt: bool) -> str | None:
    """Why TensorRT for RTX says nothing about a graph, as half a sentence; None where it is asked.

    Args:
        tensorrt: whether it is wanted.
    """
    return why_not_built(TENSORRT_RTX) if tensorrt else "--no-tensorrt left it out"


def weight_bytes(graph: onnx.GraphProto) -> dict[str, int]:
    """Bytes of the constants by type, those of indices and shapes left out."""
    counts: Counter[str] = Counter()
    for constant in graph.initializer:
        kind = onnx.TensorProto.DataType.Name(constant.data_type)
        if kind in BYTES:
            counts[kind] += math.prod(constant.dims) * BYTES[kind]
    return dict(sorted(counts.items()))


def check_weights(precision: str, weights: Mapping[str, int], *, source: str) -> None:
    """Refuse a graph whose weights are not mostly of the type that its name says.

    Raises:
        InputError: less than half of the numbers are of that type.
    """
    promised = PRECISIONS[precision].weights if precision in PRECISIONS else "FLOAT"
    numbers = {kind: count // BYTES[kind] for kind, count in weights.items()}
    share = numbers.get(promised, 0) / max(sum(numbers.values()), 1)
    require(
        share >= LEAST_SHARE,
        f"{source} is called {precision}, but only {share:.0%} of its weights are {promised} "
        f"({dict(weights)} bytes); keep fewer nodes in higher precision.",
    )


def _build(path: Path, precision: str, side: int) -> tuple[str, dict[str, int], int]:
    """In the process: TensorRT's version, the parsed network's layers and the plan's size."""
    version = load_tensorrt(TENSORRT_RTX).__version__
    key = PlanKey("tensorrt-rtx", precision, "", "", version, None, BuildSettings())
    plan, layers = build_bytes(path, key, input_size=side, progress=lambda phase, done, total: None)
    return version, layers, len(plan)
