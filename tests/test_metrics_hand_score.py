import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cliphand.data.freihand import open_freihand
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
from cliphand.metrics.alignment import align, fit_similarity


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
    predicted[[0, 1, 2, 4, 5], :, 2] *= -1
    score = score_mesh(predicted, target, reflections=reflections)
    rotated_mm, reflected_mm = pa_pvpe_mm(predicted, target), pa_pvpe_mm(predicted, target, reflections=True)
    assert rotated_mm > 1 > reflected_mm
    assert score.pa_pvpe_mm == pytest.approx(reflected_mm if reflections else rotated_mm)
    assert score.warning is not None
    assert "5 of 6 hands fit better mirrored" in score.warning
    assert f"PA-PVPE is {rotated_mm:.3f} mm with rotations only and {reflected_mm:.3f} mm" in score.warning


@pytest.mark.parametrize(("flipped", "warned"), [(0, False), (2, False), (4, False), (5, True), (6, True)])
def test_only_more_mirrored_hands_than_chance_gives_are_warned_of(
    meshes: tuple[np.ndarray, np.ndarray], flipped: int, *, warned: bool
) -> None:
    target = meshes[1]
    predicted = target.copy()
    predicted[:flipped, :, 2] *= -1
    assert fit_similarity(predicted, target).mirrored.sum() == flipped
    assert (score_mesh(predicted, target).warning is not None) == warned


def mean_pose(true: np.ndarray) -> np.ndarray:
    aligned = align(true, np.repeat(true[:1], len(true), axis=0))
    return np.repeat(aligned.mean(axis=0, keepdims=True), len(true), axis=0)


def noisy(true: np.ndarray) -> np.ndarray:
    return true + np.random.default_rng(0).normal(size=true.shape) * 0.02


def without_depth(true: np.ndarray) -> np.ndarray:
    return true * (1, 1, 0) + np.random.default_rng(0).normal(size=true.shape) * (0, 0, 0.003)


# Predictions that know little of their hands, and yet mirror none.
UNSKILLED = {
    "mean pose": mean_pose,
    "another hand": lambda true: np.roll(true, 1, axis=0),
    "noisy": noisy,
    "without depth": without_depth,
}


@pytest.mark.real
@pytest.mark.parametrize("data", ["ge97", "freihand5", "rhd3"])
@pytest.mark.parametrize("guess", UNSKILLED)
def test_no_guess_at_real_hands_is_called_mirrored_but_a_flipped_axis_is(real_dir: Path, data: str, guess: str) -> None:
    joints = open_freihand(real_dir / data, "evaluation").xyz
    true = joints - joints.mean(axis=1, keepdims=True)
    score = score_joints(UNSKILLED[guess](true), true)
    assert score.pa_pjpe_mm > 10
    assert score.warning is None
    assert score_joints(true * (1, 1, -1), true).warning is not None


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
