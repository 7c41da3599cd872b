"""INT8 as PyTorch trains through it: rounded where the exported graph has its Q and DQ, straight through for gradients.

A place in the graph is a node and one of its inputs. The same place in the folded network is found by the weight that
takes part, or, for nodes without one, by the module, the kind of operation and its turn in that module, which is how
`export.graph.node_names` names nodes. ModelOpt's own quantisation of PyTorch modules is not used: it knows layers, and
the folded network's products are not layers.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from export.precision.quantise import DEQUANTISE, LARGEST_INT8, QUANTISE

Result = TypeVar("Result")
LOWEST, HIGHEST = -128, 127
# PyTorch's functions by the node that the exporter makes of them.
NODES = {
    "Add": ("add", "add_", "__add__", "__iadd__", "__radd__"),
    "AveragePool": ("avg_pool2d",),
    "Concat": ("cat", "concat"),
    "GlobalAveragePool": ("adaptive_avg_pool2d",),
    "MaxPool": ("max_pool2d",),
    "Mul": ("mul", "mul_", "__mul__", "__imul__", "__rmul__"),
    "Pad": ("pad",),
    "ReduceMean": ("mean",),
    "Reshape": ("reshape", "view", "flatten", "unflatten"),
}
OP_TYPES = {function: op_type for op_type, functions in NODES.items() for function in functions}
PRODUCTS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True, slots=True)
class QuantisedInput:
    """One quantised input of one node.

    Attributes:
        node: its name in the graph.
        key: by which the same operation is known in PyTorch: its weight's name, or the node's own name.
        position: of the input.
        axis: of a weight's scales; None for an activation.
        largest: magnitude that the exporter's calibration found; zero for weights.
    """

    node: str
    key: str
    position: int
    axis: int | None
    largest: float = 0.0


def quantised_places(graph: onnx.GraphProto, parameters: Iterable[str]) -> tuple[QuantisedInput, ...]:
    """The places of a graph from `export.precision.quantise.calibrate`.

    Args:
        graph: with its Q and DQ.
        parameters: names of the folded network's weights.
    """
    known = set(parameters)
    producers = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    places = []
    for node in graph.node:
        if node.op_type in (QUANTISE, DEQUANTISE):
            continue
        sources = {position: _quantise(name, producers) for position, name in enumerate(node.input)}
        quantised = {position: source for position, source in sources.items() if source is not None}
        weight = next((source.input[0] for source in quantised.values() if source.input[0] in constants), None)
        key = node.name if weight is None else _weight_name(weight, node, known)
        for position, source in quantised.items():
            scale = numpy_helper.to_array(constants[source.input[1]])
            if source.input[0] in constants:
                # A linear layer's own weight is the transpose of the graph's constant.
                places.append(QuantisedInput(node.name, key, position, _axis(source) if weight in known else 0))
            else:
                places.append(QuantisedInput(node.name, key, position, None, float(scale) * LARGEST_INT8))
    return tuple(places)


def _quantise(name: str, producers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    dequantise = producers.get(name)
    if dequantise is None or dequantise.op_type != DEQUANTISE:
        return None
    return producers.get(dequantise.input[0])


def _axis(quantise: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in quantise.attribute if attribute.name == "axis"), 1)


def _weight_name(constant: str, node: onnx.NodeProto, known: set[str]) -> str:
    """The weight's name in PyTorch; the exporter renames what it transposes, but not the node."""
    if constant in known or node.op_type not in PRODUCTS:
        return constant
    return f"{node.name.rpartition('/')[0].replace('/', '.')}.weight"


class FakeQuantisation(TorchFunctionMode):
    """While it is entered, the folded network computes as its INT8 graph does.

    Args:
        model: the folded network.
        places: where to round.
        ranges: largest magnitude of each activation, by place; without them nothing is rounded.
        observe: called with each place and its value before rounding.
    """

    def __init__(
        self,
        model: nn.Module,
        places: Sequence[QuantisedInput],
        ranges: Mapping[QuantisedInput, float] | None = None,
        *,
        observe: Callable[[QuantisedInput, Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        self.by_key: dict[str, list[QuantisedInput]] = {}
        for place in places:
            self.by_key.setdefault(place.key, []).append(place)
        self.ranges = ranges
        self.observe = observe
        self.modules = {id(module): name.replace(".", "/") for name, module in model.named_modules()}
        self.weights = {id(tensor): name for name, tensor in named_tensors(model) if name in self.by_key}
        self.scopes: list[str] = [""]
        self.turns: Counter[str] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Result],
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Result:
        """Round what the graph rounds, then call."""
        places = self.by_key.get(self._key(func, args), ())
        if places:
            joined = isinstance(args[0], list | tuple)  # what is concatenated comes as one list
            inputs = list(cast("Sequence[Tensor]", args[0] if joined else args))
            for place in places:
                inputs[place.position] = self._round(place, inputs[place.position])
            args = (inputs, *args[1:]) if joined else inputs
        return func(*args, **(kwargs or {}))

    def _key(self, func: Callable[..., Result], args: Sequence[object]) -> str:
        weight = next((self.weights[id(value)] for value in args if id(value) in self.weights), None)
        if weight is not None:
            return weight
        op_type = OP_TYPES.get(getattr(func, "__name__", ""))
        if op_type is None:
            return ""
        name = f"{self.scopes[-1]}/{op_type}"
        self.turns[name] += 1
        return name if self.turns[name] == 1 else f"{name}_{self.turns[name]}"

    def _round(self, place: QuantisedInput, value: Tensor) -> Tensor:
        if self.observe is not None:
            self.observe(place, value)
        if self.ranges is None:
            return value
        return round_activation(value, self.ranges[place]) if place.axis is None else round_weight(value, place.axis)

    def __enter__(self) -> "FakeQuantisation":
        """Follow the modules that are called, to know whose operation is whose."""
        self.turns.clear()
        self.hooks = (
            register_module_forward_pre_hook(lambda module, _: self._enter_module(module)),
            register_module_forward_hook(lambda *_: self._leave_module()),
        )
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *failure: object) -> None:
        """Stop following."""
        super().__exit__(*failure)  # type: ignore[no-untyped-call]
        for hook in self.hooks:
            hook.remove()

    def _enter_module(self, module: nn.Module) -> None:
        self.scopes.append(self.modules.get(id(module), self.scopes[-1]))

    def _leave_module(self) -> None:
        self.scopes.pop()


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of a network by its name, those among them that are functions of others' weights."""
    for path, module in model.named_modules():
        for name, value in {**vars(module), **dict(module.named_parameters(recurse=False))}.items():
            if isinstance(value, Tensor):
                yield f"{path}.{name}", value


def round_activation(value: Tensor, largest: float) -> Tensor:
    """One symmetric scale for the tensor; no gradient beyond the range."""
    return torch.fake_quantize_per_tensor_affine(value.float(), largest / LARGEST_INT8, 0, LOWEST, HIGHEST)


def round_weight(value: Tensor, axis: int) -> Tensor:
    """One symmetric scale for each entry along the axis, from the largest weight there."""
    others = [place for place in range(value.dim()) if place != axis % value.dim()]
    largest = value.detach().abs().amax(dim=others).clamp_min(torch.finfo(torch.float32).tiny)
    zero = torch.zeros_like(largest, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(value, largest / LARGEST_INT8, zero, axis, LOWEST, HIGHEST)
