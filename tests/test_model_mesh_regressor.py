"""Levels, attention and the positions of their inputs."""

import dataclasses

import pytest
import torch

from cliphand.config import ModelConfig
from cliphand.hand import HandTopology
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.model.mesh_regressor import NodeAttention, NodeLinear, QuickGELU, SingleTokenAttention, TransformerBlock

CONFIG = ModelConfig(backbone="resnet18", input_size=64)


def hand_model(topology: HandTopology, config: ModelConfig = CONFIG) -> HandModel:
    torch.manual_seed(0)
    return HandModel(config, level_templates(topology, config.levels)).eval()


def test_node_attention_is_multi_head_attention_batch_first() -> None:
    torch.manual_seed(0)
    ours = NodeAttention(32, 4)
    theirs = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.query_key_value.weight,
            "in_proj_bias": ours.query_key_value.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = torch.randn(3, 11, 32)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=1e-6, rtol=1e-5)


def test_single_token_attention_is_multi_head_attention_over_one_token() -> None:
    torch.manual_seed(0)
    ours = SingleTokenAttention(16, 4)
    theirs = torch.nn.MultiheadAttention(16, 4)
    with torch.no_grad():
        theirs.in_proj_weight[32:] = ours.value.weight
        theirs.in_proj_bias[32:] = ours.value.bias
    theirs.out_proj = ours.out
    x = torch.randn(1, 7, 16)  # (tokens = 1, batch = 7, size), batch second
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0], atol=1e-6, rtol=1e-5)


def test_transformer_block_adds_to_its_input() -> None:
    block = TransformerBlock(16, 2, attention="nodes", activation="quick_gelu")
    for layer in (block.attention.out, block.mlp[2]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(2, 5, 16)
    assert torch.equal(block(x), x)


def test_quick_gelu_is_x_times_a_sigmoid() -> None:
    assert QuickGELU()(torch.tensor(1.0)).item() == pytest.approx(1 / (1 + torch.e**-1.702), rel=1e-6)


def test_node_linear_maps_the_node_axis() -> None:
    layer = NodeLinear(4, 6)
    x = torch.randn(2, 4, 3)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x.mT, layer.weight, layer.bias).mT)


def test_shapes_follow_the_config(hand_topology: HandTopology) -> None:
    config = dataclasses.replace(
        CONFIG, levels=(50, 100, 200, 778), feature_sizes=(64, 48, 32, 16), depths=(1, 0, 2, 1), heads=(8, 4, 2, 1)
    )
    model = hand_model(hand_topology, config)
    joints, verts = model(torch.zeros(2, 3, 64, 64))
    assert joints.shape == (2, 21, 3)
    assert verts.shape == (2, 778, 3)
    levels = model.mesh_regressor.levels
    assert [len(level.blocks) for level in levels] == [1, 0, 2, 1]
    assert [tuple(level.template.shape) for level in levels] == [(50, 3), (100, 3), (200, 3), (778, 3)]


@pytest.mark.parametrize("attention", ["nodes", "single_token"])
@pytest.mark.parametrize("pyramid", ["before", "after"])
def test_an_image_alone_gives_what_it_gives_in_a_batch(
    hand_topology: HandTopology, attention: str, pyramid: str
) -> None:
    model = hand_model(hand_topology, dataclasses.replace(CONFIG, attention=attention, pyramid=pyramid))
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for together, alone in zip(model(images), zip(*(model(image[None]) for image in images), strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=1e-5)


def test_nodes_attend_to_each_other(hand_topology: HandTopology) -> None:
    """A change of one node's input reaches other nodes through node attention, and none through a single token."""
    x = torch.randn(1, 12, 32)
    changed = x.clone()
    changed[0, 0] += 1.0
    for attention, reaches in (("nodes", True), ("single_token", False)):
        torch.manual_seed(0)
        block = TransformerBlock(32, 4, attention=attention, activation="gelu")
        assert bool((block(changed)[0, 1:] != block(x)[0, 1:]).any()) is reaches


def test_each_pyramid_map_reaches_the_vertices(hand_topology: HandTopology) -> None:
    model = hand_model(hand_topology)
    pyramid = model.encoder(torch.randn(1, 3, 64, 64))
    joints = torch.full((1, 21, 3), 0.5)
    feature = model.joint_feature(pyramid.shallow, joints)
    base = model.mesh_regressor(feature, pyramid.maps, joints)
    for index in range(4):
        maps = tuple(m + (0.5 if i == index else 0.0) for i, m in enumerate(pyramid.maps))
        assert not torch.allclose(model.mesh_regressor(feature, maps, joints), base)
