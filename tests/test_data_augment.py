"""cliphand.data.augment: random views, and the matrix that says what was drawn."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliphand.config import AugmentConfig
from cliphand.data.augment import draw_view
from cliphand.data.crop import Box, crop_matrix, cut

NONE = {"rotation_deg": 0, "scale": 0, "shift": 0, "colour": 0, "blur_px": 0, "noise": 0}
BOX = Box(59.5, 49.5, 80)
SIDE = 96


def photograph() -> np.ndarray:
    """Smooth, with structure everywhere."""
    noise = np.random.default_rng(7).uniform(0, 255, (110, 130, 3)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 20, 230, cv2.NORM_MINMAX).astype(np.uint8)


def drawn(seed: int, image: np.ndarray | None = None, **change: float) -> tuple[np.ndarray, np.ndarray]:
    config = AugmentConfig(**(NONE | change))
    return draw_view(photograph() if image is None else image, BOX, config, np.random.default_rng(seed), side_px=SIDE)


def test_without_augmentation_a_view_is_the_plain_crop() -> None:
    crop, matrix = drawn(0)
    np.testing.assert_array_equal(matrix, crop_matrix(BOX, SIDE))
    np.testing.assert_array_equal(crop, cut(photograph(), matrix, side_px=SIDE))


def test_the_same_state_of_chance_gives_the_same_view() -> None:
    config = AugmentConfig()
    first, second = (draw_view(photograph(), BOX, config, np.random.default_rng(4), side_px=SIDE) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_one_generator_gives_one_new_view_after_another() -> None:
    rng = np.random.default_rng(4)
    first, second = (draw_view(photograph(), BOX, AugmentConfig(), rng, side_px=SIDE) for _ in range(2))
    assert not np.allclose(first[1], second[1])


def test_a_view_is_a_byte_image_of_the_asked_side() -> None:
    crop, _ = draw_view(photograph(), BOX, AugmentConfig(), np.random.default_rng(0), side_px=SIDE)
    assert crop.shape == (SIDE, SIDE, 3)
    assert crop.dtype == np.uint8


def turned_deg(matrix: np.ndarray) -> float:
    return float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))


def test_a_share_of_the_views_stays_level_and_the_others_turn_all_the_way() -> None:
    turns = np.abs(
        [turned_deg(drawn(seed, rotation_deg=180, level_share=0.75, level_deg=10)[1]) for seed in range(400)]
    )
    # A quarter is drawn from the whole circle, an eighteenth of which is level too.
    assert np.mean(turns <= 10) == pytest.approx(0.75 + 0.25 / 18, abs=0.07)
    assert turns.max() > 150


def test_level_views_stay_within_the_rotation() -> None:
    turns = [turned_deg(drawn(seed, rotation_deg=5, level_share=1.0, level_deg=30)[1]) for seed in range(50)]
    assert 3 < np.abs(turns).max() <= 5


def test_the_picture_follows_the_matrix_through_turn_scale_and_shift() -> None:
    for seed in range(10):
        crop, matrix = drawn(seed, rotation_deg=180, scale=0.3, shift=0.1)
        np.testing.assert_array_equal(crop, cut(photograph(), matrix, side_px=SIDE))
        assert not np.allclose(matrix, crop_matrix(BOX, SIDE))


@given(seed=st.integers(0, 2**32))
def test_turn_scale_and_shift_stay_within_their_bounds(seed: int) -> None:
    _, matrix = drawn(seed, rotation_deg=40, scale=0.25, shift=0.1)
    zoom = np.sqrt(np.linalg.det(matrix[:2, :2]))
    side = SIDE / zoom
    assert 0.75 * BOX.side_px <= side <= 1.25 * BOX.side_px
    assert abs(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) <= 40 + 1e-9
    middle = np.linalg.solve(matrix, ((SIDE - 1) / 2, (SIDE - 1) / 2, 1))[:2]
    assert np.abs(middle - (BOX.centre_x, BOX.centre_y)).max() <= 0.1 * side + 1e-9


def test_rotation_covers_the_full_circle_and_scale_its_range() -> None:
    matrices = [drawn(seed, rotation_deg=180, scale=0.2)[1] for seed in range(200)]
    angles = np.degrees([np.arctan2(matrix[1, 0], matrix[0, 0]) for matrix in matrices])
    assert np.histogram(angles, bins=8, range=(-180, 180))[0].min() >= 10  # 25 expected in each eighth
    sides = np.array([SIDE / np.sqrt(np.linalg.det(matrix[:2, :2])) for matrix in matrices]) / BOX.side_px
    assert sides.min() < 0.83
    assert sides.max() > 1.17


def test_colour_changes_channels_brightness_and_contrast_but_not_geometry() -> None:
    plain, matrix = drawn(0)
    views = [drawn(seed, colour=0.3) for seed in range(30)]
    for _, other in views:
        np.testing.assert_array_equal(other, matrix)
    means = np.array([crop.mean(axis=(0, 1)) for crop, _ in views]) / plain.mean(axis=(0, 1))
    spreads = np.array([crop.std(axis=(0, 1)) for crop, _ in views]) / plain.std(axis=(0, 1))
    assert means.mean(axis=1).std() > 0.14  # brightness: 0.20 expected, 0.10 from the channels' gains alone
    assert (means - means.mean(axis=1, keepdims=True)).std() > 0.08  # channels against each other
    assert (spreads / means).std() > 0.08  # contrast: gains leave this ratio alone


def test_colour_stays_within_its_bounds_on_a_grey_image() -> None:
    grey = np.full((110, 130, 3), 100, np.uint8)
    for seed in range(30):
        crop, _ = drawn(seed, grey, colour=0.1)
        # Gain and brightness by up to 1.1 each; contrast about the mean spreads the channels by 1.1 more.
        assert 75 <= crop.min() <= crop.max() <= 125


def test_blur_takes_detail_away() -> None:
    plain, _ = drawn(0)
    detail = [cv2.Laplacian(drawn(seed, blur_px=3)[0], cv2.CV_32F).std() for seed in range(10)]
    assert max(detail) <= cv2.Laplacian(plain, cv2.CV_32F).std()
    assert min(detail) < 0.5 * max(detail)


def test_noise_has_no_mean_and_at_most_the_asked_spread() -> None:
    grey = np.full((110, 130, 3), 100, np.uint8)
    spreads = []
    for seed in range(20):
        crop, _ = drawn(seed, grey, noise=0.05)
        assert abs(crop.mean() - 100) < 0.4  # 12.75 / sqrt(96 * 96 * 3) = 0.08 is one standard deviation
        spreads.append(crop.std())
    assert max(spreads) < 0.05 * 255 * 1.02
    assert max(spreads) > 0.04 * 255
    assert min(spreads) < 0.02 * 255


@pytest.mark.parametrize("level", [0, 255])
def test_levels_saturate_instead_of_wrapping_around(level: int) -> None:
    flat = np.full((110, 130, 3), level, np.uint8)
    crop, _ = drawn(3, flat, noise=0.05)
    assert np.abs(crop.astype(int) - level).max() < 100
