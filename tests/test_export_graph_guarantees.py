"""One fault at a time in a sound graph; each must be refused by its own sentence."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from small_hand import CONFIG, small_graph

from cliphand.errors import InputError
from export.graph.guarantees import FORBIDDEN, check_guarantees

LAYER_NORMS = 2 * sum(CONFIG.depths)


def insert(model: ModelProto, *nodes: NodeProto, place: int = 0) -> None:
    """Put nodes into the graph before the node number `place`."""
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:place], *nodes, *rest[place:]])


def constant(model: ModelProto, name: str, value: np.ndarray) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def another_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 20


def another_domain(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def a_function(model: ModelProto) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    function = helper.make_function("local", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 18)])
    model.functions.append(function)


def grid_sample(model: ModelProto) -> None:
    model.graph.node[0].op_type = "GridSample"


def chance(model: ModelProto) -> None:
    insert(model, helper.make_node("RandomNormalLike", ["image"], ["noise"], name="encoder/Noise"))


def a_shape_that_depends_on_the_data(model: ModelProto) -> None:
    insert(model, helper.make_node("Unique", ["image"], ["levels"], name="encoder/Unique"))


def a_contributed_operator(model: ModelProto) -> None:
    insert(model, helper.make_node("Gelu", ["image"], ["gelu"], name="encoder/Gelu", domain="com.microsoft"))


def shape_arithmetic(model: ModelProto) -> None:
    insert(model, helper.make_node("Shape", ["image"], ["sizes"], name="encoder/Shape"))


def a_float64_weight(model: ModelProto) -> None:
    constant(model, "wide", np.ones(1))


def a_float64_result(model: ModelProto) -> None:
    to_wide = helper.make_node("Cast", ["image"], ["wide"], name="encoder/Widen", to=TensorProto.DOUBLE)
    back = helper.make_node("Cast", ["wide"], ["narrow"], name="encoder/Narrow", to=TensorProto.FLOAT)
    model.graph.node[0].input[0] = "narrow"
    insert(model, to_wide, back)


def run_time_integers(model: ModelProto) -> None:
    to_int = helper.make_node("Cast", ["image"], ["whole"], name="encoder/Whole", to=TensorProto.INT64)
    back = helper.make_node("Cast", ["whole"], ["parts"], name="encoder/Parts", to=TensorProto.FLOAT)
    model.graph.node[0].input[0] = "parts"
    insert(model, to_int, back)


def a_dead_node(model: ModelProto) -> None:
    insert(model, helper.make_node("Relu", ["image"], ["unused"], name="encoder/Unused"))


def a_dead_output(model: ModelProto) -> None:
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    pool.output.append("indices")


def a_dead_weight(model: ModelProto) -> None:
    constant(model, "forgotten", np.ones(3, np.float32))


def heavy_weights(model: ModelProto) -> None:
    heavy = model.graph.initializer.add()
    heavy.name, heavy.data_type = "heavy", TensorProto.FLOAT
    heavy.dims.extend([600_000_000])
    model.graph.node[-1].input.append("heavy")


def external_weights(model: ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def another_input_name(model: ModelProto) -> None:
    model.graph.input[0].name = "photo"
    model.graph.node[0].input[0] = "photo"


def outputs_the_other_way_round(model: ModelProto) -> None:
    first, second = model.graph.output
    outputs = [onnx.ValueInfoProto(), onnx.ValueInfoProto()]
    outputs[0].CopyFrom(second)
    outputs[1].CopyFrom(first)
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def a_fixed_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def a_second_free_dimension(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def another_symbol_for_the_batch(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "s0"


def an_unfolded_batch_norm(model: ModelProto) -> None:
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    channels = next(t.dims[0] for t in model.graph.initializer if t.name == conv.input[1])
    ones = constant(model, "ones", np.ones(channels, np.float32))
    before = conv.output[0] + "_before"
    norm = helper.make_node("BatchNormalization", [before, *[ones] * 4], [conv.output[0]], name="encoder/BatchNorm")
    conv.output[0] = before
    insert(model, norm, place=list(model.graph.node).index(conv) + 1)


def a_decomposed_layer_norm(model: ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    node.op_type = "InstanceNormalization"
    del node.attribute[:]


def images_that_see_each_other(model: ModelProto) -> None:
    rows = constant(model, "rows", np.array([-1, 3 * 64 * 64], np.int64))
    back = constant(model, "back", np.array([-1, 3, 64, 64], np.int64))
    nodes = (
        helper.make_node("Reshape", ["image", rows], ["apart"], name="encoder/Apart"),
        helper.make_node("Transpose", ["apart"], ["turned"], perm=[1, 0], name="encoder/Turn"),
        helper.make_node("MatMul", ["apart", "turned"], ["alike"], name="encoder/Compare"),
        helper.make_node("MatMul", ["alike", "apart"], ["mixed"], name="encoder/Mix"),
        helper.make_node("Reshape", ["mixed", back], ["together"], name="encoder/Together"),
    )
    model.graph.node[0].input[0] = "together"
    insert(model, *nodes)


FAULTS: dict[Callable[[ModelProto], None], str] = {
    another_opset: "opset",
    another_domain: "opset",
    a_function: "it holds local functions",
    grid_sample: "is a GridSample",
    chance: "is a RandomNormalLike: its results change",
    a_shape_that_depends_on_the_data: "is a Unique: its output's shape depends on the data",
    a_contributed_operator: "it asks for com.microsoft.Gelu",
    shape_arithmetic: "is a Shape",
    a_float64_weight: "weight 'wide' is float64",
    a_float64_result: "output of node 'encoder/Widen' is float64",
    run_time_integers: "output of node 'encoder/Whole' is int64",
    a_dead_node: "output 'unused' of node 'encoder/Unused'",
    a_dead_output: "output 'indices' of node",
    a_dead_weight: "weight 'forgotten' is used by nothing",
    heavy_weights: "its weights take 2.4 GB, and an ONNX file ends at 2.1",
    external_weights: "in another file",
    another_input_name: "inputs are",
    outputs_the_other_way_round: "outputs are",
    a_fixed_batch: "'image' must be float32",
    a_second_free_dimension: "'image' must be float32",
    another_symbol_for_the_batch: "'joints_uvd' must be float32",
    an_unfolded_batch_norm: "BatchNormalization behind a Conv",
    a_decomposed_layer_norm: f"{LAYER_NORMS - 1} LayerNormalization nodes",
    images_that_see_each_other: "'encoder/Compare' is (3, 3) at batch 3 and (5, 5) at batch 5; one extent alone",
}


def test_the_exported_graph_is_sound() -> None:
    check_guarantees(small_graph(), layer_norms=LAYER_NORMS)


@pytest.mark.parametrize("break_it", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_graph_is_refused_by_the_rule_it_breaks(break_it: Callable[[ModelProto], None]) -> None:
    model = small_graph()
    break_it(model)
    with pytest.raises(InputError) as error:
        check_guarantees(model, layer_norms=LAYER_NORMS)
    assert FAULTS[break_it] in str(error.value)
    assert str(error.value).startswith("the graph is not written: ")


def test_shapes_that_contradict_each_other_are_refused() -> None:
    model = small_graph()
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    weight = next(t for t in model.graph.initializer if t.name == product.input[1])
    array = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(array[:-1].copy(), weight.name))
    with pytest.raises(InputError, match="contradict each other"):
        check_guarantees(model)


def test_what_half_and_quantised_graphs_hold_is_allowed() -> None:
    """Casts to FP16 and Q/DQ pairs: the same rules hold for every precision."""
    model = small_graph()
    scale, zero = constant(model, "scale", np.float32(0.1)), constant(model, "zero", np.int8(0))
    nodes = [
        helper.make_node("QuantizeLinear", ["image", scale, zero], ["q"], name="encoder/Q"),
        helper.make_node("DequantizeLinear", ["q", scale, zero], ["dq"], name="encoder/DQ"),
        helper.make_node("Cast", ["dq"], ["half"], name="encoder/Half", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["full"], name="encoder/Full", to=TensorProto.FLOAT),
    ]
    model.graph.node[0].input[0] = "full"
    insert(model, *nodes)
    check_guarantees(model, layer_norms=LAYER_NORMS)


def test_every_operator_that_is_forbidden_exists() -> None:
    assert all(onnx.defs.has(name, 18) for name in FORBIDDEN)


def weighed_by(model: ModelProto, n_numbers: int) -> None:
    """The image times the mean of so many weights."""
    heavy = model.graph.initializer.add()
    heavy.name, heavy.data_type = "heavy", TensorProto.FLOAT
    heavy.dims.append(n_numbers)
    mean = helper.make_node("ReduceMean", ["heavy"], ["mean"], name="encoder/Mean", keepdims=0)
    model.graph.node[0].input[0] = "weighed"
    insert(model, mean, helper.make_node("Mul", ["image", "mean"], ["weighed"], name="encoder/Weigh"))


def test_a_large_backbone_is_exported() -> None:
    """ConvNeXt-B alone has 88 million weights."""
    model = small_graph()
    weighed_by(model, 100_000_000)
    check_guarantees(model, layer_norms=LAYER_NORMS)


def test_what_is_not_forbidden_is_left_to_the_parser_and_the_run_times() -> None:
    model = small_graph()
    angle = helper.make_node("Cos", ["image"], ["angle"], name="encoder/Cos")
    model.graph.node[0].input[0] = "angle"
    insert(model, angle)
    check_guarantees(model, layer_norms=LAYER_NORMS)
