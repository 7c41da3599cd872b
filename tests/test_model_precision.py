"""What autocast may not round: the mesh, the joints, their logits and the losses."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_hand import CONFIG, SIDE, small_hand
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from cliphand.config import LossConfig, TrainConfig
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand, Matched
from cliphand.model.hand_model import HandModel, HandPrediction
from cliphand.training.module import HandTraining
from cliphand.training.samples import Pair, View

SIDE_MM = 250.0  # of a crop about a hand
IMAGES = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


@pytest.fixture(scope="module")
def true_verts(hand_topology: HandTopology) -> Tensor:
    """(778, 3) uvd of a hand that fills three quarters of the crop."""
    verts = hand_topology.template - hand_topology.template.mean(axis=0)
    verts = verts / np.ptp(verts) * 0.75
    return torch.from_numpy(verts + np.array([0.5, 0.5, 0.0])).float()


@torch.no_grad()
def planted(verts: Tensor) -> HandModel:
    """A network whose last layer reads the true vertices off the nodes' features, to which the blocks add nothing."""
    model = small_hand(dataclasses.replace(CONFIG, depths=(1, 1, 1, 1)))
    level, out = model.mesh_regressor.levels[-1], model.mesh_regressor.out
    level.template.copy_(verts)
    for layer in (level.map_nodes, *(layer for block in level.blocks for layer in (block.attention.out, block.mlp[2]))):
        layer.weight.zero_()
        layer.bias.zero_()
    out.weight.zero_()
    out.weight[:, -3:] = torch.eye(3)
    out.bias.zero_()
    return model


def training(hand: HandModel, topology: HandTopology, text: nn.Module | None = None) -> HandTraining:
    train = TrainConfig(backbone_weights="none", loss=LossConfig(clip=0.1 if text is not None else 0.0, heatmaps=0.1))
    model = ClipHand(hand, None)
    model.text = text  # type: ignore[assignment]
    module = HandTraining(model, topology=topology, model_config=CONFIG, train=train)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module


def pair(verts: Tensor, joints: Tensor) -> Pair:
    view = View(IMAGES[:2], joints.expand(2, -1, -1), verts.expand(2, -1, -1))
    turned = torch.tensor([[0.8, -0.6, 0.3], [0.6, 0.8, -0.2]]).expand(2, -1, -1)
    return Pair(view, view, turned, torch.zeros(2, 3, 77, dtype=torch.int64))


@pytest.mark.usefixtures("autocast")
def test_planted_true_vertices_survive_mixed_precision(hand_topology: HandTopology, true_verts: Tensor) -> None:
    module = training(planted(true_verts), hand_topology)
    batch = pair(true_verts, torch.rand(21, 3))
    prediction = module.model.hand.predict(IMAGES)
    assert (prediction.verts_uvd - true_verts).norm(dim=-1).max() * SIDE_MM < 0.001
    terms = module.hand_terms(prediction, batch)
    assert terms["vertices"] * SIDE_MM < 0.001
    assert terms["normals"] < 1e-4
    assert terms["edges"] * SIDE_MM < 0.001


def test_joints_are_read_off_their_logits_in_float32(autocast: None) -> None:
    model = small_hand()
    for head in (model.joint_regressor.head_x, model.joint_regressor.head_y, model.joint_regressor.head_z):
        head.weight.data.zero_()
        head.bias.data.normal_(std=30.0)  # of a confident heatmap, far beyond what 8 bits tell apart
    expected = [head.bias for head in (model.joint_regressor.head_x, model.joint_regressor.head_z)]
    found = model.predict_joints(IMAGES).logits
    for logits, bias in zip((found[0], found[2]), expected, strict=True):
        assert torch.equal(logits, bias[None, :, None].expand_as(logits))


class FixedText(nn.Module):
    """A text branch whose features do not depend on anything."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.features = nn.functional.normalize(torch.randn(2, 3, 2, 64, generator=generator), dim=-1)

    def forward(self, logits: tuple[Tensor, ...], tokens: Tensor) -> Matched:
        return Matched(*self.features)

    def scales(self) -> Tensor:
        return torch.full((3,), 100.0)


def test_every_loss_term_of_a_prediction_is_that_of_full_precision(
    hand_topology: HandTopology, true_verts: Tensor
) -> None:
    module = training(small_hand(), hand_topology, FixedText())
    prediction: HandPrediction = module.model.hand.predict(IMAGES)
    batch = pair(true_verts, torch.rand(21, 3))
    full = module.hand_terms(prediction, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module.hand_terms(prediction, batch)
    assert {"consistency_2d", "consistency_3d", "normals", "clip", "heatmaps"} < set(full)
    assert mixed == full


def test_without_autocast_the_network_computes_the_same_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    def operations() -> list[str]:
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            small_hand()(IMAGES)
        return [event.name for event in seen.events()]

    guarded = operations()
    for module in ("mesh_regressor", "joint_regressor"):
        monkeypatch.setattr(f"cliphand.model.{module}.in_float32", lambda layer, x: layer(x))
    assert operations() == guarded
