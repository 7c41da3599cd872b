"""What can be wrong with an ONNX file whose hash is right: each fault changes the bytes of a sound one."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Damage = Callable[[bytes], bytes]


def changed(change: Callable[[ModelProto], object]) -> Damage:
    """A fault that keeps the file an ONNX file."""

    def damage(content: bytes) -> bytes:
        model = onnx.load_model_from_string(content)
        change(model)
        return bytes(model.SerializeToString())

    return damage


def external(place: str) -> Callable[[ModelProto], object]:
    return lambda model: send_out(model.graph.initializer[0], place)


def send_out(tensor: TensorProto, place: str) -> TensorProto:
    """Say that a tensor's numbers lie in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", "36")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def external_in_an_attribute(model: ModelProto) -> None:
    tensor = send_out(numpy_helper.from_array(np.zeros(9, np.float32), "hidden"), "/etc/passwd")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))


def external_in_a_sparse_weight(model: ModelProto) -> None:
    values = send_out(numpy_helper.from_array(np.zeros(9, np.float32), "sparse"), "../../etc/passwd")
    indices = numpy_helper.from_array(np.arange(9), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))


def dims(*extents: int, keep_data: bool = True) -> Callable[[ModelProto], object]:
    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        del tensor.dims[:]
        tensor.dims.extend(extents)
        if not keep_data:
            tensor.ClearField("raw_data")

    return change


def cycle(model: ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[3].output[0]


def operator(op_type: str, domain: str = "") -> Callable[[ModelProto], object]:
    def change(model: ModelProto) -> None:
        model.graph.node[0].op_type, model.graph.node[0].domain = op_type, domain
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


def function(*, calls: str, domain: str) -> Callable[[ModelProto], object]:
    """The first node calls a function of the file's own."""

    def change(model: ModelProto) -> None:
        node = helper.make_node(calls, ["x"], ["y"], domain=domain)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
        model.functions.append(helper.make_function("local", "F", ["x"], ["y"], [node], opsets))
        operator("F", "local")(model)

    return change


def nested(depth: int) -> Callable[[ModelProto], object]:
    def branch(left: int) -> NodeProto:
        inner = [branch(left - 1)] if left else []
        graph = helper.make_graph(inner, "branch", [], [])
        return helper.make_node("If", ["condition"], ["o"], then_branch=graph)

    return lambda model: model.graph.node.append(branch(depth))


def made_twice(model: ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def contradiction(model: ModelProto) -> None:
    matrix = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("matrix"))
    matrix.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(matrix)[:-1].copy(), matrix.name))


def wrong_attribute(model: ModelProto) -> None:
    model.graph.node[1].attribute.append(helper.make_attribute("axis", "first"))


# Fault: what the sentence must say.
GRAPHS: dict[str, tuple[Damage, str]] = {
    "noise": (lambda content: np.random.default_rng(0).bytes(len(content)), "not an ONNX graph"),
    "nothing": (lambda content: b"", "not a valid ONNX graph"),
    "a text": (lambda content: b"this is no graph at all", "not an ONNX graph"),
    "a picture": (lambda content: b"\x89PNG\r\n\x1a\n" + content, "not a valid ONNX graph"),
    "half of it": (lambda content: content[: len(content) // 2], "not an ONNX graph"),
    "all but one byte": (lambda content: content[:-1], "not an ONNX graph"),
    "no graph inside": (changed(lambda model: model.ClearField("graph")), "not a valid ONNX graph"),
    "a later format": (changed(lambda model: setattr(model, "ir_version", 99)), "ir_version 99"),
    "a later opset": (changed(lambda model: setattr(model.opset_import[0], "version", 99)), "uses opset 99"),
    "no opset": (changed(lambda model: model.ClearField("opset_import")), "not a valid ONNX graph"),
    "a cycle": (changed(cycle), "topologically sorted"),
    "a missing weight": (changed(lambda model: model.graph.initializer.pop(0)), "not output of any previous"),
    "a tensor made twice": (changed(made_twice), "not a valid ONNX graph"),
    "an attribute of another type": (changed(wrong_attribute), "not a valid ONNX graph"),
    "weights above the folder": (changed(external("../../../../etc/passwd")), "in another file .*etc/passwd"),
    "weights at an absolute path": (changed(external("/etc/passwd")), "in another file .*/etc/passwd"),
    "weights beside the file": (changed(external("weights.bin")), r"in another file \(weights\.bin\), which no hash"),
    "weights of a constant outside": (changed(external_in_an_attribute), "'hidden' in another file"),
    "sparse weights outside": (changed(external_in_a_sparse_weight), "'sparse' in another file"),
    "a huge weight without data": (changed(dims(1 << 20, 1 << 20, keep_data=False)), "not a valid ONNX graph"),
    "a weight larger than its data": (changed(dims(1 << 31, 3)), "too small for the declared shape"),
    "a weight of negative size": (changed(dims(-3, 63)), "not a valid ONNX graph"),
    "a size beyond 64 bits": (changed(dims(1 << 62, 1 << 62)), "overflow"),
    "shapes that contradict each other": (changed(contradiction), "shapes of its tensors|cannot be run by"),
    "somebody's own operator": (changed(operator("Evil", "evil.corp")), "evil.corp.Evil .*no operator of ONNX"),
    "an operator that nobody knows": (changed(operator("Evil")), "not a valid ONNX graph"),
    "a function of its own": (changed(function(calls="GlobalAveragePool", domain="")), "local functions"),
    "a function that calls itself": (changed(function(calls="F", domain="local")), "local functions"),
    "thirty graphs in each other": (changed(nested(30)), "not a valid ONNX graph"),
}
