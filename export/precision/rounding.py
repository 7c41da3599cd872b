"""What FP16 does to a graph, told on a CPU: a float32 twin that rounds wherever the typed graph holds FP16.

ONNX Runtime's CPU provider has no FP16 kernels for most nodes. It runs them in float32, and between two of them nothing
is rounded and nothing overflows, so that a graph that gives NaN on a GPU passes there. In the twin every FP16 tensor
goes through a pair of Casts, which ONNX Runtime keeps; sums inside a node stay float32, as in a GPU's matrix units.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cliphand.files import whole_file


def write_rounded(typed: Path, out: Path) -> None:
    """Write the float32 twin of a graph with FP16 tensors."""
    graph = onnx.load(typed)
    halves = _half_tensors(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        rounded = [name for name in node.output if name in halves]
        twin = onnx.NodeProto.FromString(node.SerializeToString())
        if node.op_type == "Cast" and rounded:
            _set_target(twin, TensorProto.FLOAT)
        for place, name in enumerate(twin.output):
            if name in halves:
                twin.output[place] = f"{name}:exact"
        nodes.append(twin)
        for name in rounded:
            nodes += [
                helper.make_node("Cast", [f"{name}:exact"], [f"{name}:half"], f"{name}:down", to=TensorProto.FLOAT16),
                helper.make_node("Cast", [f"{name}:half"], [name], f"{name}:up", to=TensorProto.FLOAT),
            ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    for constant in graph.graph.initializer:
        if constant.data_type == TensorProto.FLOAT16:
            constant.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(constant).astype(np.float32), constant.name)
            )
    del graph.graph.value_info[:]
    with whole_file(out, None) as temporary:
        onnx.save_model(graph, temporary)


def holds_half(path: Path) -> bool:
    """Whether any node of a graph makes an FP16 tensor."""
    return len(_half_tensors(onnx.load(path))) > 0


def _half_tensors(graph: onnx.ModelProto) -> frozenset[str]:
    """Names of the FP16 tensors that nodes make."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    return frozenset(
        value.name for value in inferred.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    )


def _set_target(cast: onnx.NodeProto, kind: int) -> None:
    for attribute in cast.attribute:
        if attribute.name == "to":
            attribute.i = kind
