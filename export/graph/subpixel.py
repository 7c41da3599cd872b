"""Transposed convolutions of kernel 4 and stride 2 as ordinary ones, which every run-time does fast and in INT8.

An output's row is even or odd, and so is its column. Outputs of one such phase see two rows and two columns of the
kernel only: each phase is a convolution of kernel 2 over the map, with one row and one column of padding on the side
that its outputs lean to. The same products, none of them with an inserted zero.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.graph.frozen import frozen

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # row and column of an output in its square of two by two


class Phase(nn.Module):
    """One phase of a transposed convolution, and the ReLU after it.

    Args:
        weight: (in, out, 4, 4) of the transposed convolution.
        bias: (out,).
        row, column: the phase.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, row: int, column: int) -> None:
        super().__init__()
        # Output 2 i + row takes input i - 1 + row + tap with the kernel's row 3 - row - 2 tap.
        self.weight = frozen(weight.flip(2, 3)[:, :, row::2, column::2].transpose(0, 1))
        self.bias = frozen(bias)
        self.padding = (1 - column, column, 1 - row, row)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, out, H, W)."""
        return torch.relu(functional.conv2d(functional.pad(x, self.padding), self.weight, self.bias))


class SubpixelUpsampling(nn.Module):
    """A transposed convolution of stride 2 and padding 1, and the ReLU after it.

    Args:
        weight: (in, out, 4, 4).
        bias: (out,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.phases = nn.ModuleList(Phase(weight, bias, row=row, column=column) for row, column in PHASES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) to (B, 4 * out, H, W), the phases one after another: see `interleaved`."""
        return torch.cat([phase(x) for phase in self.phases], dim=1)


def interleaved(phases: Tensor) -> Tensor:
    """What `SubpixelUpsampling` returns as the map that it stands for: (B, 4 C, H, W) to (B, C, 2 H, 2 W)."""
    _, channels, height, width = phases.shape
    squares = phases.reshape(-1, 2, 2, channels // 4, height, width)
    return squares.permute(0, 3, 4, 1, 5, 2).reshape(-1, channels // 4, 2 * height, 2 * width)


class PhaseHead(nn.Module):
    """A 1D convolution of kernel 1 on a map's mean over one axis, with the map given as phases.

    The mean over both phases of the axis that is averaged away is part of the weight. Bins come out even ones first.

    Args:
        weight: (joints, C, 1) of the head on the map itself.
        bias: (joints,).
        axis: 0 where bins are rows, 1 where they are columns.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, axis: int) -> None:
        super().__init__()
        half, none = weight / 2, torch.zeros_like(weight)
        rows = [torch.cat([half if phase[axis] == parity else none for phase in PHASES], dim=1) for parity in (0, 1)]
        self.weight = frozen(torch.stack(rows, dim=1).flatten(0, 1))  # (joints * 2, 4 C, 1)
        self.bias = frozen(bias.repeat_interleave(2))

    def forward(self, mean: Tensor) -> Tensor:
        """(B, 4 C, n) to logits (B, joints, 2 n)."""
        logits = functional.conv1d(mean, self.weight, self.bias)
        return logits.reshape(-1, len(self.bias) // 2, 2 * mean.shape[2])


def even_first(positions: Tensor) -> Tensor:
    """(2 n,) positions of bins in the order of a `PhaseHead`'s logits."""
    return torch.cat([positions[0::2], positions[1::2]])
