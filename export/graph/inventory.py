"""What a graph holds and costs, stage by stage: operators, GFLOP, bytes of weights and of intermediate results.

FLOP are those of Conv, ConvTranspose, MatMul and Gemm, two for each multiply and add; what works element by element is
left out, as is usual. Stages come from the nodes' names (`export.graph.node_names`).
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, NodeProto
from onnx.shape_inference import InferenceError

from cliphand.errors import InputError
from engines.artefact.graph_file import read_graph
from export.graph.node_names import STAGES, stage_of
from export.graph.tensors import TensorType, tensor_types

GIGA = 1e9
Types = Mapping[str, TensorType]


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage, for one image.

    Attributes:
        stage: its name.
        operators: nodes by operator, most frequent first.
        gflop: of its matrix products and convolutions.
        weight_bytes: of its weights; one that several stages read counts in the first.
        activation_bytes: of all its nodes' results, as a run-time that fuses nothing writes them.
    """

    stage: str
    operators: Mapping[str, int]
    gflop: float
    weight_bytes: int
    activation_bytes: int


def inventory(model: ModelProto) -> tuple[StageCost, ...]:
    """Cost of each stage that has nodes, in the order of the network.

    Raises:
        onnx.shape_inference.InferenceError: the graph's shapes contradict each other.
    """
    types = tensor_types(model, batch=1)
    nodes: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        nodes.setdefault(stage_of(node.name), []).append(node)
    weights = {tensor.name for tensor in model.graph.initializer}
    costs = []
    for stage in sorted(nodes, key=lambda name: STAGES.index(name) if name in STAGES else len(STAGES)):
        own = weights & {value for node in nodes[stage] for value in node.input}
        weights -= own
        costs.append(_cost(stage, nodes[stage], own, types))
    return tuple(costs)


def read_inventory(path: Path) -> tuple[StageCost, ...]:
    """Cost of each stage of an ONNX file, which may come from anywhere.

    Raises:
        InputError: the file is refused by `read_graph`, or its shapes contradict each other or are left open.
    """
    model = read_graph(path)
    try:
        return inventory(model)
    except (InferenceError, IndexError, KeyError, ValueError) as error:
        words = " ".join(str(error).split())
        raise InputError(f"{path}: the shapes of its tensors cannot be told ({words}); export it again.") from None


def total(costs: tuple[StageCost, ...]) -> StageCost:
    """The sum over stages."""
    return StageCost(
        stage="total",
        operators=_sorted(sum((Counter(cost.operators) for cost in costs), Counter())),
        gflop=sum(cost.gflop for cost in costs),
        weight_bytes=sum(cost.weight_bytes for cost in costs),
        activation_bytes=sum(cost.activation_bytes for cost in costs),
    )


def _cost(stage: str, nodes: list[NodeProto], weights: set[str], types: Types) -> StageCost:
    results = [value for node in nodes for value in node.output if value]
    return StageCost(
        stage=stage,
        operators=_sorted(Counter(node.op_type for node in nodes)),
        gflop=sum(FLOP[node.op_type](node, types) for node in nodes if node.op_type in FLOP) / GIGA,
        weight_bytes=int(sum(types[name].n_bytes for name in weights)),
        activation_bytes=int(sum(types[name].n_bytes for name in results)),
    )


def _sorted(operators: Counter[str]) -> dict[str, int]:
    return dict(sorted(operators.items(), key=lambda item: (-item[1], item[0])))


def _conv(node: NodeProto, types: Types) -> int:
    """Each output number is a product over the kernel's input channels and taps."""
    return 2 * types[node.output[0]].size * math.prod(_extents(node.input[1], types)[1:])


def _conv_transpose(node: NodeProto, types: Types) -> int:
    """Each input number spreads over the kernel's output channels and taps."""
    return 2 * types[node.input[0]].size * math.prod(_extents(node.input[1], types)[1:])


def _matmul(node: NodeProto, types: Types) -> int:
    return 2 * types[node.output[0]].size * _extents(node.input[0], types)[-1]


def _gemm(node: NodeProto, types: Types) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return 2 * types[node.output[0]].size * _extents(node.input[0], types)[0 if transposed else -1]


def _extents(value: str, types: Types) -> tuple[int, ...]:
    return tuple(extent or 0 for extent in types[value].shape)


FLOP: dict[str, Callable[[NodeProto, Types], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
