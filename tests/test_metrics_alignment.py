import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from cliphand.metrics import align, fit_similarity


def cross(x: float, y: float, z: float) -> np.ndarray:
    """Two points on each axis, at plus and minus the given distances: centred, with a diagonal covariance."""
    return np.array([[x, 0, 0], [-x, 0, 0], [0, y, 0], [0, -y, 0], [0, 0, z], [0, 0, -z]], float)[None]


def mirrored(points: np.ndarray) -> np.ndarray:
    return points * (1, 1, -1)


def official_alignment(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """One image, written from the FreiHAND evaluator's description with scipy's Procrustes."""
    centre = target.mean(0)
    true, guess = target - centre, predicted - predicted.mean(0)
    size = np.linalg.norm(true) + 1e-8
    guess = guess / (np.linalg.norm(guess) + 1e-8)
    rotation, scale = orthogonal_procrustes(true / size, guess)
    return guess @ rotation.T * scale * size + centre


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5))
def test_a_turned_scaled_and_moved_hand_aligns_onto_the_truth(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(3, 21, 3)) * 0.1
    turn = Rotation.random(3, rng=rng).as_matrix()
    predicted = scale * target @ np.swapaxes(turn, 1, 2) + rng.normal(size=(3, 1, 3))
    fit = fit_similarity(predicted, target)
    np.testing.assert_allclose(fit.apply(predicted), target, atol=1e-7)
    np.testing.assert_allclose(fit.rotation, np.swapaxes(turn, 1, 2), atol=1e-7)
    np.testing.assert_allclose(fit.scale, 1 / scale, rtol=1e-6)
    assert not fit.mirrored.any()


def test_a_mirrored_cross_keeps_the_error_computed_by_hand() -> None:
    # Covariance diag(1, 4, -9) / 14: the best rotation gives up the weakest axis, scale (9 + 4 - 1) / 14 = 6 / 7.
    # What is left: 13 / 7 on x, 2 / 7 on y, 3 / 7 on z.
    target = cross(1, 2, 3)
    error = np.linalg.norm(align(mirrored(target), target) - target, axis=2)[0]
    np.testing.assert_allclose(error, np.array([13, 13, 2, 2, 3, 3]) / 7, rtol=1e-6)


def test_a_mirrored_cross_is_flagged_and_only_reflections_hide_it() -> None:
    target = cross(1, 2, 3)
    with_reflections = fit_similarity(mirrored(target), target, reflections=True)
    np.testing.assert_allclose(with_reflections.apply(mirrored(target)), target, atol=1e-6)
    assert with_reflections.mirrored.tolist() == [True]
    assert np.linalg.det(with_reflections.rotation)[0] == pytest.approx(-1)
    assert np.linalg.det(fit_similarity(mirrored(target), target).rotation)[0] == pytest.approx(1)


def test_a_flat_hand_is_not_called_mirrored() -> None:
    target = np.random.default_rng(0).normal(size=(20, 21, 3)) * (1, 1, 0)
    turn = Rotation.random(20, rng=1).as_matrix()
    assert not fit_similarity(target @ turn, target).mirrored.any()


def test_no_rotation_nearby_fits_better() -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=(50, 21, 3))
    predicted = target * np.where(rng.random((50, 1, 1)) < 0.5, (1, 1, 1), (1, 1, -1)) + 0.5 * rng.normal(
        size=(1, 21, 3)
    )
    fit = fit_similarity(predicted, target)
    best = np.square(fit.apply(predicted) - target).sum(axis=(1, 2))
    centre = target.mean(axis=1, keepdims=True)
    for angle in rng.normal(size=(20, 3)) * 0.05:
        turned = (fit.apply(predicted) - centre) @ Rotation.from_rotvec(angle).as_matrix() + centre
        assert (np.square(turned - target).sum(axis=(1, 2)) >= best - 1e-9).all()


@pytest.mark.parametrize("noise", [0.001, 0.3])
def test_reflections_reproduce_the_official_alignment(noise: float) -> None:
    rng = np.random.default_rng(3)
    target = rng.normal(size=(40, 21, 3)) * 0.1
    predicted = mirrored(target) * 1.3 + rng.normal(size=target.shape) * noise + 0.7
    aligned = align(predicted, target, reflections=True)
    for image in range(40):
        expected = official_alignment(target[image], predicted[image])
        np.testing.assert_allclose(aligned[image], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("place", [0.0, 0.1, -7.3])
def test_a_prediction_without_extent_aligns_to_the_centre(place: float) -> None:
    target = np.random.default_rng(4).normal(size=(2, 21, 3))
    aligned = align(np.full_like(target, place), target)
    np.testing.assert_allclose(aligned, np.broadcast_to(target.mean(axis=1, keepdims=True), target.shape), atol=1e-6)


def test_a_truth_without_extent_gives_its_place_and_not_nan() -> None:
    predicted = np.random.default_rng(5).normal(size=(1, 21, 3))
    np.testing.assert_allclose(align(predicted, np.full_like(predicted, 0.4)), 0.4, atol=1e-6)


def test_images_do_not_influence_one_another() -> None:
    rng = np.random.default_rng(6)
    predicted, target = rng.normal(size=(2, 5, 21, 3))
    alone = np.concatenate([align(predicted[i : i + 1], target[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(align(predicted, target), alone, atol=1e-13)


def test_single_precision_predictions_are_aligned_in_double() -> None:
    rng = np.random.default_rng(7)
    predicted, target = rng.normal(size=(2, 3, 21, 3))
    rounded = predicted.astype(np.float32)
    assert align(rounded, target).dtype == np.float64
    np.testing.assert_array_equal(align(rounded, target), align(rounded.astype(np.float64), target))


@pytest.mark.parametrize(
    ("predicted", "target"),
    [((2, 21, 3), (3, 21, 3)), ((21, 3), (21, 3)), ((2, 21, 2), (2, 21, 2)), ((0, 21, 3), (0, 21, 3))],
)
def test_shapes_that_do_not_fit_are_refused(predicted: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="both must be one"):
        align(np.zeros(predicted), np.zeros(target))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", ["predicted", "target"])
def test_numbers_that_are_not_finite_are_refused(bad: float, which: str) -> None:
    points = {"predicted": np.ones((1, 21, 3)), "target": np.ones((1, 21, 3))}
    points[which][0, 3, 1] = bad
    with pytest.raises(ValueError, match=f"{which} holds NaN"):
        align(points["predicted"], points["target"])
