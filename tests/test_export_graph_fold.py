"""The folded model against the model it was made from."""

import dataclasses

import pytest
import torch
from small_hand import CONFIG, SIDE, small_hand
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cliphand.config import ModelConfig
from export.graph.deploy_model import example_images
from export.graph.fold import fold

RELEASED = dataclasses.replace(
    CONFIG,
    attention="single_token",
    activation="quick_gelu",
    pyramid="after",
    bin_position="index",
    depth_range=1.0,
    depth_origin=0.0,
)


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        RELEASED,
        dataclasses.replace(CONFIG, pyramid="after"),
        dataclasses.replace(RELEASED, pyramid="before"),
        dataclasses.replace(CONFIG, heatmap_sigma=4.0, depth_bins=40, depth_range=2.0, depth_origin=0.3),
        dataclasses.replace(CONFIG, bin_position="edge", input_size=96),
    ],
    ids=["default", "released", "pyramid after", "single token before", "wide heatmap", "other size"],
)
def test_folded_model_computes_what_the_model_computes(config: ModelConfig) -> None:
    model = small_hand(config)
    images = example_images(3, config.input_size, seed=5)
    with torch.inference_mode():
        for ours, theirs in zip(fold(model)(images), model(images), strict=True):
            assert relative_difference(ours, theirs) < 1e-5


def test_the_model_is_left_as_it_is() -> None:
    model = small_hand()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold(model)
    after = model.state_dict()
    assert {tensor.dtype for tensor in after.values()} == {torch.float32, torch.int64}
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_change_of_the_model_afterwards_does_not_reach_the_folded_one() -> None:
    model = small_hand()
    folded, images = fold(model), example_images(1, SIDE)
    before = folded(images)[1].clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(folded(images)[1], before)


def test_only_the_encoder_keeps_batch_norms() -> None:
    folded = fold(small_hand())
    for name, module in folded.named_modules():
        assert not isinstance(module, nn.modules.batchnorm._BatchNorm) or name.startswith("encoder."), name


def test_branches_that_only_training_needs_are_merged() -> None:
    """RepViT's blocks add an identity and several convolutions, each with its BatchNorm."""
    hand = small_hand(dataclasses.replace(CONFIG, backbone="repvit_m0_9"))
    model, folded, images = hand.encoder, fold(hand).encoder, example_images(2, SIDE)
    norms, convs = (
        [sum(isinstance(module, kind) for module in form.modules()) for form in (model, folded)]
        for kind in (nn.BatchNorm2d, nn.Conv2d)
    )
    assert norms[0] > 50
    assert norms[1] == 0
    assert convs[1] < convs[0]
    with torch.inference_mode():
        for ours, theirs in zip(folded(images).maps, model(images).maps, strict=True):
            assert relative_difference(ours, theirs) < 1e-5


def test_the_mesh_regressor_does_the_folded_products_and_no_more() -> None:
    folded, images = fold(small_hand()), example_images(1, SIDE)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        folded(images)
    found = sum(counter.get_flop_counts()["FoldedHand.mesh_regressor"].values())
    expected = CONFIG.feature_sizes[-1] * 3 * 778
    nodes_before, features_before = 21, (SIDE // 4) ** 2  # the flattened maps themselves, not their joint features
    for level, (nodes, size) in enumerate(zip(CONFIG.levels, CONFIG.feature_sizes, strict=True)):
        channels, side = folded.encoder.channels[-1 - level], SIDE // 32 * 2**level
        expected += nodes_before * features_before * size + nodes * (nodes_before + 21) * size
        expected += 21 * channels * (side**2 + size)
        expected += CONFIG.depths[level] * nodes * size * (12 * size + 2 * nodes)
        nodes_before, features_before = nodes, size
    assert found == 2 * expected


def test_taps_of_the_heatmap_outside_the_grid_are_exactly_zero() -> None:
    heatmap = fold(small_hand()).heatmap
    side = SIDE // 4
    samples = heatmap.gaussian_x(torch.tensor([[[0.0]], [[1.0]]])).reshape(2, 3, side)
    assert samples[0, 0, 0] == 0  # the tap left of the first cell
    assert samples[1, 2, -1] == 0  # the tap right of the last cell
    assert samples[0, 1, 0] == 1  # a joint on the first cell
    assert torch.equal(samples[0, 1, 1:], samples[0, 2, :-1])  # the taps see one grid, shifted


def test_attention_scores_are_scaled_by_the_query() -> None:
    model = small_hand()
    block = model.mesh_regressor.levels[0].blocks[0]
    folded = fold(model).mesh_regressor.levels[0].blocks[0]
    size = CONFIG.feature_sizes[0]
    expected = block.attention.query_key_value.weight[:size].T * (size // CONFIG.heads[0]) ** -0.5
    torch.testing.assert_close(folded.attention.query.weight, expected)
