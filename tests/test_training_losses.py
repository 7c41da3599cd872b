"""Each loss term against a hand-computed value."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cliphand.config import LossConfig, Reduction
from cliphand.model.joint_regressor import bin_positions, expected_bin
from cliphand.training.contrast import clip_loss
from cliphand.training.losses import (
    consistency_2d,
    consistency_3d,
    edge_loss,
    heatmap_cross_entropy,
    normal_loss,
    point_l1,
)
from cliphand.training.module import weighted_sum

TRIANGLE = torch.tensor([[[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
FACE = torch.tensor([[0, 1, 2]])


def turned(angle: float) -> torch.Tensor:
    """(1, 2, 3): rotate (u, v) and shift by (0.1, 0.2)."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[[c, -s, 0.1], [s, c, 0.2]]])


def test_point_l1_is_the_mean_over_coordinates() -> None:
    predicted = torch.tensor([[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    assert point_l1(predicted, target).item() == pytest.approx((2 + 3 + 1) / 6)


def test_a_heatmap_is_best_as_a_gaussian_of_one_bin_about_the_truth() -> None:
    positions, truth = bin_positions(16, "centre"), torch.tensor([[0.4]])
    gaussian = -0.5 * ((positions - 0.4) * 16).square().expand(1, 1, -1)
    best = heatmap_cross_entropy(gaussian, positions, truth).item()
    wanted = gaussian[0, 0].softmax(-1)
    assert best == pytest.approx(-(wanted * wanted.log()).sum().item(), rel=1e-5)
    for other in (gaussian * 0, gaussian * 0.5, gaussian * 2, gaussian.roll(1, -1), gaussian.roll(-1, -1)):
        assert heatmap_cross_entropy(other, positions, truth).item() > best + 1e-3


@pytest.mark.parametrize("kind", ["centre", "edge", "index"])
def test_a_heatmap_that_follows_its_loss_ends_at_the_truth(kind: str) -> None:
    positions = bin_positions(32, kind)
    truth = (positions[3:28:5] * 0.98)[None]
    logits = torch.zeros(1, 5, 32, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(200):
        optimiser.zero_grad()
        heatmap_cross_entropy(logits, positions, truth).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    bin_width = float(positions[1] - positions[0])
    assert (expected_bin(logits, positions) - truth).abs().max() < 0.02 * bin_width


def test_a_joint_outside_the_heatmaps_span_counts_as_at_its_end() -> None:
    positions, logits = bin_positions(8, "centre"), torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(0))
    beyond, end = torch.tensor([[1.7]]), positions[-1].view(1, 1)
    assert heatmap_cross_entropy(logits, positions, beyond) == heatmap_cross_entropy(logits, positions, end)


def test_edges_in_the_true_plane_cost_nothing() -> None:
    moved = TRIANGLE * 2 + torch.tensor([5.0, -1.0, 7.0])
    assert normal_loss(moved, TRIANGLE, FACE).item() == pytest.approx(0, abs=1e-6)


def test_normal_loss_is_the_mean_cosine_of_edge_and_normal() -> None:
    lifted = TRIANGLE.clone()
    lifted[0, 2] = torch.tensor([0.0, 0.0, 4.0])  # edges: (-3,0,0) flat; (3,0,-4)/5 cosine 0.8; (0,0,4) cosine 1
    assert normal_loss(lifted, TRIANGLE, FACE).item() == pytest.approx((0 + 0.8 + 1) / 3)


def test_edge_loss_is_the_mean_difference_of_lengths() -> None:
    assert edge_loss(2 * TRIANGLE, TRIANGLE, FACE).item() == pytest.approx((3 + 5 + 4) / 3)


def test_a_collapsed_edge_has_a_finite_gradient() -> None:
    verts = torch.zeros(1, 3, 3, requires_grad=True)
    loss = edge_loss(verts, TRIANGLE, FACE) + normal_loss(verts, TRIANGLE, FACE)
    loss.backward()
    assert verts.grad is not None
    assert torch.isfinite(verts.grad).all()


@given(st.floats(-3.1, 3.1))
def test_views_that_agree_have_no_consistency_loss(angle: float) -> None:
    affine = turned(angle)
    joints, verts = torch.rand(1, 21, 3), torch.rand(1, 778, 3)

    def into_second(points: torch.Tensor) -> torch.Tensor:
        uv = points[..., :2] @ affine[:, :, :2].mT + affine[:, None, :, 2]
        return torch.cat([uv, points[..., 2:]], dim=-1)

    assert consistency_2d(joints, into_second(joints), affine).item() == pytest.approx(0, abs=1e-6)
    loss = consistency_3d(verts, into_second(verts), joints, into_second(joints), affine)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_consistency_2d_is_the_mean_distance_in_the_second_view() -> None:
    affine = turned(math.pi / 2)
    first = torch.tensor([[[1.0, 0.0, 9.0]]])  # turned onto (0, 1), shifted to (0.1, 1.2)
    second = torch.tensor([[[0.1, 1.0, -9.0]]])
    assert consistency_2d(first, second, affine).item() == pytest.approx(0.2 / 2)


def test_consistency_3d_compares_root_relative_vertices() -> None:
    affine = turned(math.pi / 2)
    joints = torch.zeros(1, 21, 3)
    joints[0, 0] = torch.tensor([1.0, 1.0, 1.0])
    first = torch.tensor([[[2.0, 1.0, 1.5]]])  # (1, 0, 0.5) from the root, turned onto (0, 1, 0.5)
    second = torch.tensor([[[1.0, 2.3, 1.5]]])  # (0, 1.3, 0.5) from the root
    assert consistency_3d(first, second, joints, joints, affine).item() == pytest.approx(0.3 / 3)


def test_a_sum_is_the_mean_times_what_a_sample_has_of_each() -> None:
    generator = torch.Generator().manual_seed(0)
    (joints, other), (verts, true) = torch.rand(2, 4, 21, 3, generator=generator), torch.rand(2, 4, 9, 3)
    faces, affine = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8], [2, 4, 8]]), turned(0.4).expand(4, -1, -1)
    logits = torch.randn(3, 4, 4, generator=generator)
    counts: dict[Callable[[Reduction], torch.Tensor], int] = {
        lambda how: point_l1(joints, other, reduction=how): 21 * 3,
        lambda how: normal_loss(verts, true, faces, reduction=how): 4 * 3,
        lambda how: edge_loss(verts, true, faces, reduction=how): 4 * 3,
        lambda how: consistency_2d(joints, other, affine, reduction=how): 21 * 2,
        lambda how: consistency_3d(verts, true, joints, other, affine, reduction=how): 9 * 3,
        lambda how: clip_loss(logits, reduction=how): 2,
    }
    for term, count in counts.items():
        torch.testing.assert_close(term("sum"), term("mean") * count)


def test_the_sum_has_the_papers_weights() -> None:
    terms = {
        name: torch.tensor(1.0)
        for name in ("joints", "vertices", "normals", "edges", "consistency_2d", "consistency_3d", "clip")
    }
    assert weighted_sum(terms, LossConfig()).item() == pytest.approx(2 * 1.0 + 2 * 0.05 + 3 * 0.1)
    assert weighted_sum({"edges": torch.tensor(4.0)}, LossConfig()).item() == pytest.approx(0.2)
