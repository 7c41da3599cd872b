"""The floor that the rendered hand's proportions set on real joints."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")

import torch

from benchmarks.studies import hand_fit, joint_floor
from benchmarks.studies.hand_fit import fit_hands, joint_form, pose_joints
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.poses import random_rotations
from cliphand.data.synthetic.rig import N_SHAPES, pose_hand, shape_hand
from cliphand.data.synthetic.rigged_hand import RiggedHand, build_rigged_hand, random_hand
from cliphand.errors import InputError


@pytest.fixture(scope="module")
def model() -> RiggedHand:
    return build_rigged_hand()


def test_joints_without_a_mesh_are_those_of_the_skinned_mesh(model: RiggedHand) -> None:
    rng = np.random.default_rng(1)
    coefficients = rng.normal(size=N_SHAPES)
    shape = shape_hand(model.rig, coefficients)
    rotations = random_rotations(rng, model.rig, shape[1])
    skinned = (model.smooth @ pose_hand(model.rig, shape, rotations).vertices)[model.anchors]
    form = joint_form(model, model.topology.joint_regressor)
    found = pose_joints(form, torch.from_numpy(rotations)[None], torch.from_numpy(coefficients)[None])
    np.testing.assert_allclose(found[0], model.topology.joint_regressor @ skinned, atol=1e-8)


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_fit, "STEPS", 80)
    monkeypatch.setattr(hand_fit, "STARTS_RAD", (-0.4,))
    monkeypatch.setattr(joint_floor, "HANDS", 100)


@pytest.mark.usefixtures("few_steps")
def test_a_rendered_hand_has_next_to_no_floor_for_its_own_joints(model: RiggedHand) -> None:
    rng = np.random.default_rng(2)
    gestures = KINDS["plain"]  # hands that show something: fingers that bend at will press into folds
    mesh = np.stack([random_hand(rng, model, spread=0.0, kind=gestures).mesh for _ in range(4)])
    real = model.topology.joint_regressor @ mesh
    own, other = (
        np.linalg.norm(fit_hands(joint_form(model, regressor), real, shapes=False) - real, axis=-1).mean()
        for regressor in (model.topology.joint_regressor, model.skeleton_regressor)
    )
    assert own < 8e-4  # metres: what `unfold` moves, and the descent's last steps
    assert other > 2 * own


def test_bones_of_their_own_length_rebuild_the_hand(model: RiggedHand) -> None:
    joints = random_hand(np.random.default_rng(3), model).joints[None]
    rebuilt = joint_floor.turned_bones(joints, joint_floor.bone_lengths(joints)[0])
    np.testing.assert_allclose(rebuilt - rebuilt[:, :1], joints - joints[:, :1], atol=1e-12)


def test_a_folder_without_joints_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        joint_floor.joint_floor([tmp_path])


@pytest.mark.usefixtures("few_steps")
@pytest.mark.real
def test_moved_joints_lower_freihands_floor(
    real_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["joint_floor", "--real", str(real_dir / "freihand5")])
    joint_floor.main()
    rows = {row["joints"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]}
    before, after = rows["skeleton"], rows["labelled"]
    assert after["best_pose_mm"] < before["best_pose_mm"] - 1
    assert after["turned_bones_mm"] < before["own_bones_mm"] + 0.3
    assert after["best_shape_mm"] < after["best_pose_mm"]
