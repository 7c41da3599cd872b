"""What stays in higher precision, and why: the one table, and the rules' meaning on a graph.

Nodes are found by their kind and by the module in their name, see `export.graph.node_names`.
Source of the choices: NVIDIA's notes on explicit quantisation, issue threads of TensorRT, and the search in
`export.precision.blame`.
"""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx

from cliphand.config import require
from export.graph.node_names import ROOTS, stage_of

# Of the mesh regressor's own nodes, beside the products of the weights with the maps.
HAT_OPS = frozenset({"Transpose", "Mul", "Sub", "Abs", "Neg", "Add", "Relu", "Split", "Unsqueeze"})


@dataclass(frozen=True, slots=True)
class Place:
    """Nodes of some kinds in some modules.

    Attributes:
        modules: regular expression that the whole module path, `encoder/backbone/layer1`, must match.
        op_types: kinds of node; empty means all.
    """

    modules: str = ".*"
    op_types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table.

    Attributes:
        name: by which it is told on the command line and in reports.
        out_of: the precisions of `export.precision.maker.PRECISIONS` that its nodes are kept out of.
        why: for reports.
        places: where its nodes lie.
        constant_rank: only nodes with a constant input of at least this many dimensions.
        no_constant: only nodes without a constant input.
        constant_left: only nodes whose first input is a constant.
        makes_output: only nodes that make an output of the graph.
    """

    name: str
    out_of: tuple[str, ...]
    why: str
    places: tuple[Place, ...] = (Place(),)
    constant_rank: int = 0
    no_constant: bool = False
    constant_left: bool = False
    makes_output: bool = False


TABLE = (
    Rule(
        "bins",
        ("fp16", "int8"),
        "1D heatmap heads and expected bins: a sum over up to 64 bins whose result is a coordinate",
        (
            Place("joint_regressor/head_[xyz]"),
            Place("joint_regressor", frozenset({"Softmax", "Mul", "ReduceSum"})),
        ),
    ),
    Rule(
        "gaussians",
        ("fp16", "int8"),
        "squared distances in heatmap cells: rounding a coordinate moves the whole blob",
        (Place(".*/gaussian_[xyz]"),),
    ),
    Rule(
        "hats",
        ("fp16", "int8"),
        "hat weights: differences of coordinates in cells, of which FP16 keeps only a few bits",
        (Place("mesh_regressor", HAT_OPS),),
    ),
    Rule(
        "layernorm",
        ("fp16", "int8"),
        "the sum of squares overflows in FP16",
        (Place(op_types=frozenset({"LayerNormalization"})),),
    ),
    Rule(
        "vertices",
        ("fp16", "int8"),
        "the last vertex layer: its rounding is the mesh's rounding",
        (Place("mesh_regressor/out"),),
    ),
    Rule("outputs", ("fp16",), "what makes an output: outputs are float32", makes_output=True),
    Rule(
        "products",
        ("int8",),
        "products of two activations, as in attention: small probabilities share one scale with large ones, which "
        "moved vertices by 1.2 mm of the 1.9 mm that INT8 moved them by",
        (Place(op_types=frozenset({"MatMul"})),),
        no_constant=True,
    ),
    Rule(
        "batched-constant",
        ("int8",),
        "the scales for each channel of a constant with three dimensions cannot be run by ONNX Runtime",
        (Place(op_types=frozenset({"MatMul"})),),
        constant_rank=3,
    ),
    Rule(
        "constant-left",
        ("int8",),
        "a constant on the left gets a scale for each entry of the axis that is summed over, which no engine can take "
        "out of the sum",
        (Place(op_types=frozenset({"MatMul"})),),
        constant_left=True,
    ),
)
RULE_NAMES = tuple(rule.name for rule in TABLE)


@dataclass(frozen=True, slots=True)
class Keep:
    """Changes to the table, by name.

    Attributes:
        more: kept as well: names of nodes, or of modules with all that is in them.
        fewer: rules of the table that are not applied.
    """

    more: tuple[str, ...] = ()
    fewer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.fewer) - set(RULE_NAMES))
        require(
            not unknown,
            f"there is no rule {', '.join(unknown)} in the precision table; it has {', '.join(RULE_NAMES)}.",
        )
        astray = next((name for name in self.more if name.partition("/")[0] not in ROOTS), None)
        require(
            astray is None,
            f"{astray!r} is to be kept in FP32, but no graph has such a node or module: names begin with "
            f"{', '.join(ROOTS)}, such as 'encoder/backbone/layer1'.",
        )


def kept_nodes(graph: onnx.GraphProto, low: str, keep: Keep) -> dict[str, list[str]]:
    """Names of the nodes that stay out of `low`, by the rule or the given name that keeps them.

    Raises:
        InputError: a given name is neither a node's nor a module's.
    """
    constants = {constant.name: len(constant.dims) for constant in graph.initializer}
    outputs = {output.name for output in graph.output}
    rules = [rule for rule in TABLE if low in rule.out_of and rule.name not in keep.fewer]
    kept = {rule.name: [node.name for node in graph.node if _holds(rule, node, constants, outputs)] for rule in rules}
    for name in keep.more:
        kept[name] = [node.name for node in graph.node if name == node.name or node.name.startswith(f"{name}/")]
        require(
            len(kept[name]) > 0,
            f"{name!r} is to be kept out of {low}, but the graph has no node and no module of that name; nearest are "
            f"{', '.join(_near(name, graph))}.",
        )
    return kept


def _near(name: str, graph: onnx.GraphProto) -> list[str]:
    """The names of nodes and modules that are most like one."""
    names = {node.name for node in graph.node} | {module_of(node) for node in graph.node}
    return difflib.get_close_matches(name, sorted(names), n=3, cutoff=0)


def module_of(node: onnx.NodeProto) -> str:
    """Path of the module that a node was traced from, `encoder/backbone/layer1`; empty where its name tells none."""
    return node.name.rpartition("/")[0]


def stages(graph: onnx.GraphProto, names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The named nodes by stage, both in the graph's order."""
    groups: dict[str, list[str]] = {}
    for node in graph.node:
        if node.name in names:
            groups.setdefault(stage_of(node.name), []).append(node.name)
    return {stage: tuple(nodes) for stage, nodes in groups.items()}


def union(kept: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """All node names in a table of `kept_nodes`."""
    return frozenset(name for names in kept.values() for name in names)


def _holds(rule: Rule, node: onnx.NodeProto, constants: Mapping[str, int], outputs: Collection[str]) -> bool:
    module = module_of(node)
    return (
        any(
            re.fullmatch(place.modules, module) is not None and (not place.op_types or node.op_type in place.op_types)
            for place in rule.places
        )
        and (not rule.makes_output or any(output in outputs for output in node.output))
        and not (rule.no_constant and any(name in constants for name in node.input))
        and (not rule.constant_left or node.input[0] in constants)
        and (not rule.constant_rank or any(constants.get(name, 0) >= rule.constant_rank for name in node.input))
    )
