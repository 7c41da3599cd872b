"""Costs of graphs that can be worked out by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_hand import small_graph, small_hand

from export.graph.deploy_model import count_parameters
from export.graph.fold import fold
from export.graph.inventory import inventory, total
from export.graph.tensors import TensorType, tensor_types


def graph(nodes: list[onnx.NodeProto], shape: list[int | str], **weights: np.ndarray) -> onnx.ModelProto:
    """A graph from `image` to the last node's output."""
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("node", "weight", "flop"),
    [
        # (1, 8, 4, 4) out, 3 x 3 taps of 6 channels each.
        (helper.make_node("Conv", ["image", "w"], ["y"], "encoder/C", pads=[1] * 4), zeros(8, 6, 3, 3), 2 * 128 * 54),
        # The same in two groups: 3 channels each.
        (
            helper.make_node("Conv", ["image", "w"], ["y"], "encoder/C", pads=[1] * 4, group=2),
            zeros(8, 3, 3, 3),
            2 * 128 * 27,
        ),
        # Each of 6 x 4 x 4 inputs spreads over 5 channels of 2 x 2.
        (
            helper.make_node("ConvTranspose", ["image", "w"], ["y"], "encoder/C", strides=[2, 2]),
            zeros(6, 5, 2, 2),
            2 * 96 * 20,
        ),
        # 24 rows of 4 by 4 x 7.
        (helper.make_node("MatMul", ["image", "w"], ["y"], "encoder/M"), zeros(4, 7), 2 * 24 * 4 * 7),
    ],
    ids=["conv", "grouped conv", "transposed conv", "matmul"],
)
def test_flop_are_two_for_each_multiply_and_add(node: onnx.NodeProto, weight: np.ndarray, flop: int) -> None:
    (cost,) = inventory(graph([node], ["batch", 6, 4, 4], w=weight))
    assert cost.gflop == pytest.approx(flop / 1e9, rel=1e-12)
    assert cost.weight_bytes == weight.nbytes


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_contracts_the_axis_that_transposition_names(transposed: int) -> None:
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], "encoder/F"),  # (1, 24)
        helper.make_node("Gemm", ["w", "flat"], ["y"], "encoder/G", transA=transposed, transB=1),
    ]
    (cost,) = inventory(graph(nodes, ["batch", 6, 2, 2], w=zeros(24, 5) if transposed else zeros(5, 24)))
    assert cost.gflop == pytest.approx(2 * 5 * 1 * 24 / 1e9)


def test_bytes_and_operators_are_counted_by_stage() -> None:
    nodes = [
        helper.make_node("Mul", ["image", "w"], ["a"], "encoder/Mul"),
        helper.make_node("Add", ["a", "w"], ["b"], "heatmap/Add"),
        helper.make_node("Relu", ["b"], ["c"], "heatmap/Relu"),
        helper.make_node("Relu", ["c"], ["d"], "elsewhere"),
    ]
    costs = inventory(graph(nodes, ["batch", 6, 4, 4], w=zeros(6, 4, 4)))
    assert [cost.stage for cost in costs] == ["encoder", "heatmap", "graph"]
    assert [cost.weight_bytes for cost in costs] == [384, 0, 0]  # a weight of two stages counts once
    assert [cost.activation_bytes for cost in costs] == [384, 768, 384]
    assert [dict(cost.operators) for cost in costs] == [{"Mul": 1}, {"Add": 1, "Relu": 1}, {"Relu": 1}]
    summed = total(costs)
    assert dict(summed.operators) == {"Relu": 2, "Add": 1, "Mul": 1}
    assert (summed.weight_bytes, summed.activation_bytes, summed.gflop) == (384, 1536, 0.0)


def test_half_weights_count_half() -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["a"], "encoder/Cast", to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["a", "w"], ["b"], "encoder/Mul"),
        helper.make_node("Cast", ["b"], ["c"], "encoder/Back", to=TensorProto.FLOAT),
    ]
    (cost,) = inventory(graph(nodes, ["batch", 6, 4, 4], w=zeros(6, 4, 4).astype(np.float16)))
    assert cost.weight_bytes == 192
    assert cost.activation_bytes == 192 + 192 + 384


def test_the_exported_graph_holds_the_folded_models_weights() -> None:
    costs = inventory(small_graph())
    folded = fold(small_hand())
    floats = count_parameters(folded)
    assert total(costs).weight_bytes == pytest.approx(4 * floats, rel=0.01)  # but for shapes, scalars and BatchNorms


def test_tensor_types_follow_the_batch() -> None:
    model = small_graph()
    for batch in (1, 4):
        types = tensor_types(model, batch=batch)
        assert types["image"] == TensorType(TensorProto.FLOAT, (batch, 3, 64, 64))
        assert types["verts_uvd"] == TensorType(TensorProto.FLOAT, (batch, 778, 3))
        assert types["encoder.backbone.conv1.weight"].shape == (64, 3, 7, 7)


def test_a_tensor_with_a_free_extent_has_no_size() -> None:
    with pytest.raises(ValueError, match="has no size"):
        _ = TensorType(TensorProto.FLOAT, (2, None)).size


def test_int4_takes_half_a_byte() -> None:
    assert TensorType(TensorProto.INT4, (5, 2)).n_bytes == 5
    assert TensorType(TensorProto.INT8, (5, 2)).n_bytes == 10
