"""Start the maps over nodes as interpolation on the template: a node begins as the blend of the nodes around it.

The paper calls these maps a graph up-sampling (section 3.4). Begun at random they have to learn first which joint a
vertex belongs to; begun from the template's distances they know.
"""

import numpy as np
import torch

from cliphand.arrays import FloatArray
from cliphand.hand import HandTopology
from cliphand.mesh_levels import mesh_levels
from cliphand.model.mesh_regressor import MeshLevel, MeshRegressor, NodeLinear

NEIGHBOURS = 3  # coarse nodes whose distance sets the width of the blend


def interpolate_from_template(regressor: MeshRegressor, topology: HandTopology, levels: tuple[int, ...]) -> None:
    """Set `nodes_up` and `map_nodes` of every level to interpolation weights with zero bias."""
    joints: FloatArray = topology.joint_regressor @ topology.template
    coarse = joints
    for level, indices in zip(regressor.levels, mesh_levels(topology, levels), strict=True):
        assert isinstance(level, MeshLevel)  # noqa: S101  # tells the type checker what the list holds
        fine = topology.template[indices]
        _set(level.nodes_up, interpolation(coarse, fine))
        _set(level.map_nodes, interpolation(joints, fine))
        coarse = fine


def interpolation(coarse: FloatArray, fine: FloatArray) -> FloatArray:
    """(fine, coarse) weights of a Gaussian blend; each row sums to 1.

    Args:
        coarse: (m, 3) positions that hold values.
        fine: (n, 3) positions that need them.
    """
    squared = ((fine[:, None] - coarse) ** 2).sum(axis=-1)
    width = np.sort(squared, axis=1)[:, NEIGHBOURS - 1 : NEIGHBOURS]
    weights = np.exp(-2 * squared / np.maximum(width, 1e-12))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@torch.no_grad()
def _set(layer: NodeLinear, weights: FloatArray) -> None:
    layer.weight.copy_(torch.from_numpy(weights))
    layer.bias.zero_()
