"""Names of nodes and values of an exported graph."""

import re

import onnx
from onnx import helper
from small_hand import small_graph

from export.graph.node_names import STAGES, name_nodes, stage_of


def test_every_node_belongs_to_a_stage_and_has_a_name_of_its_own() -> None:
    names = [node.name for node in small_graph().graph.node]
    assert len(set(names)) == len(names)
    assert {stage_of(name) for name in names} == set(STAGES)


def test_names_follow_modules_and_operators() -> None:
    operators = {node.name: node.op_type for node in small_graph().graph.node}
    for name in (
        "encoder/backbone/conv1/Conv",
        "encoder/backbone/layer1/0/conv2/Conv",
        "encoder/backbone/layer2/0/downsample/0/Conv",
        "joint_regressor/upsample/0/phases/3/Conv",
        "joint_regressor/depth/MatMul",
        "heatmap/shallow/Conv",
        "mesh_regressor/levels/0/blocks/0/attention_norm/LayerNormalization",
        "mesh_regressor/levels/3/blocks/0/attention/query/MatMul",
        "mesh_regressor/out/Add",
    ):
        assert operators[name] == name.rpartition("/")[2]


def test_values_are_named_after_the_nodes_that_make_them() -> None:
    graph = small_graph().graph
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for value in node.output:
            assert value in outputs or value.startswith(node.name)
    assert outputs == {"joints_uvd", "verts_uvd"}


def test_names_of_weights_are_those_of_the_model() -> None:
    weights = {tensor.name for tensor in small_graph().graph.initializer}
    assert "encoder.backbone.layer1.0.conv1.weight" in weights
    assert "mesh_regressor.levels.0.features" in weights


def test_a_node_without_metadata_stands_with_what_it_reads() -> None:
    nodes = [helper.make_node("Relu", ["image"], ["a"]), helper.make_node("Split", ["a"], ["b", "c"])]
    scopes = nodes[0].metadata_props.add()
    scopes.key, scopes.value = "pkg.torch.onnx.name_scopes", "['', 'encoder', 'encoder.stem', 'relu_7']"
    graph = helper.make_graph(nodes, "g", [], [])
    model = helper.make_model(graph)
    name_nodes(model)
    assert [node.name for node in model.graph.node] == ["encoder/stem/Relu", "encoder/stem/Split"]
    assert list(model.graph.node[1].input) == ["encoder/stem/Relu"]
    assert list(model.graph.node[1].output) == ["encoder/stem/Split.0", "encoder/stem/Split.1"]
    assert not model.graph.node[0].metadata_props


def test_nodes_of_one_module_and_operator_are_numbered() -> None:
    names = [node.name for node in small_graph().graph.node if re.match(r"joint_regressor/Softmax", node.name)]
    assert names == ["joint_regressor/Softmax", "joint_regressor/Softmax_2", "joint_regressor/Softmax_3"]


def test_a_name_from_elsewhere_has_no_stage() -> None:
    assert stage_of("encoder/backbone/conv1/Conv") == "encoder"
    assert stage_of("backbone/conv1/Conv") == stage_of("Cast_12") == stage_of("") == "graph"


def test_naming_keeps_the_graph_valid() -> None:
    onnx.checker.check_model(small_graph(), full_check=True)
