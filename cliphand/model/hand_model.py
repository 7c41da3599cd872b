"""The deployed network: one photograph of a hand to 21 joints and 778 vertices in uvd.

Source: paper sections 3.2 and 3.4.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cliphand.config import ModelConfig
from cliphand.hand import HandTopology
from cliphand.mesh_levels import mesh_levels
from cliphand.model.heatmap import JointFeature
from cliphand.model.image_encoder import ImageEncoder, Maps
from cliphand.model.joint_regressor import JointPrediction, JointRegressor
from cliphand.model.mesh_regressor import MeshRegressor


class HandPrediction(NamedTuple):
    """What the network knows about a batch.

    Attributes:
        joints: joints (B, 21, 3) uvd and their 1D heatmap logits.
        verts_uvd: (B, 778, 3).
        maps: F1 to F4 of the pyramid that both were read from.
    """

    joints: JointPrediction
    verts_uvd: Tensor
    maps: Maps


def level_templates(topology: HandTopology, levels: Sequence[int]) -> tuple[Tensor, ...]:
    """The template's vertices of each level, centred and of unit standard deviation: (n, 3) float32 each."""
    template = topology.template - topology.template.mean(axis=0)
    template = template / template.std()
    chosen = mesh_levels(topology, levels)
    return tuple(torch.from_numpy(np.ascontiguousarray(template[indices])).float() for indices in chosen)


class HandModel(nn.Module):
    """Encoder, joint regressor, heatmap and mesh regressor.

    Args:
        config: every size of the network.
        templates: one (n, 3) tensor per mesh level, its positional encoding; see `level_templates`.
        imagenet_weights: start the backbone from ImageNet weights (a download by timm).
    """

    def __init__(self, config: ModelConfig, templates: tuple[Tensor, ...], *, imagenet_weights: bool = False) -> None:
        super().__init__()
        self.encoder = ImageEncoder(config.backbone, input_size=config.input_size, imagenet_weights=imagenet_weights)
        self.joint_regressor = JointRegressor(config, self.encoder.channels[-1])
        self.joint_feature = JointFeature(config, self.encoder.shallow_channels)
        self.mesh_regressor = MeshRegressor(config, self.encoder.channels, templates)

    def predict_joints(self, images: Tensor) -> JointPrediction:
        """Joints alone, as stage 1 trains them: (B, 3, S, S) normalised images."""
        return self.joint_regressor(self.encoder(images).maps[-1])

    def predict(self, images: Tensor) -> HandPrediction:
        """Joints with their logits, and vertices: (B, 3, S, S) normalised images."""
        pyramid = self.encoder(images)
        joints = self.joint_regressor(pyramid.maps[-1])
        feature = self.joint_feature(pyramid.shallow, joints.uvd)
        verts = self.mesh_regressor(feature, pyramid.maps, joints.uvd)
        return HandPrediction(joints, verts, pyramid.maps)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) normalised images to joints (B, 21, 3) and vertices (B, 778, 3) in uvd."""
        prediction = self.predict(images)
        return prediction.joints.uvd, prediction.verts_uvd
