import dataclasses

import numpy as np
import pytest

from cliphand.hand import HandTopology
from cliphand.metrics import (
    area_under_pck,
    f_scores,
    pa_pjpe_mm,
    pa_pvpe_mm,
    pjpe_mm,
    point_errors,
    pvpe_mm,
    score_joints,
    score_mesh,
)


@pytest.fixture(scope="module")
def meshes(hand_topology: HandTopology) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true vertices of 6 hands, the predictions a few millimetres off, scaled and moved."""
    rng = np.random.default_rng(0)
    target = hand_topology.template * rng.uniform(0.9, 1.1, (6, 1, 3)) + (0, 0, 0.6)
    return target * 1.02 + rng.normal(size=target.shape) * 0.003 + 0.004, target


def test_a_mesh_score_holds_each_measure_under_its_name(meshes: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, target = meshes
    score = score_mesh(predicted, target)
    assert score.pvpe_mm == pytest.approx(pvpe_mm(predicted, target))
    assert score.pa_pvpe_mm == pytest.approx(pa_pvpe_mm(predicted, target))
    assert score.pvpe_median_mm == pytest.approx(point_errors(predicted, target).median_mm)
    assert score.pa_pvpe_median_mm < score.pvpe_median_mm
    assert score.auc == pytest.approx(area_under_pck(point_errors(predicted, target).errors_mm))
    assert score.pa_auc > score.auc
    np.testing.assert_allclose([score.f_at_5, score.f_at_15], f_scores(predicted, target).mean(axis=0))
    assert score.f_at_5 < score.pa_f_at_5 < score.pa_f_at_15 == pytest.approx(1)
    assert score.f_at_5 < score.f_at_15 < score.pa_f_at_15
    assert score.warning is None


def test_a_joint_score_holds_each_measure_under_its_name(
    meshes: tuple[np.ndarray, np.ndarray], hand_topology: HandTopology
) -> None:
    predicted, target = (hand_topology.joint_regressor @ vertices for vertices in meshes)
    score = score_joints(predicted, target, auc_range_mm=(0, 30))
    assert score.pjpe_mm == pytest.approx(pjpe_mm(predicted, target))
    assert score.pa_pjpe_mm == pytest.approx(pa_pjpe_mm(predicted, target))
    assert score.pa_pjpe_median_mm < score.pjpe_median_mm
    assert score.auc_range_mm == (0, 30)
    assert score.auc == pytest.approx(area_under_pck(point_errors(predicted, target).errors_mm, range_mm=(0, 30)))
    assert score.pa_auc > score.auc
    assert score.warning is None


@pytest.mark.parametrize("reflections", [False, True])
def test_mirrored_hands_are_counted_and_both_figures_told(
    meshes: tuple[np.ndarray, np.ndarray], *, reflections: bool
) -> None:
    target = meshes[1]
    predicted = target.copy()
    predicted[[1, 4], :, 2] *= -1
    score = score_mesh(predicted, target, reflections=reflections)
    rotated_mm, reflected_mm = pa_pvpe_mm(predicted, target), pa_pvpe_mm(predicted, target, reflections=True)
    assert rotated_mm > 1 > reflected_mm
    assert score.pa_pvpe_mm == pytest.approx(reflected_mm if reflections else rotated_mm)
    assert score.warning is not None
    assert "2 of 6 hands fit better mirrored" in score.warning
    assert f"PA-PVPE is {rotated_mm:.3f} mm with rotations only and {reflected_mm:.3f} mm" in score.warning


def test_joints_and_meshes_are_not_mistaken_for_one_another(meshes: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="778 points"):
        score_joints(*meshes)
    with pytest.raises(ValueError, match="21 points"):
        score_mesh(meshes[0][:, :21], meshes[1][:, :21])


def test_a_score_is_frozen_and_plain_numbers(meshes: tuple[np.ndarray, np.ndarray]) -> None:
    score = score_mesh(*meshes)
    with pytest.raises(dataclasses.FrozenInstanceError):
        score.pvpe_mm = 0
    figures = dataclasses.asdict(score)
    assert {type(value) for value in figures.values()} == {float, tuple, type(None)}
