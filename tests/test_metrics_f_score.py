import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliphand.metrics import f_scores


def on_a_line(*x_mm: float) -> np.ndarray:
    return np.array([[x, 0, 0] for x in x_mm])[None] / 1000


def by_definition(predicted: np.ndarray, target: np.ndarray, threshold_m: float) -> float:
    distance = np.linalg.norm(predicted[:, None] - target, axis=2)
    precision, recall = (distance.min(1) < threshold_m).mean(), (distance.min(0) < threshold_m).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(
    ("predicted", "target", "f_at_5", "f_at_15"),
    [
        (on_a_line(0, 106), on_a_line(0, 100), 0.5, 1),
        (on_a_line(0, 1), on_a_line(0, 100), 2 / 3, 2 / 3),  # precision 1, recall 1/2
        (on_a_line(100, 0), on_a_line(0, 100), 1, 1),  # the order of the vertices does not matter
        (on_a_line(200, 300), on_a_line(0, 100), 0, 0),
        (on_a_line(0, 1, 2, 12), on_a_line(0, 1, 2, 3), 6 / 7, 1),  # precision 3/4, recall 1
    ],
)
def test_f_scores_as_computed_by_hand(predicted: np.ndarray, target: np.ndarray, f_at_5: float, f_at_15: float) -> None:
    np.testing.assert_allclose(f_scores(predicted, target), [[f_at_5, f_at_15]])


def test_a_distance_equal_to_the_threshold_does_not_count() -> None:
    target = np.zeros((1, 2, 3))
    assert f_scores(target + np.array([0.005, 0, 0]), target)[0, 0] == 0
    assert f_scores(target + np.array([np.nextafter(0.005, 0), 0, 0]), target)[0, 0] == 1
    assert f_scores(target + np.array([0, 0.015, 0]), target)[0, 1] == 0


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.0001, 0.03))
def test_the_search_finds_what_the_definition_says(seed: int, noise_m: float) -> None:
    rng = np.random.default_rng(seed)
    target = rng.uniform(-0.04, 0.04, (2, 60, 3))
    predicted = target + rng.normal(size=target.shape) * noise_m
    expected = [
        [by_definition(p, t, limit) for limit in (0.005, 0.015)] for p, t in zip(predicted, target, strict=True)
    ]
    np.testing.assert_allclose(f_scores(predicted, target), expected, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_meshes_that_nowhere_meet_score_zero_without_a_warning() -> None:
    assert f_scores(on_a_line(200, 300), on_a_line(0, 100)).tolist() == [[0, 0]]


def test_each_image_has_its_own_score_and_thresholds_may_be_chosen() -> None:
    target = np.concatenate([on_a_line(0, 100)] * 2)
    predicted = np.concatenate([on_a_line(0, 100), on_a_line(3, 103)])
    np.testing.assert_allclose(f_scores(predicted, target, thresholds_mm=(2, 4, 6)), [[1, 1, 1], [0, 1, 1]])


def test_meshes_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="both must be one"):
        f_scores(np.zeros((1, 4, 3)), np.zeros((1, 5, 3)))
