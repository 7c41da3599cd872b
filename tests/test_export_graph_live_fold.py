"""The folded network with gradients against the one that is exported."""

import dataclasses

import pytest
import torch
from small_hand import CONFIG, SIDE, small_hand

from cliphand.config import ModelConfig
from export.graph.deploy_model import example_images
from export.graph.fold import fold, live_fold, merged_encoder

TINY = dataclasses.replace(CONFIG, backbone="test_resnet")


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        dataclasses.replace(TINY, pyramid="after", attention="single_token"),
        dataclasses.replace(TINY, depth_bins=8),
    ],
    ids=["default", "pyramid after", "few bins"],
)
def test_it_computes_what_is_exported(config: ModelConfig) -> None:
    model = small_hand(config)
    images = example_images(2, SIDE)
    with torch.no_grad():
        exported = fold(model)(images)
        for ours, theirs in zip(live_fold(model.requires_grad_(True))(images), exported, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_every_weight_is_trained_through_it() -> None:
    model = small_hand(TINY).requires_grad_(True)
    joints, verts = live_fold(model)(example_images(2, SIDE))
    (joints.square().sum() + verts.square().sum()).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


def test_it_follows_the_weights() -> None:
    model, images = small_hand(TINY).requires_grad_(True), example_images(1, SIDE)
    with torch.no_grad():
        before = live_fold(model)(images)[1]
        model.mesh_regressor.levels[0].nodes_up.weight.mul_(1.1)
        after = live_fold(model)(images)[1]
        torch.testing.assert_close(after, model(images)[1], rtol=1e-5, atol=1e-5)
    assert (after - before).abs().max() > 1e-4


def test_an_encoder_that_merges_branches_is_taken_as_it_is_exported() -> None:
    assert merged_encoder(small_hand(TINY).encoder) is None
    model = small_hand(dataclasses.replace(CONFIG, backbone="repvit_m0_9"))
    merged = merged_encoder(model.encoder)
    assert merged is not None
    assert sum(1 for _ in merged.modules()) < sum(1 for _ in model.encoder.modules())
    assert not any(weight.requires_grad for weight in merged.parameters())
    images = example_images(1, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(live_fold(model, merged)(images), model(images), rtol=1e-4, atol=1e-4)
