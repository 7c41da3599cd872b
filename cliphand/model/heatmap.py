"""Hand feature from the joints' 3D Gaussians and the shallow map, without ever making the 3D volume.

A joint's heatmap is exp(-((x - x_j)^2 + (y - y_j)^2 + (z - z_j)^2) / 2 sigma^2) on a grid of depth_bins x S/4 x S/4
cells, so it is g_z(z) g_y(y) g_x(x). The 3x3 convolution over the 21 * depth_bins heatmap channels is then

    sum_j,ky,kx [sum_z W[o, j, z, ky, kx] g_z(z)] g_y(y + ky) g_x(x + kx)

and z, ky and (j, kx) are contracted one after the other: three small matrix products for a volume of 22 MB an image.

Source: paper section 3.4 (hand feature F_J).
"""

import torch
from torch import Tensor, nn

from cliphand.config import ModelConfig
from cliphand.hand import N_JOINTS

KERNEL = 3


def gaussian(centres: Tensor, size: int, *, sigma: float, pad: int = 0) -> Tensor:
    """Samples of exp(-(i - centre)^2 / 2 sigma^2) for i = -pad .. size - 1 + pad, zero outside 0 .. size - 1.

    Args:
        centres: (...,) in cells.
        size: cells of the grid.
        sigma: standard deviation in cells.
        pad: cells of zero on both sides.

    Returns:
        (..., size + 2 pad) float32.
    """
    cells = torch.arange(size, dtype=torch.float32, device=centres.device)
    values = torch.exp((cells - centres.float().unsqueeze(-1)) ** 2 * (-0.5 / sigma**2))
    return nn.functional.pad(values, (pad, pad)) if pad else values


class SeparableHeatmapConv(nn.Module):
    """A 3x3 convolution, zero padded, of 21 separable 3D heatmaps whose z lies in the channels.

    Attributes:
        weight: (out, 21, depth_bins, 3, 3).
    """

    def __init__(self, config: ModelConfig, out_channels: int) -> None:
        super().__init__()
        self.side = config.input_size // 4
        self.depth_bins = config.depth_bins
        self.depth_range = config.depth_range
        self.depth_origin = config.depth_origin
        self.sigma = config.heatmap_sigma
        self.out_channels = out_channels
        weight = torch.empty(out_channels, N_JOINTS, config.depth_bins, KERNEL, KERNEL)
        # A Gaussian lights up a few cells of its volume only: the fan-in that counts is those cells.
        lit = (2.5 * config.heatmap_sigma) ** 3
        nn.init.normal_(weight, std=(2.0 / (N_JOINTS * lit)) ** 0.5)
        self.weight = nn.Parameter(weight)

    def forward(self, uvd: Tensor) -> Tensor:
        """(B, 21, 3) uvd to (B, out, S/4, S/4)."""
        side, out = self.side, self.out_channels
        g_x = gaussian(uvd[..., 0] * side, side, sigma=self.sigma, pad=1)  # (B, 21, side + 2)
        g_y = gaussian(uvd[..., 1] * side, side, sigma=self.sigma, pad=1)
        depth = (uvd[..., 2] / self.depth_range + self.depth_origin) * self.depth_bins
        g_z = gaussian(depth, self.depth_bins, sigma=self.sigma)  # (B, 21, bins)
        shifted_x = torch.stack([g_x[..., k : k + side] for k in range(KERNEL)], dim=2)  # (B, 21, kx, side)
        shifted_y = torch.stack([g_y[..., k : k + side] for k in range(KERNEL)], dim=2)  # (B, 21, ky, side)

        by_joint = self.weight.permute(1, 2, 4, 0, 3).reshape(N_JOINTS, self.depth_bins, KERNEL * out * KERNEL)
        over_z = torch.matmul(g_z.transpose(0, 1), by_joint)  # (21, B, kx * out * ky)
        over_z = over_z.view(N_JOINTS, -1, KERNEL * out, KERNEL).transpose(0, 1)  # (B, 21, kx * out, ky)
        over_y = torch.matmul(over_z, shifted_y)  # (B, 21, kx * out, side)
        over_y = over_y.view(-1, N_JOINTS * KERNEL, out * side)
        columns = shifted_x.flatten(1, 2)
        return torch.matmul(over_y.transpose(1, 2), columns).view(-1, out, side, side)


class JointFeature(nn.Module):
    """F0 and the joints' heatmaps to one feature vector per joint: F_J (B, 21, joint_feature)."""

    def __init__(self, config: ModelConfig, shallow_channels: int) -> None:
        super().__init__()
        side = config.input_size // 4
        self.shallow_conv = nn.Conv2d(shallow_channels, N_JOINTS, KERNEL, padding=1)
        self.heatmap_conv = SeparableHeatmapConv(config, N_JOINTS)
        self.norm = nn.BatchNorm2d(N_JOINTS)
        self.refine = nn.Sequential(
            nn.Conv2d(N_JOINTS, N_JOINTS, KERNEL, padding=1), nn.BatchNorm2d(N_JOINTS), nn.ReLU()
        )
        self.flatten = nn.Linear(side * side, config.joint_feature)

    def forward(self, shallow: Tensor, joints_uvd: Tensor) -> Tensor:
        """(B, C0, S/4, S/4) and (B, 21, 3) to (B, 21, joint_feature)."""
        # A convolution over concatenated channels is the sum of the convolutions over each part.
        x = torch.relu(self.norm(self.shallow_conv(shallow) + self.heatmap_conv(joints_uvd)))
        return self.flatten(self.refine(x).flatten(2))
