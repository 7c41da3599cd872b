"""Bins, expected bins and the lixel regressor."""

import pytest
import torch

from cliphand.config import ModelConfig
from cliphand.model.joint_regressor import JointRegressor, bin_positions, expected_bin


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("centre", [0.125, 0.375, 0.625, 0.875]), ("edge", [0, 0.25, 0.5, 0.75]), ("index", [0, 1, 2, 3])],
)
def test_bin_positions_are_where_the_config_says(kind: str, expected: list[float]) -> None:
    assert bin_positions(4, kind).tolist() == expected


def test_a_sharp_peak_gives_its_bins_centre() -> None:
    logits = torch.full((1, 32), -50.0)
    logits[0, 10] = 50
    assert expected_bin(logits, bin_positions(32, "centre")).item() == pytest.approx(10.5 / 32)


def test_two_equal_peaks_give_their_middle() -> None:
    logits = torch.full((8,), -100.0)
    logits[[1, 5]] = 3.0
    assert expected_bin(logits, bin_positions(8, "index")).item() == pytest.approx(3.0)


def test_flat_logits_put_joints_in_the_middle_at_the_wrists_depth() -> None:
    regressor = JointRegressor(ModelConfig(input_size=64), 16).eval()
    for head in (regressor.head_x, regressor.head_y, regressor.head_z):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    uvd = regressor(torch.randn(2, 16, 2, 2)).uvd
    torch.testing.assert_close(uvd, torch.tensor([0.5, 0.5, 0.0]).expand(2, 21, 3), atol=1e-6, rtol=0)


def test_x_follows_columns_and_y_follows_rows() -> None:
    torch.manual_seed(0)
    regressor = JointRegressor(ModelConfig(input_size=128), 16).eval()
    features = torch.randn(1, 16, 4, 4)
    plain, turned = regressor(features), regressor(features.transpose(2, 3))
    # The transposed convolutions are not symmetric; with their kernels transposed too, x and y must swap.
    for layer in regressor.upsample:
        if isinstance(layer, torch.nn.ConvTranspose2d):
            layer.weight.data = layer.weight.data.transpose(2, 3).contiguous()
    regressor.head_x, regressor.head_y = regressor.head_y, regressor.head_x
    swapped = regressor(features.transpose(2, 3))
    torch.testing.assert_close(swapped.logits[0], plain.logits[1])
    torch.testing.assert_close(swapped.logits[1], plain.logits[0])
    assert not torch.allclose(turned.logits[0], plain.logits[1])


def test_logits_have_one_bin_per_eight_pixels_and_the_configs_depth_bins() -> None:
    regressor = JointRegressor(ModelConfig(input_size=160, depth_bins=40), 8)
    x, y, z = regressor(torch.zeros(2, 8, 5, 5)).logits
    assert x.shape == y.shape == (2, 21, 20)
    assert z.shape == (2, 21, 40)
