"""cliphand.data.crop: boxes, matrices, cutting and normalising."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliphand.config import CropConfig
from cliphand.data.crop import Box, crop_box, crop_matrix, cut, normalise, second_look_rad, turn_matrix, upright_rad
from cliphand.data.freihand import open_freihand
from cliphand.errors import InputError
from cliphand.hand import MIDDLE_MCP, WRIST

SHAPE = (120, 200)  # height, width


def blob_image(x: float, y: float, *, sigma: float) -> np.ndarray:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    blob = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(blob).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def apply(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    return (matrix @ (x, y, 1))[:2]


def test_whole_rule_cuts_the_largest_centred_square() -> None:
    assert crop_box(CropConfig(rule="whole"), SHAPE) == Box(99.5, 59.5, 120)


def test_centre_rule_cuts_a_fixed_box_about_the_image_centre() -> None:
    assert crop_box(CropConfig(rule="centre", side_px=130), (224, 224)) == Box(111.5, 111.5, 130)


def test_mask_rule_measures_the_mask_by_its_outer_pixel_edges() -> None:
    mask = np.zeros(SHAPE, np.bool_)
    mask[30:50, 60:100] = True
    assert crop_box(CropConfig(rule="mask", margin=1.5), SHAPE, mask=mask) == Box(79.5, 39.5, 60)


def test_joints_rule_surrounds_the_joints() -> None:
    joints = np.full((21, 2), 50.0)
    joints[3] = 30, 60
    joints[7] = 90, 45
    assert crop_box(CropConfig(rule="joints", margin=2), SHAPE, joints_uv=joints) == Box(60, 52.5, 120)


@pytest.mark.parametrize(
    ("rule", "given_", "reason"),
    [
        ("mask", {}, "needs a mask"),
        ("mask", {"mask": np.zeros(SHAPE, np.bool_)}, "no hand"),
        ("mask", {"mask": np.ones((120, 199), np.bool_)}, "same size"),
        ("joints", {}, "needs joint labels"),
        ("joints", {"joints_uv": np.full((21, 2), 5.0)}, "one pixel"),
        ("joints", {"joints_uv": np.full((21, 2), np.nan)}, "finite"),
    ],
)
def test_a_rule_without_what_it_needs_says_so(rule: str, given_: dict[str, np.ndarray], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        crop_box(CropConfig(rule=rule), SHAPE, **given_)


def test_a_whole_image_at_its_own_size_is_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    matrix = crop_matrix(crop_box(CropConfig(rule="whole"), (64, 64)), 64)
    np.testing.assert_array_equal(matrix, np.eye(3))
    np.testing.assert_array_equal(cut(image, matrix, side_px=64), image)


@given(
    x=st.floats(-50, 300),
    y=st.floats(-50, 300),
    side=st.floats(1, 1000),
    side_px=st.integers(32, 512),
    angle=st.floats(-math.pi, math.pi),
)
def test_a_crop_matrix_is_the_similarity_of_its_box(
    x: float, y: float, side: float, side_px: int, angle: float
) -> None:
    matrix = crop_matrix(Box(x, y, side), side_px, angle_rad=angle)
    middle = (side_px - 1) / 2
    np.testing.assert_allclose(apply(matrix, x, y), (middle, middle), atol=1e-9 * side_px * (1 + 300 / side))
    zoom = side_px / side
    np.testing.assert_allclose(matrix[:2, :2] @ matrix[:2, :2].T, zoom**2 * np.eye(2), atol=1e-9 * zoom**2)
    assert np.linalg.det(matrix[:2, :2]) > 0


def test_an_edge_of_the_box_is_an_edge_of_the_crop() -> None:
    matrix = crop_matrix(Box(100, 60, 40), 256)
    np.testing.assert_allclose(apply(matrix, 80, 40), (-0.5, -0.5), atol=1e-9)
    np.testing.assert_allclose(apply(matrix, 120, 80), (255.5, 255.5), atol=1e-9)


def test_a_positive_angle_turns_what_is_seen_clockwise() -> None:
    matrix = crop_matrix(Box(100, 60, 64), 64, angle_rad=math.pi / 2)
    np.testing.assert_allclose(apply(matrix, 110, 60), (31.5, 41.5), atol=1e-9)  # right of the centre goes below it


@pytest.mark.parametrize("angle", [0.0, 0.6, -2.5, math.pi])
@pytest.mark.parametrize("side", [40.0, 100.0, 170.0, 330.0, 800.0])
def test_what_is_cut_lies_where_the_matrix_says(side: float, angle: float) -> None:
    x, y = 93.3, 61.8
    shrink = side / 100
    matrix = crop_matrix(Box(99, 58, side), 100, angle_rad=angle)
    crop = cut(blob_image(x, y, sigma=max(4, 2 * shrink)), matrix, side_px=100)
    # A thirtieth of a pixel is the step of OpenCV's fixed-point sampling.
    np.testing.assert_allclose(centroid(crop), apply(matrix, x, y), atol=0.04)


@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_shrinking_averages_instead_of_skipping_pixels(angle: float) -> None:
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, ::2] = 255
    crop = cut(image, crop_matrix(Box(255.5, 255.5, 320), 40, angle_rad=angle), side_px=40)
    assert crop.std() < 8
    assert abs(crop.mean() - 127.5) < 2


def test_what_leaves_the_image_is_black() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    crop = cut(image, crop_matrix(Box(24.5, 24.5, 100), 100), side_px=100)
    assert crop[:24].max() == crop[:, 76:].max() == 0
    assert (crop[25:75, 25:75] == 200).all()


def test_normalise_subtracts_mean_and_divides_by_std_per_channel() -> None:
    config = CropConfig(mean=(0.0, 0.5, 0.2), std=(1.0, 0.5, 0.1))
    crops = np.zeros((2, 4, 4, 3), np.uint8)
    crops[1] = 255, 51, 102
    batch = normalise(crops, config)
    assert batch.shape == (2, 3, 4, 4)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    np.testing.assert_allclose(batch[0, :, 0, 0], (0, -1, -2), atol=1e-6)
    np.testing.assert_allclose(batch[1, :, 3, 2], (1, -0.6, 2), atol=1e-6)
    np.testing.assert_array_equal(normalise(crops[1], config), batch[1])


def test_the_default_crop_holds_freihands_hands_and_little_else(real_dir: Path) -> None:
    data = open_freihand(real_dir / "freihand5", "training")
    box = crop_box(CropConfig(), (224, 224))
    for label in range(data.n_labels):
        joints = data.joints_uv(label)
        assert np.abs(joints - (box.centre_x, box.centre_y)).max() < box.side_px / 2
        assert np.ptp(joints, axis=0).max() > box.side_px / 2


@pytest.mark.parametrize("crops", [np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 4), np.uint8)])
def test_normalise_refuses_other_arrays(crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        normalise(crops, CropConfig())


def test_importing_leaves_the_threads_of_opencv_alone() -> None:
    code = (
        "import cv2; cv2.setNumThreads(3); import cliphand.data.crop, cliphand.data.augment, sys;"
        "assert cv2.getNumThreads() == 3; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.floats(-math.pi, math.pi), st.floats(0.01, 90), st.floats(20, 400))
def test_a_crop_that_is_turned_upright_shows_bone_0_9_pointing_up(angle: float, length: float, side: float) -> None:
    joints = np.zeros((21, 3))
    joints[WRIST, :2] = (90, 30)
    joints[MIDDLE_MCP, :2] = joints[WRIST, :2] + (length * math.cos(angle), length * math.sin(angle))
    matrix = crop_matrix(Box(99.5, 59.5, side), 64)
    seen = np.stack([apply(matrix, *joint[:2]) for joint in joints])
    turned = turn_matrix(float(upright_rad(seen)), 64) @ matrix
    right, down = apply(turned, *joints[MIDDLE_MCP, :2]) - apply(turned, *joints[WRIST, :2])
    np.testing.assert_allclose((right, down), (0, -length * 64 / side), atol=1e-9 * 64)
    # The crop's middle stays where it is.
    np.testing.assert_allclose(apply(turned, 99.5, 59.5), (31.5, 31.5), atol=1e-9)


def test_joints_that_are_not_finite_turn_nothing() -> None:
    joints = np.zeros((2, 21, 3))
    joints[0, WRIST] = np.nan
    joints[1, MIDDLE_MCP, 1] = -1
    np.testing.assert_allclose(upright_rad(joints), 0, atol=1e-12)


def test_first_looks_that_agree_to_a_hair_give_the_same_second_look() -> None:
    joints = np.zeros((2, 21, 3))
    joints[:, MIDDLE_MCP, :2] = [(0.3, -0.4), (0.3 + 1e-6, -0.4)]
    first, second = second_look_rad(joints)
    assert first == second
    assert abs(first - upright_rad(joints)[0]) <= math.radians(0.5)
