"""Sampling by hat weights against grid_sample."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cliphand.model.projection import hat_weights, sample_at


def sampled(maps: Tensor, uv: Tensor) -> Tensor:
    grid = functional.grid_sample(
        maps, uv.unsqueeze(2) * 2 - 1, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return grid.squeeze(3).transpose(1, 2)


@settings(max_examples=30)
@given(st.integers(0, 2**31 - 1), st.integers(1, 9), st.integers(1, 9))
def test_hat_sampling_is_grid_sample_inside_and_outside(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 3, height, width, generator=generator)
    uv = torch.rand(2, 11, 2, generator=generator) * 2 - 0.5
    torch.testing.assert_close(sample_at(maps, uv), sampled(maps, uv), atol=1e-5, rtol=1e-5)


def test_border_and_corner_points_agree_with_grid_sample() -> None:
    maps = torch.randn(1, 4, 8, 8)
    edge = torch.tensor([0.0, 1 / 16, 0.5, 15 / 16, 1.0, -1 / 16, 17 / 16])
    uv = torch.cartesian_prod(edge, edge).unsqueeze(0)
    torch.testing.assert_close(sample_at(maps, uv), sampled(maps, uv), atol=1e-5, rtol=1e-5)


def test_a_cell_centre_takes_that_cell_alone() -> None:
    weights = hat_weights(torch.tensor(2.5 / 8), 8)
    assert weights.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_gradients_follow_grid_sample() -> None:
    maps = torch.randn(1, 2, 6, 6, requires_grad=True)
    uv = torch.rand(1, 5, 2, requires_grad=True)
    ours = torch.autograd.grad(sample_at(maps, uv).square().sum(), [maps, uv])
    theirs = torch.autograd.grad(sampled(maps, uv).square().sum(), [maps, uv])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
