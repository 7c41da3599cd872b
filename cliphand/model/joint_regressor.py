"""Lixel joint regressor: one 1D heatmap per joint and axis, and its expected bin.

Source: paper section 3.2, after I2L-MeshNet (Moon and Lee 2020).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cliphand.config import ModelConfig
from cliphand.hand import N_JOINTS
from cliphand.model.precision import in_float32

UPSAMPLING = 4  # two transposed convolutions of stride 2: bins along x and y = S / 32 * 4


class JointPrediction(NamedTuple):
    """Joints and the logits they come from.

    Attributes:
        uvd: (B, 21, 3), u and v over the crop's side, d in bones from the wrist.
        logits: 1D heatmap logits along x, y (B, 21, S/8) and z (B, 21, depth_bins).
    """

    uvd: Tensor
    logits: tuple[Tensor, Tensor, Tensor]


def bin_positions(n_bins: int, kind: str) -> Tensor:
    """(n_bins,) float32 positions of the bins: `centre` (i + 0.5) / n, `edge` i / n, `index` i."""
    index = torch.arange(n_bins, dtype=torch.float32)
    return {"centre": (index + 0.5) / n_bins, "edge": index / n_bins, "index": index}[kind]


def expected_bin(logits: Tensor, positions: Tensor) -> Tensor:
    """Expected position under the softmax of the logits: (..., n) to (...,), in float32."""
    # A product and a sum rather than a matmul: autocast and graph converters leave it in float32.
    return (logits.softmax(dim=-1) * positions).sum(dim=-1)


class JointRegressor(nn.Module):
    """F4 to joints in uvd."""

    positions_xy: Tensor
    positions_z: Tensor

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()
        width = config.lixel_channels
        self.depth_bins = config.depth_bins
        self.depth_range = config.depth_range
        self.depth_origin = config.depth_origin
        self.upsample = nn.Sequential(*_upsampling(in_channels, width), *_upsampling(width, width))
        self.head_x = nn.Conv1d(width, N_JOINTS, 1)
        self.head_y = nn.Conv1d(width, N_JOINTS, 1)
        self.depth_expand = nn.Linear(in_channels, N_JOINTS * config.depth_bins)
        self.depth_norm = nn.BatchNorm1d(N_JOINTS * config.depth_bins)
        self.head_z = nn.Conv1d(N_JOINTS, N_JOINTS, 1)
        n_bins_xy = config.input_size // 32 * UPSAMPLING
        kind = config.bin_position
        self.register_buffer("positions_xy", bin_positions(n_bins_xy, kind), persistent=False)
        self.register_buffer("positions_z", bin_positions(config.depth_bins, kind), persistent=False)

    def forward(self, coarse: Tensor) -> JointPrediction:
        """(B, C, S/32, S/32) to joints and logits."""
        features = self.upsample(coarse)  # (B, width, S/8, S/8)
        logits_x = in_float32(self.head_x, features.mean(dim=2))
        logits_y = in_float32(self.head_y, features.mean(dim=3))
        depth = torch.relu(self.depth_norm(self.depth_expand(coarse.mean(dim=(2, 3)))))
        logits_z = in_float32(self.head_z, depth.view(-1, N_JOINTS, self.depth_bins))
        u = expected_bin(logits_x, self.positions_xy)
        v = expected_bin(logits_y, self.positions_xy)
        z = expected_bin(logits_z, self.positions_z)
        uvd = torch.stack([u, v, (z - self.depth_origin) * self.depth_range], dim=-1)
        return JointPrediction(uvd, (logits_x, logits_y, logits_z))


def _upsampling(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]
