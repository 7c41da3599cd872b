"""INT8 as PyTorch trains through it: rounded where the exported graph has its Q and DQ, straight through for gradients.

The exporter writes the graph from a program of PyTorch's operations and tells of each node which operation it stands
for. That program is run here, operation by operation, on live weights; what a node of the graph reads through a Q and
DQ is rounded where its operation reads it. A node that cannot be told to one operation is refused. ModelOpt's own
quantisation of PyTorch modules is not used: it knows layers, and the folded network's products are not layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from cliphand.errors import InputError
from export.graph.trace import Trace
from export.precision.quantise import DEQUANTISE, LARGEST_INT8, QUANTISE, scale_axis

LOWEST, HIGHEST = -128, 127


@dataclass(frozen=True, slots=True)
class QuantisedInput:
    """One quantised input of one node.

    Attributes:
        node: its name in the graph.
        operation: its name in the program that the graph was written from.
        position: of the input.
        axis: of a weight's scales; None for an activation.
        largest: magnitude that the exporter's calibration found; zero for weights.
    """

    node: str
    operation: str
    position: int
    axis: int | None
    largest: float = 0.0


def quantised_places(graph: onnx.GraphProto, trace: Trace) -> tuple[QuantisedInput, ...]:
    """The places of a graph from `export.precision.quantise.calibrate`.

    Args:
        graph: with its Q and DQ.
        trace: of the exporter, before Q and DQ.

    Raises:
        InputError: a quantised node stands for no operation of the program, or two stand for the same.
    """
    producers = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    readers = _readers(trace.program)
    nodes: dict[str, str] = {}
    places = []
    for node in graph.node:
        if node.op_type in (QUANTISE, DEQUANTISE):
            continue
        sources = {position: _quantise(name, producers) for position, name in enumerate(node.input)}
        quantised = {position: source for position, source in sources.items() if source is not None}
        if not quantised:
            continue
        weight = next((source.input[0] for source in quantised.values() if source.input[0] in readers), None)
        operation = _operation(node.name, trace, readers.get(weight or "", ()))
        if nodes.setdefault(operation, node.name) != node.name:
            raise InputError(lost(node.name, f"its operation {operation} is also that of {nodes[operation]}"))
        for position, source in quantised.items():
            scale = numpy_helper.to_array(constants[source.input[1]])
            if source.input[0] in constants:
                # A linear layer's own weight is the transpose of the graph's constant.
                axis = scale_axis(source) if source.input[0] in readers else 0
                places.append(QuantisedInput(node.name, operation, position, axis))
            else:
                largest = float(scale) * LARGEST_INT8
                places.append(QuantisedInput(node.name, operation, position, None, largest))
    return tuple(places)


def _readers(program: ExportedProgram) -> dict[str, tuple[str, ...]]:
    """The operations that read each weight, by the weight's name in the network."""
    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    return {
        targets[node.name]: tuple(user.name for user in node.users)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in targets
    }


def _operation(node: str, trace: Trace, readers: Sequence[str]) -> str:
    """The operation that a node stands for; `readers` read its weight, if it has one of the network's."""
    operation = trace.operations.get(node)
    if readers and operation not in readers:
        # A convolution that took in the BatchNorm after it is told as the BatchNorm; its weight is still its own.
        operation = readers[0] if len(readers) == 1 else None
    if operation is None:
        raise InputError(lost(node, "the exporter does not tell which operation it stands for"))
    return operation


def _quantise(name: str, producers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    dequantise = producers.get(name)
    if dequantise is None or dequantise.op_type != DEQUANTISE:
        return None
    return producers.get(dequantise.input[0])


class RoundedProgram(fx.Interpreter):
    """The folded network as its INT8 graph computes it, on weights that are handed in.

    Args:
        program: of the exporter.
        places: where to round.

    Raises:
        InputError: an operation has no such input.
    """

    def __init__(self, program: ExportedProgram, places: Sequence[QuantisedInput]) -> None:
        super().__init__(program.graph_module)
        self.inputs = program.graph_signature.input_specs
        self.constants = program.constants
        self.places: dict[str, list[QuantisedInput]] = {}
        operations = {node.name: node for node in program.graph.nodes}
        for place in places:
            arguments = _arguments(operations[place.operation].args)
            if len(arguments) <= place.position or not isinstance(arguments[place.position], fx.Node):
                raise InputError(lost(place.node, f"its input {place.position} is none of {place.operation}"))
            self.places.setdefault(place.operation, []).append(place)

    def compute(
        self,
        network: nn.Module,
        images: Tensor,
        *,
        round_input: Callable[[QuantisedInput, Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The network's outputs.

        Args:
            network: the folded network whose weights are used.
            images: (B, 3, S, S) normalised.
            round_input: called with each place and its value, to return what is computed with.
        """
        self.round_input = round_input
        self.device = images.device
        tensors = {**self.constants, **dict(named_tensors(network))}
        values = [
            images if spec.kind is InputKind.USER_INPUT else tensors[cast("str", spec.target)].to(images.device)
            for spec in self.inputs
        ]
        return cast("tuple[Tensor, Tensor]", self.run(*values))

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[object, ...], dict[str, object]]:
        """What an operation reads, rounded where the graph rounds it."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        if "device" in kwargs:  # of the tracing
            kwargs = {**kwargs, "device": self.device}
        places = self.places.get(n.name, ())
        if places:
            inputs = list(_arguments(args))
            for place in places:
                inputs[place.position] = self.round_input(place, cast("Tensor", inputs[place.position]))
            args = tuple(inputs) if _arguments(args) is args else (inputs, *args[1:])
        return args, kwargs


def _arguments(args: Sequence[object]) -> Sequence[object]:
    """What an operation reads; what is concatenated comes as one list."""
    return args[0] if args and isinstance(args[0], list | tuple) else args


def lost(node: str, reason: str) -> str:
    """The sentence of a node that has no place in the program."""
    return (
        f"the exporter quantises {node!r}, which is not found again in PyTorch ({reason}); this backbone cannot be "
        "trained quantisation-aware."
    )


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of a network by its name, those among them that are functions of others' weights."""
    for path, module in model.named_modules():
        for name, value in {**vars(module), **vars(module)["_parameters"], **vars(module)["_buffers"]}.items():
            if isinstance(value, Tensor):
                yield f"{path}.{name}", value


def quantiser(ranges: Mapping[QuantisedInput, float]) -> Callable[[QuantisedInput, Tensor], Tensor]:
    """Rounds as INT8 does.

    Args:
        ranges: largest magnitude of each activation.
    """

    def round_input(place: QuantisedInput, value: Tensor) -> Tensor:
        return round_activation(value, ranges[place]) if place.axis is None else round_weight(value, place.axis)

    return round_input


def round_activation(value: Tensor, largest: float) -> Tensor:
    """One symmetric scale for the tensor; no gradient beyond the range."""
    return torch.fake_quantize_per_tensor_affine(value.float(), largest / LARGEST_INT8, 0, LOWEST, HIGHEST)


def round_weight(value: Tensor, axis: int) -> Tensor:
    """One symmetric scale for each entry along the axis, from the largest weight there."""
    others = [place for place in range(value.dim()) if place != axis % value.dim()]
    largest = value.detach().abs().amax(dim=others).clamp_min(torch.finfo(torch.float32).tiny)
    zero = torch.zeros_like(largest, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(value, largest / LARGEST_INT8, zero, axis, LOWEST, HIGHEST)
