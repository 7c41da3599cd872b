"""The constant predictor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cliphand.metrics import constant_prediction, mean_pose, pa_pjpe_mm


def moved(pose: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The same hand, turned, scaled and shifted at random."""
    turns = Rotation.random(count, rng=rng).as_matrix()
    return rng.uniform(0.5, 2, (count, 1, 1)) * pose @ turns + rng.standard_normal((count, 1, 3))


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1))
def test_the_mean_of_one_hand_in_many_places_is_that_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hands = moved(0.05 * rng.standard_normal((21, 3)), 6, rng)
    mean = mean_pose(hands)
    assert mean.shape == (21, 3)
    assert pa_pjpe_mm(constant_prediction(mean, 6), hands) == pytest.approx(0, abs=1e-3)


def test_the_mean_beats_every_single_pose() -> None:
    rng = np.random.default_rng(0)
    base = 0.05 * rng.standard_normal((21, 3))
    hands = moved(base, 30, rng) + 0.01 * rng.standard_normal((30, 21, 3))
    best_single = min(pa_pjpe_mm(constant_prediction(hand, 30), hands) for hand in hands)
    assert pa_pjpe_mm(constant_prediction(mean_pose(hands), 30), hands) < best_single
