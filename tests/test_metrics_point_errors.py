from collections.abc import Callable

import numpy as np
import pytest

from cliphand.metrics import (
    PointErrors,
    aligned_point_errors,
    pa_pjpe_mm,
    pa_pvpe_mm,
    pjpe_mm,
    point_errors,
    pvpe_mm,
)


def hands(n_points: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(4, n_points, 3)) * 0.05


@pytest.mark.parametrize(("error", "n_points"), [(pjpe_mm, 21), (pvpe_mm, 778)])
def test_shift_of_one_centimetre_is_ten_millimetres(error: Callable[..., float], n_points: int) -> None:
    target = hands(n_points)
    assert error(target + np.array([0, 0.01, 0]), target) == pytest.approx(10)
    assert error(target + np.array([0.002, 0.003, 0.006]), target) == pytest.approx(7)


@pytest.mark.parametrize(("error", "n_points"), [(pa_pjpe_mm, 21), (pa_pvpe_mm, 778)])
def test_alignment_takes_away_shift_and_scale_and_leaves_shape(error: Callable[..., float], n_points: int) -> None:
    target = hands(n_points)
    assert error(1.4 * target + 0.2, target) < 1e-4
    bent = target + 0.01 * np.sin(40 * target[..., ::-1])
    assert 1 < error(1.4 * bent + 0.2, target) < 20


@pytest.mark.parametrize(("error", "n_points"), [(pjpe_mm, 778), (pvpe_mm, 21), (pa_pjpe_mm, 778), (pa_pvpe_mm, 21)])
def test_joint_errors_refuse_vertices_and_vertex_errors_refuse_joints(
    error: Callable[..., float], n_points: int
) -> None:
    with pytest.raises(ValueError, match=f"each image has {n_points} points"):
        error(hands(n_points), hands(n_points))


def test_mean_and_median_are_taken_point_by_point_as_computed_by_hand() -> None:
    errors = PointErrors(np.array([[0.0, 1.0], [0.0, 3.0], [0.0, 8.0]]))
    assert errors.mean_mm == pytest.approx(2)
    assert errors.median_mm == pytest.approx(1.5)  # of all six it would be 0.5
    assert errors.per_image_mm.tolist() == [0.5, 1.5, 4.0]
    assert errors.per_point_mm.tolist() == [0.0, 4.0]


def test_errors_stand_at_their_image_and_point() -> None:
    target = hands(21)
    predicted = target.copy()
    predicted[2, 5] += (0, 0, 0.004)
    expected = np.zeros((4, 21))
    expected[2, 5] = 4
    np.testing.assert_allclose(point_errors(predicted, target).errors_mm, expected, atol=1e-10)


def test_no_root_is_subtracted() -> None:
    target = hands(21)
    np.testing.assert_allclose(point_errors(target + 0.1, target).errors_mm, 100 * 3**0.5)


def test_reflections_are_accepted_only_on_request() -> None:
    target = hands(21)
    mirrored = target * (-1, 1, 1)
    assert aligned_point_errors(mirrored, target, reflections=True).mean_mm < 1e-4
    assert aligned_point_errors(mirrored, target).mean_mm > 10
    assert pa_pjpe_mm(mirrored, target, reflections=True) < 1e-4
    assert pa_pjpe_mm(mirrored, target) > 10
