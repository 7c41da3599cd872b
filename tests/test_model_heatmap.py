"""The separable heatmap against the 3D volume it replaces."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cliphand.config import ModelConfig
from cliphand.hand import N_JOINTS
from cliphand.model.heatmap import JointFeature, SeparableHeatmapConv, gaussian

CONFIG = ModelConfig(input_size=64, depth_bins=24, heatmap_sigma=1.5)


def volume(uvd: Tensor, config: ModelConfig) -> Tensor:
    """(B, 21 * bins, S/4, S/4): the Gaussians on the full grid, z inside the channels, as published."""
    side, bins = config.input_size // 4, config.depth_bins
    z, y, x = torch.meshgrid(torch.arange(bins), torch.arange(side), torch.arange(side), indexing="ij")
    centre_x, centre_y = uvd[..., 0] * side, uvd[..., 1] * side
    centre_z = (uvd[..., 2] / config.depth_range + config.depth_origin) * bins
    squared = sum(
        (grid - centre[..., None, None, None]) ** 2 for grid, centre in ((x, centre_x), (y, centre_y), (z, centre_z))
    )
    return torch.exp(-squared / (2 * config.heatmap_sigma**2)).flatten(1, 2)


def plain(conv: SeparableHeatmapConv, uvd: Tensor) -> Tensor:
    return functional.conv2d(volume(uvd, CONFIG), conv.weight.flatten(1, 2), padding=1)


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.sampled_from([1, 3]), st.floats(0.2, 1.6))
def test_separable_convolution_is_the_convolution_of_the_volume(seed: int, batch: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    conv = SeparableHeatmapConv(CONFIG, 5)
    uvd = 0.5 + spread * (torch.rand(batch, N_JOINTS, 3, generator=generator) - 0.5)  # beyond the crop as well
    torch.testing.assert_close(conv(uvd), plain(conv, uvd), atol=1e-5, rtol=1e-5)


def test_gradients_of_joints_and_weights_agree() -> None:
    torch.manual_seed(0)
    conv = SeparableHeatmapConv(CONFIG, 5)
    uvd = torch.rand(2, N_JOINTS, 3, requires_grad=True)
    direction = torch.randn(2, 5, 16, 16)
    ours, theirs = (
        torch.autograd.grad((form * direction).sum(), [uvd, conv.weight]) for form in (conv(uvd), plain(conv, uvd))
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_gaussian_peaks_at_its_centre_and_is_zero_in_the_padding() -> None:
    values = gaussian(torch.tensor([3.0]), 8, sigma=2.5, pad=1)
    assert values.shape == (1, 10)
    assert values[0, 0] == values[0, -1] == 0
    assert values[0].argmax() == 4
    assert values[0, 4] == 1
    assert values[0, 5] == pytest.approx(0.92311635)  # exp(-1 / 12.5)


def test_no_tensor_of_the_volumes_size_is_made() -> None:
    config = ModelConfig(input_size=128)
    side = config.input_size // 4
    sizes: list[int] = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, Tensor) else 0)
            return out

    conv = SeparableHeatmapConv(config, N_JOINTS)
    with Largest():
        conv(torch.rand(1, N_JOINTS, 3))
    assert max(sizes) < N_JOINTS * config.depth_bins * side * side / 4


def test_joint_feature_depends_on_joints_and_on_the_shallow_map() -> None:
    torch.manual_seed(0)
    feature = JointFeature(CONFIG, 8).eval()
    shallow, uvd = torch.randn(1, 8, 16, 16), torch.rand(1, N_JOINTS, 3)
    base = feature(shallow, uvd)
    assert base.shape == (1, N_JOINTS, CONFIG.joint_feature)
    assert not torch.allclose(base, feature(shallow, uvd + 0.2))
    assert not torch.allclose(base, feature(shallow + 0.5, uvd))
