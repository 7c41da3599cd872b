"""The distance of real poses from the rendered ones."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")

from benchmarks.studies import pose_gap
from cliphand.data.synthetic import poses
from cliphand.data.synthetic.gestures import gesture
from cliphand.data.synthetic.rig import N_SHAPES
from cliphand.data.synthetic.rigged_hand import RiggedHand, build_rigged_hand, pose_model, random_hand


@pytest.fixture(scope="module")
def model() -> RiggedHand:
    return build_rigged_hand()


@pytest.fixture(scope="module")
def rendered(model: RiggedHand) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.stack([random_hand(rng, model).joints for _ in range(60)])


def write_hands(folder: Path, joints: np.ndarray) -> Path:
    """Labels before black images, in FreiHAND's layout."""
    count = len(joints)
    (folder / "evaluation/rgb").mkdir(parents=True)
    for index in range(count):
        assert cv2.imwrite(str(folder / f"evaluation/rgb/{index:08d}.jpg"), np.zeros((224, 224, 3), np.uint8))
    K = [[500.0, 0.0, 112.0], [0.0, 500.0, 112.0], [0.0, 0.0, 1.0]]
    for name, value in (("K", [K] * count), ("xyz", joints.tolist()), ("scale", [0.03] * count)):
        (folder / f"evaluation_{name}.json").write_text(json.dumps(value))
    return folder


def test_a_turned_moved_and_larger_copy_is_at_no_distance(rendered: np.ndarray) -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    found = pose_gap.nearest_pose(1.3 * rendered[7:9] @ turn + [0.1, 0.2, 0.7], rendered)
    np.testing.assert_allclose(found.joints_mm, 0, atol=1e-3)
    assert pose_gap.nearest_pose(rendered[7:9], rendered[10:]).error_mm.min() > 1


def test_bends_are_the_angles_that_the_fingers_were_bent_by(model: RiggedHand) -> None:
    flat, bent = gesture("flat"), gesture("flat")
    bent.flexion[2, 1] += 60
    hands = [
        pose_model(model, np.zeros(N_SHAPES), poses.to_rotations(model.rig, angles)).joints for angles in (flat, bent)
    ]
    straight, folded = pose_gap.bends(np.stack(hands))
    middle = pose_gap.BENDS.index("middle middle")
    assert folded[middle] - straight[middle] == pytest.approx(60, abs=12)  # labelled joints are not the pivots
    assert np.abs(np.delete(folded - straight, [middle - 1, middle, middle + 1])).max() < 3


def test_the_command_names_the_worst_covered_hand(
    tmp_path: Path, rendered: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = rendered[:3] + np.array([0, 0, 0.6])
    odd[1, 10:13] = 2 * odd[1, 9] - odd[1, 10:13]  # a finger that points the other way
    folder = write_hands(tmp_path / "real", odd)
    monkeypatch.setattr(pose_gap, "OWN_HANDS", 5)
    monkeypatch.setattr("sys.argv", ["pose_gap", "--real", str(folder), "--kinds", "plain", "--hands", "40"])
    pose_gap.main()
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    index, error, joints = row["worst"][0]
    assert index == 1
    assert error > row["pose_alone_mm"]
    assert any(joint.startswith("middle") for joint in joints)


def test_an_unknown_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pose_gap", "--real", str(tmp_path), "--kinds", "odd"])
    with pytest.raises(SystemExit, match="2"):
        pose_gap.main()
    assert "valid are" in capsys.readouterr().err
