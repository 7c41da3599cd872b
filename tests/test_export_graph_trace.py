"""The exported graph of a small network: what it holds, and that it computes the network's function."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import NodeProto
from small_hand import CONFIG, SIDE, small_export, small_graph, small_hand

from cliphand.errors import InputError
from export.graph import trace as graph_module
from export.graph.deploy_model import example_images
from export.graph.node_names import stage_of
from export.graph.tensors import tensor_types
from export.graph.trace import export_graph, simplify


def by_operator(operator: str) -> list[NodeProto]:
    return [node for node in small_graph().graph.node if node.op_type == operator]


def makers() -> dict[str, NodeProto]:
    return {value: node for node in small_graph().graph.node for value in node.output}


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_onnxruntime_computes_what_the_model_computes(batch: int) -> None:
    model, path, _ = small_export()
    images = example_images(batch, SIDE, seed=100 + batch)
    with torch.inference_mode():
        expected = [output.numpy() for output in model(images)]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for ours, theirs in zip(session.run(None, {"image": images.numpy()}), expected, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


def test_the_agreement_reported_is_that_of_rounding() -> None:
    _, _, agreement = small_export()
    assert agreement.batches == (1, 2, 7)
    assert 0 < agreement.max_difference_relative < 1e-5
    assert agreement.max_neighbour_effect < 1e-6


def test_attention_is_matmul_softmax_matmul() -> None:
    made_by = makers()
    softmaxes = [node for node in by_operator("Softmax") if node.name.startswith("mesh_regressor/")]
    assert len(softmaxes) == sum(CONFIG.depths)
    for softmax in softmaxes:
        scores = made_by[softmax.input[0]]
        assert scores.op_type == "MatMul"
        assert made_by[scores.input[0]].op_type == made_by[scores.input[1]].op_type == "Transpose"
        readers = [node for node in small_graph().graph.node if softmax.output[0] in node.input]
        assert [reader.op_type for reader in readers] == ["MatMul"]


def test_linear_maps_are_matmul_and_add_without_reshapes() -> None:
    assert by_operator("Gemm") == []
    made_by = makers()
    blocks = [node for node in by_operator("MatMul") if "/mlp/" in node.name]
    assert len(blocks) == 2 * sum(CONFIG.depths)
    assert all(made_by[node.input[0]].op_type != "Reshape" for node in blocks)


def test_no_map_of_the_pyramid_is_transposed() -> None:
    for node in by_operator("Transpose"):
        assert "relu" not in node.input[0].lower()
        assert not node.name.startswith("encoder/")


def test_the_volume_of_the_heatmap_is_never_made() -> None:
    volume = 21 * CONFIG.depth_bins * (SIDE // 4) ** 2
    graph = small_graph()
    types = tensor_types(graph, batch=1)
    made = [node for node in graph.graph.node if stage_of(node.name) == "heatmap"]
    assert len(made) > 20
    assert max(types[node.output[0]].size for node in made) < volume / 2


def test_the_file_tells_nothing_about_the_machine_it_was_made_on() -> None:
    content = small_export()[1].read_bytes()
    for trace in (b".py", b"site-packages", str(Path.home()).encode(), str(Path(__file__).parents[1]).encode()):
        assert trace not in content


def test_a_graph_that_breaks_a_guarantee_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_shape(graph: onnx.ModelProto) -> onnx.ModelProto:
        graph.graph.node.append(onnx.helper.make_node("Shape", ["image"], ["sizes"], name="encoder/Shape"))
        return graph

    monkeypatch.setattr(graph_module, "trace", lambda *_, **__: SimpleNamespace(graph=small_graph()))
    monkeypatch.setattr(graph_module, "simplify", with_shape)
    with pytest.raises(InputError, match="encoder/Shape"):
        export_graph(small_hand(), tmp_path / "model.onnx", input_size=SIDE)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "trace", lambda *_, **__: SimpleNamespace(graph=small_graph()))
    with pytest.raises(InputError, match="'joints_uvd' differs from PyTorch's at batch 1"):
        export_graph(small_hand(seed=1), tmp_path / "model.onnx", input_size=SIDE)


def test_a_simplification_that_changed_the_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module.onnxsim, "simplify", lambda graph, **_: (graph, False))
    with pytest.raises(InputError, match="onnxsim changed"):
        simplify(small_graph())


def test_an_exporter_that_returns_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(InputError, match="returned no graph"):
        graph_module.trace(small_hand(), SIDE)


def test_weights_beyond_what_a_file_holds_are_refused_before_the_graph_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(graph_module, "trace", lambda *_, **__: pytest.fail("the graph was traced"))
    with pytest.raises(InputError, match=r"the graph is not written: its weights take .* choose a smaller backbone"):
        export_graph(small_hand(), tmp_path / "model.onnx", input_size=SIDE)
    assert not (tmp_path / "model.onnx").exists()
