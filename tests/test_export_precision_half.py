"""FP16 graphs: half the weights, float32 at both ends, FP32 where the table or the data ask for it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from planted_graphs import OVERFLOW, images, save_planted

from cliphand.errors import InputError
from export.precision.half import half_nodes, write_half
from export.precision.rounding import holds_half, write_rounded
from export.precision.table import RULE_NAMES, Keep, kept_nodes, stages, union

THIRD = "heatmap/third/Conv"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_planted(tmp_path_factory.mktemp("half") / "model.onnx")


@pytest.fixture(scope="module")
def half(source: Path) -> Path:
    out = source.with_name("half.onnx")
    write_half(source, out, keep=[THIRD], image=images(1))
    return out


def run(path: Path, batch: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path)).run(None, {"image": batch})


def test_weights_take_half_the_bytes(tmp_path: Path, source: Path) -> None:
    write_half(source, tmp_path / "half.onnx", keep=(), image=images(1))
    assert (tmp_path / "half.onnx").stat().st_size < 0.55 * source.stat().st_size


def test_inputs_and_outputs_stay_float32(half: Path) -> None:
    graph = onnx.load(half).graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {TensorProto.FLOAT}


def test_a_kept_node_stays_fp32_and_its_neighbours_do_not(half: Path) -> None:
    nodes = half_nodes(onnx.load(half))
    assert THIRD not in nodes
    assert {"encoder/second/Conv", "heatmap/third/Relu"} <= nodes


def test_a_kept_name_means_that_node_and_none_that_begins_alike(tmp_path: Path, source: Path) -> None:
    write_half(source, tmp_path / "half.onnx", keep=["encoder/first/Co"], image=images(1))
    assert "encoder/first/Conv" in half_nodes(onnx.load(tmp_path / "half.onnx"))


def test_results_are_near_but_not_those_of_fp32(source: Path, half: Path) -> None:
    for ours, theirs in zip(run(half, images(3)), run(source, images(3)), strict=True):
        assert 0 < np.abs(ours - theirs).max() < 2e-3


def test_what_the_image_shows_to_be_large_stays_fp32(tmp_path: Path) -> None:
    source = save_planted(tmp_path / "model.onnx", overflow=True)
    write_half(source, tmp_path / "half.onnx", keep=(), image=images(1))
    assert not half_nodes(onnx.load(tmp_path / "half.onnx")).intersection(OVERFLOW)


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, source: Path, half: Path) -> None:
    write_half(source, tmp_path / "again.onnx", keep=[THIRD], image=images(1))
    assert (tmp_path / "again.onnx").read_bytes() == half.read_bytes()


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00no graph")
    with pytest.raises(InputError, match=r"ModelOpt cannot convert .*broken.onnx"):
        write_half(broken, tmp_path / "half.onnx", keep=(), image=images(1))
    assert not (tmp_path / "half.onnx").exists()


def test_the_rounded_twin_overflows_where_the_cpu_does_not(tmp_path: Path) -> None:
    source = save_planted(tmp_path / "model.onnx", overflow=True)
    half, twin = tmp_path / "half.onnx", tmp_path / "twin.onnx"
    write_half(source, half, keep=(), image=np.zeros_like(images(1)))  # on black nothing is large
    write_rounded(half, twin)
    assert np.isfinite(run(half, images(2))[0]).all()
    assert not np.isfinite(run(twin, images(2))[0]).all()


def test_the_rounded_twin_rounds_every_half_tensor(tmp_path: Path, half: Path, source: Path) -> None:
    write_rounded(half, tmp_path / "twin.onnx")
    assert holds_half(half)
    assert not holds_half(source)
    twin = onnx.load(tmp_path / "twin.onnx")
    twin.graph.output.append(onnx.helper.make_tensor_value_info("encoder/second/Relu", TensorProto.FLOAT, None))
    onnx.save(twin, tmp_path / "twin.onnx")
    *outputs, inner = run(tmp_path / "twin.onnx", images(3))
    np.testing.assert_array_equal(inner, inner.astype(np.float16).astype(np.float32))
    for ours, theirs in zip(outputs, run(source, images(3)), strict=True):
        assert 0 < np.abs(ours - theirs).max() < 2e-3


def node(kind: str, name: str, inputs: list[str], output: str | None = None) -> onnx.NodeProto:
    return onnx.helper.make_node(kind, inputs, [output or name], name=name)


def table_graph() -> onnx.GraphProto:
    """One node for each rule, and beside each a like one that no rule means."""
    nodes = [
        node("Conv", "joint_regressor/head_x/Conv", ["x", "w"]),
        node("Softmax", "joint_regressor/Softmax", ["x"]),
        node("ReduceMean", "joint_regressor/ReduceMean", ["x"]),
        node("Exp", "heatmap/gaussian_y/Exp", ["x"]),
        node("Relu", "mesh_regressor/Relu", ["x"]),
        node("Relu", "mesh_regressor/levels/0/Relu", ["x"]),
        node("LayerNormalization", "mesh_regressor/levels/0/norm/LayerNormalization", ["x", "w"]),
        node("MatMul", "mesh_regressor/out/MatMul", ["x", "w"]),
        node("MatMul", "mesh_regressor/levels/0/MatMul", ["x", "w"]),
        node("MatMul", "mesh_regressor/levels/0/MatMul_3", ["w", "x"]),
        node("MatMul", "mesh_regressor/levels/0/attention/MatMul", ["x", "x"]),
        node("MatMul", "heatmap/MatMul", ["x", "deep"]),
        node("Concat", "graph/Concat", ["x"], "y"),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in (("w", (2, 2)), ("deep", (2, 2, 2)))
    ]
    x, y = (onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    return onnx.helper.make_graph(nodes, "table", [x], [y], constants)


def test_each_rule_of_the_table_keeps_its_nodes_and_no_others() -> None:
    both = {
        "bins": ["joint_regressor/head_x/Conv", "joint_regressor/Softmax"],
        "gaussians": ["heatmap/gaussian_y/Exp"],
        "hats": ["mesh_regressor/Relu"],
        "layernorm": ["mesh_regressor/levels/0/norm/LayerNormalization"],
        "vertices": ["mesh_regressor/out/MatMul"],
    }
    assert kept_nodes(table_graph(), "fp16", Keep()) == both | {"outputs": ["graph/Concat"]}
    assert kept_nodes(table_graph(), "int8", Keep()) == both | {
        "products": ["mesh_regressor/levels/0/attention/MatMul"],
        "batched-constant": ["heatmap/MatMul"],
        "constant-left": ["mesh_regressor/levels/0/MatMul_3"],
    }


def test_the_table_is_changed_by_name() -> None:
    kept = kept_nodes(table_graph(), "fp16", Keep(more=("mesh_regressor/levels/0", "heatmap/MatMul"), fewer=("bins",)))
    assert "bins" not in kept
    assert kept["heatmap/MatMul"] == ["heatmap/MatMul"]
    assert len(kept["mesh_regressor/levels/0"]) == 5
    assert "joint_regressor/Softmax" not in union(kept)


@pytest.mark.parametrize("name", ["mesh_regressor/level", "heatmap/Node"])
def test_a_name_that_is_in_no_graph_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="no node and no module of that name"):
        kept_nodes(table_graph(), "fp16", Keep(more=(name,)))


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=RULE_NAMES[0]):
        Keep(fewer=("softmaxes",))


def test_stages_are_the_first_names_in_the_graphs_order() -> None:
    names = {"heatmap/MatMul", "joint_regressor/Softmax", "joint_regressor/head_x/Conv"}
    assert stages(table_graph(), names) == {
        "joint_regressor": ("joint_regressor/head_x/Conv", "joint_regressor/Softmax"),
        "heatmap": ("heatmap/MatMul",),
    }
