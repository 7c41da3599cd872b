"""Where a hand is seen from, how large it is, and means over ranges."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report.viewpoint import even_edges, hand_scales_mm, palm_angles_deg, range_means


def palm(turn_deg: float = 0.0, *, away_m: float = 0.6) -> np.ndarray:
    """A right palm, fingers up, on the optical axis, turned about the vertical; 0 faces the camera. (1, 21, 3)."""
    joints = np.zeros((21, 3))
    joints[0] = (0.0, 0.06, 0.0)
    # Seen by who looks at the palm of a right hand with its fingers up, the index stands on the right.
    joints[5], joints[17] = (0.03, -0.03, 0.0), (-0.03, -0.03, 0.0)
    angle = np.radians(turn_deg)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return (joints @ turn.T + (0, 0, away_m))[None]


@pytest.mark.parametrize("angle", [0, 30, 90, 150, 180])
def test_a_palm_turned_by_an_angle_is_seen_under_that_angle(angle: float) -> None:
    assert palm_angles_deg(palm(angle))[0] == pytest.approx(angle, abs=1e-4)


def test_the_angle_is_to_the_line_of_sight_not_to_the_optical_axis() -> None:
    aside = palm() + np.array([0.6, 0, 0])
    assert palm_angles_deg(aside)[0] == pytest.approx(45, abs=1e-9)


@pytest.mark.real
def test_the_photograph_of_an_open_palm_is_seen_from_the_palm(real_dir: Path) -> None:
    xyz = np.array(json.loads((real_dir / "freihand5" / "evaluation_xyz.json").read_text()))
    angles = palm_angles_deg(xyz)
    assert angles[4] < 30  # the palm fills the picture
    assert angles.argmin() == 4


def test_the_scale_is_the_length_of_bone_9_to_10_in_millimetres() -> None:
    joints = np.zeros((2, 21, 3))
    joints[:, 10] = [(0, 0.03, 0.04), (0.02, 0, 0)]
    assert hand_scales_mm(joints) == pytest.approx([50, 20])


def test_means_are_taken_within_ranges_and_empty_ranges_are_left_out() -> None:
    positions, errors = np.array([0.0, 5, 10, 29, 30, 31]), np.array([1.0, 3, 5, 7, 9, 100])
    found = range_means(positions, errors, (0, 10, 20, 30))
    assert [(mean.low, mean.high, mean.mean, mean.images) for mean in found] == [
        (0, 10, 2, 2),
        (10, 20, 5, 1),
        (20, 30, 8, 2),
    ]
    assert [mean.low for mean in range_means(np.array([25.0]), np.array([1.0]), (0, 10, 20, 30))] == [20]


def test_even_edges_hold_every_value_even_where_all_are_one() -> None:
    assert even_edges(np.array([3.0, 1, 2]), 2) == [1, 2, 3]
    (only,) = range_means(np.array([4.0, 4.0]), np.array([1.0, 3.0]), even_edges(np.array([4.0, 4.0]), 3))
    assert (only.mean, only.images) == (2, 2)
