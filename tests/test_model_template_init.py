"""Maps over nodes begin as interpolation."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cliphand.config import ModelConfig
from cliphand.hand import HandTopology
from cliphand.mesh_levels import mesh_levels
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.model.template_init import interpolate_from_template, interpolation


@given(st.integers(0, 2**31 - 1))
def test_weights_sum_to_one_and_favour_the_nearest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse, fine = rng.standard_normal((7, 3)), rng.standard_normal((11, 3))
    weights = interpolation(coarse, fine)
    assert np.allclose(weights.sum(axis=1), 1)
    nearest = np.linalg.norm(fine[:, None] - coarse, axis=2).argmin(axis=1)
    assert (weights.argmax(axis=1) == nearest).all()


def test_a_level_blends_the_positions_of_the_one_before(hand_topology: HandTopology) -> None:
    config = ModelConfig(backbone="test_resnet", input_size=64)
    model = HandModel(config, level_templates(hand_topology, config.levels))
    interpolate_from_template(model.mesh_regressor, hand_topology, config.levels)
    template = hand_topology.template
    coarse = torch.from_numpy(hand_topology.joint_regressor @ template).float()
    reach = []
    for level, indices in zip(model.mesh_regressor.levels, mesh_levels(hand_topology, config.levels), strict=True):
        fine = torch.from_numpy(template[indices]).float()
        reach.append(float((level.nodes_up(coarse[None])[0] - fine).detach().norm(dim=1).mean()))
        assert level.map_nodes.weight.shape == (len(indices), 21)
        coarse = fine
    size = np.linalg.norm(np.ptp(template, axis=0))
    assert reach[0] < 0.12 * size  # 98 nodes from 21 joints
    assert max(reach[1:]) < 0.04 * size
