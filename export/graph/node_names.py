"""Names that tell where in the network a node stands: `encoder/backbone/layer1/0/conv1/Conv`.

The first part is the stage. Reports (`cliphand inspect`, ranges, layers to blame) group and print these names, so a
graph carries them from its first export on; every other trace of the exporter is removed, local paths among it.
"""

import ast
from collections import Counter
from typing import cast

from onnx import GraphProto, ModelProto, NodeProto

STAGES = ("encoder", "joint_regressor", "heatmap", "mesh_regressor")
WITH_WEIGHTS = ("Conv", "ConvTranspose", "BatchNormalization", "LayerNormalization")
_SCOPES = "pkg.torch.onnx.name_scopes"
_UNKNOWN = "graph"
ROOTS = (*STAGES, _UNKNOWN)  # with which names begin


def stage_of(node_name: str) -> str:
    """The stage of a node named by `name_nodes`, or `graph` where it has none."""
    stage = node_name.partition("/")[0]
    return stage if stage in STAGES else _UNKNOWN


def name_nodes(model: ModelProto) -> dict[str, str]:
    """Name every node after its module and operator, and each value after the node that makes it, in place.

    Args:
        model: straight from the exporter, whose metadata tell each node's module.

    Returns:
        The operation of the traced program that each node stands for, by the node's name; of a node that the exporter's
        rewrites made, there may be none.
    """
    graph = model.graph
    _name_each(graph)
    operations = {node.name: scopes[-1] for node in graph.node if (scopes := _name_scopes(node))}
    fixed = {value.name for value in (*graph.input, *graph.output)}
    renamed = {
        value: node.name if len(node.output) == 1 else f"{node.name}.{place}"
        for node in graph.node
        for place, value in enumerate(node.output)
        if value and value not in fixed
    }
    for node in graph.node:
        for values in (node.input, node.output):
            for place, value in enumerate(values):
                values[place] = renamed.get(value, value)
    for info in graph.value_info:
        info.name = renamed.get(info.name, info.name)
    _forget_the_exporter(model)
    return operations


def _name_each(graph: GraphProto) -> None:
    initializers = {tensor.name for tensor in graph.initializer}
    scope_of_value: dict[str, str] = {}
    used: Counter[str] = Counter()
    for node in graph.node:
        scope = _scope(node, initializers, scope_of_value)
        scope_of_value |= dict.fromkeys(node.output, scope)
        name = f"{scope.replace('.', '/')}/{node.op_type}"
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"


def _scope(node: NodeProto, initializers: set[str], scope_of_value: dict[str, str]) -> str:
    """Dotted path of the module that a node belongs to."""
    # A convolution that took in a BatchNorm carries the latter's metadata; its weight still has its own name.
    if node.op_type in WITH_WEIGHTS and node.input[1] in initializers:
        return node.input[1].rpartition(".")[0]
    if scopes := _name_scopes(node):
        return scopes[-2] or _UNKNOWN if len(scopes) > 1 else _UNKNOWN
    # What the exporter's own rewrites made stands with what it reads.
    return next((scope_of_value[value] for value in node.input if value in scope_of_value), _UNKNOWN)


def _name_scopes(node: NodeProto) -> list[str]:
    """Modules from the outermost to the node's own, then the operation; empty where the exporter wrote none."""
    entry = next((entry for entry in node.metadata_props if entry.key == _SCOPES), None)
    return [] if entry is None else cast("list[str]", ast.literal_eval(entry.value))


def _forget_the_exporter(model: ModelProto) -> None:
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
    for node in graph.node:
        node.ClearField("doc_string")
    model.ClearField("doc_string")
    graph.name = "cliphand"
