"""The network in the form in which its authors published it, against which `export.graph.fold` is measured.

Every joint's Gaussian is made as a volume of 64^3 cells and joined to the shallow map; the pyramid is sampled by
`grid_sample`; no two linear maps are one.

Source: github ShaoXiang23/CLIP_Hand_Demo, `demo/model_inderence.py` (`make_gaussian_heatmap`, `Pose2Feat`, `project`).
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from cliphand.model.hand_model import HandModel
from cliphand.model.heatmap import JointFeature, SeparableHeatmapConv
from cliphand.model.mesh_regressor import MeshLevel


class NaiveHand(nn.Module):
    """A hand model's weights in the published form; inputs and outputs as `HandModel`.

    Args:
        hand: the model; its modules are shared, and left as they are.
    """

    def __init__(self, hand: HandModel) -> None:
        super().__init__()
        self.encoder, self.joint_regressor = hand.encoder, hand.joint_regressor
        self.joint_feature, self.mesh_regressor = hand.joint_feature, hand.mesh_regressor
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) normalised images to joints (B, 21, 3) and vertices (B, 778, 3) in uvd."""
        pyramid = self.encoder(images)
        joints = self.joint_regressor(pyramid.maps[-1]).uvd
        x = feature_of_volume(self.joint_feature, pyramid.shallow, joints)
        levels = [cast("MeshLevel", level) for level in self.mesh_regressor.levels]
        for level, features in zip(levels, reversed(pyramid.maps), strict=True):
            grid = joints[:, :, None, :2] * 2 - 1
            sampled = functional.grid_sample(features, grid, align_corners=False)
            x = level(x, sampled.squeeze(3).transpose(1, 2))
        return joints, self.mesh_regressor.out(x)


def feature_of_volume(module: JointFeature, shallow: Tensor, joints_uvd: Tensor) -> Tensor:
    """F0 and joints (B, 21, 3) to (B, 21, joint_feature), by one convolution over F0 and all volumes."""
    conv = module.heatmap_conv
    weight = torch.cat([module.shallow_conv.weight, conv.weight.flatten(1, 2)], dim=1)
    joined = torch.cat([shallow, gaussian_volume(conv, joints_uvd).flatten(1, 2)], dim=1)
    x = torch.relu(module.norm(functional.conv2d(joined, weight, module.shallow_conv.bias, padding=1)))
    feature: Tensor = module.flatten(module.refine(x).flatten(2))
    return feature


def gaussian_volume(conv: SeparableHeatmapConv, joints_uvd: Tensor) -> Tensor:
    """Joints (B, 21, 3) uvd to (B, 21, depth_bins, S/4, S/4)."""
    sizes = (conv.depth_bins, conv.side, conv.side)
    cells = [torch.arange(size, dtype=torch.float32, device=joints_uvd.device) for size in sizes]
    z, y, x = torch.meshgrid(*cells, indexing="ij")
    depth = (joints_uvd[..., 2] / conv.depth_range + conv.depth_origin) * conv.depth_bins
    centres = (joints_uvd[..., 0] * conv.side, joints_uvd[..., 1] * conv.side, depth)
    along = [
        ((cell - centre[..., None, None, None]) / conv.sigma) ** 2 / 2
        for cell, centre in zip((x, y, z), centres, strict=True)
    ]
    return torch.exp(-along[0] - along[1] - along[2])
