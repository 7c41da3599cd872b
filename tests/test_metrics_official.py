import json
from pathlib import Path

import numpy as np
import pytest

from cliphand.hand import HandTopology
from cliphand.metrics import official_scores

KEYS = [
    *("xyz_mean3d", "xyz_auc3d", "xyz_al_mean3d", "xyz_al_auc3d"),
    *("mesh_mean3d", "mesh_auc3d", "mesh_al_mean3d", "mesh_al_auc3d"),
    *("f_score_5", "f_al_score_5", "f_score_15", "f_al_score_15"),
]


@pytest.fixture(scope="module")
def truth(hand_topology: HandTopology) -> tuple[np.ndarray, np.ndarray]:
    """Joints and vertices of three hands before a camera, bent so that none is its own mirror image."""
    x, y, z = np.moveaxis(hand_topology.template, 1, 0)
    bent = np.stack([x, y, z + 4 * y**2 + 3 * x * y], axis=1)
    verts = bent + np.array([0, 0, 0.5]) + np.arange(3).reshape(3, 1, 1) * 0.01
    return hand_topology.joint_regressor @ verts, verts


def test_a_shift_gives_the_keys_as_computed_by_hand(truth: tuple[np.ndarray, np.ndarray]) -> None:
    xyz, verts = truth
    # 25 mm off, which is the middle of the thresholds: 2.5 cm, AUC one half, nothing once aligned.
    shift = np.array([0, 0, 0.025])
    scores = official_scores(xyz + shift, xyz, predicted_verts=verts + shift, target_verts=verts)
    assert list(scores) == KEYS
    assert (scores["xyz_mean3d"], scores["mesh_mean3d"]) == (2.5, 2.5)
    assert (scores["xyz_auc3d"], scores["mesh_auc3d"]) == (0.5, 0.5)
    assert (scores["xyz_al_mean3d"], scores["mesh_al_mean3d"]) == (0, 0)
    assert scores["f_al_score_5"] == scores["f_al_score_15"] == 1
    assert scores["f_score_5"] < scores["f_score_15"] < 1


def test_joints_alone_give_the_joint_keys(truth: tuple[np.ndarray, np.ndarray]) -> None:
    xyz, verts = truth
    assert list(official_scores(xyz, xyz)) == KEYS[:4]
    assert list(official_scores(xyz, xyz, target_verts=verts)) == KEYS[:4]


def test_a_mirrored_hand_scores_zero_as_the_official_script_says(truth: tuple[np.ndarray, np.ndarray]) -> None:
    xyz, verts = truth
    flip = np.array([-1, 1, 1])
    scores = official_scores(xyz * flip, xyz, predicted_verts=verts * flip, target_verts=verts)
    assert (scores["xyz_al_mean3d"], scores["mesh_al_mean3d"]) == (0, 0)


def test_zeros_are_as_far_as_the_truth_and_align_to_its_centre(truth: tuple[np.ndarray, np.ndarray]) -> None:
    xyz, verts = truth
    scores = official_scores(np.zeros_like(xyz), xyz, predicted_verts=np.zeros_like(verts), target_verts=verts)
    for points, name in ((xyz, "xyz"), (verts, "mesh")):
        centred = points - points.mean(axis=1, keepdims=True)
        assert scores[f"{name}_mean3d"] == pytest.approx(100 * np.linalg.norm(points, axis=2).mean(), abs=1e-6)
        assert scores[f"{name}_al_mean3d"] == pytest.approx(100 * np.linalg.norm(centred, axis=2).mean(), abs=1e-6)
        assert scores[f"{name}_auc3d"] == 0
    assert scores["f_score_15"] == 0


def test_values_have_the_six_decimals_that_the_script_prints(truth: tuple[np.ndarray, np.ndarray]) -> None:
    xyz, _ = truth
    noisy = xyz + np.random.default_rng(0).normal(size=xyz.shape) * 0.01
    for value in official_scores(noisy, xyz).values():
        assert float(f"{value:.6f}") == value


@pytest.mark.real
@pytest.mark.parametrize("name", ["official_mesh.npz", "official_joints.npz"])
def test_the_official_evaluator_is_reproduced_to_the_last_printed_digit(real_dir: Path, name: str) -> None:
    expected = json.loads((real_dir / "official_scores.json").read_text())[name]
    with np.load(real_dir / name) as archive:
        arrays = {key: archive[key] for key in archive.files}
    scores = official_scores(
        arrays["pred_xyz"],
        arrays["gt_xyz"],
        predicted_verts=arrays.get("pred_verts"),
        target_verts=arrays.get("gt_verts"),
    )
    assert scores == expected
