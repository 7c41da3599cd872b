"""What each cell of an image shows of the hand, read from the pyramid: only training needs it, export leaves it out.

One label for each cell teaches an encoder that starts from random weights far more than 21 joints of the whole image.

Source: the top-down path of feature pyramid networks (Lin et al. 2017); surface coordinates as dense targets (Guler et
al. 2018, DensePose; Wang et al. 2019, NOCS).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cliphand.hand import N_JOINTS
from cliphand.model.precision import in_float32

WIDTH = 64
PARTS = [N_JOINTS, 3, 1, 1]


class DensePrediction(NamedTuple):
    """Maps of a batch, S = input side / 4.

    Attributes:
        heatmaps: (B, 21, S, S) logits of each joint's place.
        coordinates: (B, 3, S, S) place on the template of the hand seen, each axis of its box in [-1, 1].
        depth: (B, 1, S, S) bones (0-9) from the wrist.
        seen: (B, 1, S, S) logits of the cell's share that shows the hand.
    """

    heatmaps: Tensor
    coordinates: Tensor
    depth: Tensor
    seen: Tensor


class DenseBranch(nn.Module):
    """The pyramid F1 to F4 to maps at stride 4.

    Args:
        channels: of F1 to F4.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in channels)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(WIDTH, sum(PARTS), 1)

    def forward(self, maps: Sequence[Tensor]) -> DensePrediction:
        """Maps (B, C, side, side) of strides 4, 8, 16 and 32 to the prediction."""
        *finer, features = (lateral(level) for lateral, level in zip(self.laterals, maps, strict=True))
        for level in reversed(finer):
            features = level + functional.interpolate(features, size=level.shape[-2:], mode="nearest")
        return DensePrediction(*torch.split(in_float32(self.head, self.mix(features)), PARTS, dim=1))
