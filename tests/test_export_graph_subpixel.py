"""Transposed convolutions written as ordinary ones, against PyTorch's own."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.graph.subpixel import PHASES, PhaseHead, SubpixelUpsampling, even_first, interleaved

JOINTS = 3


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31 - 1),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    extent=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    batch=st.integers(1, 3),
)
def test_phases_interleaved_are_the_transposed_convolution(
    seed: int, channels: tuple[int, int], extent: tuple[int, int], batch: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.ConvTranspose2d(*channels, 4, stride=2, padding=1)
    x = torch.randn(batch, channels[0], *extent)
    with torch.no_grad():
        ours = interleaved(SubpixelUpsampling(conv.weight, conv.bias)(x))
        torch.testing.assert_close(ours, conv(x).relu(), atol=1e-6, rtol=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), extent=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_heads_on_phases_are_the_heads_on_the_map_with_even_bins_first(seed: int, extent: tuple[int, int]) -> None:
    torch.manual_seed(seed)
    channels = 4
    phases, head = torch.randn(2, 4 * channels, *extent), nn.Conv1d(channels, JOINTS, 1)
    whole = interleaved(phases)
    with torch.no_grad():
        # Bins are rows (axis 0) where the mean runs over the columns, dimension 3, and the other way round.
        for axis, dim in ((0, 3), (1, 2)):
            ours = PhaseHead(head.weight, head.bias, axis=axis)(phases.mean(dim=dim))
            theirs = head(whole.mean(dim=dim))
            torch.testing.assert_close(
                ours, torch.stack([even_first(row) for row in theirs.flatten(0, 1)]).view_as(ours)
            )


def test_a_batch_norm_in_the_transposed_convolution_is_in_its_phases() -> None:
    torch.manual_seed(0)
    conv, norm = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(2)
    for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        values.data.uniform_(0.5, 2)
    fused = fuse_conv_bn_eval(conv.eval(), norm.eval(), transpose=True)
    x = torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        ours = interleaved(SubpixelUpsampling(fused.weight, fused.bias)(x))
        torch.testing.assert_close(ours, norm(conv(x)).relu(), atol=1e-6, rtol=1e-5)


def test_every_tap_of_the_kernel_is_in_one_phase() -> None:
    taps = torch.arange(16.0).reshape(1, 1, 4, 4)
    phases = SubpixelUpsampling(taps, torch.zeros(1)).phases
    assert len(phases) == len(PHASES)
    assert sorted(int(tap) for phase in phases for tap in phase.weight.flatten()) == list(range(16))


def test_gradients_reach_the_transposed_convolutions_weights() -> None:
    torch.manual_seed(0)
    conv, x = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1), torch.randn(1, 2, 3, 3)
    (expected,) = torch.autograd.grad(conv(x).relu().square().sum(), conv.weight)
    found = torch.autograd.grad(SubpixelUpsampling(conv.weight, conv.bias)(x).square().sum(), conv.weight)[0]
    torch.testing.assert_close(found, expected)
