import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cliphand.metrics import area_under_pck, pck_curve, pck_thresholds


def test_thresholds_are_a_hundred_with_both_ends() -> None:
    thresholds = pck_thresholds((20, 50))
    assert (len(thresholds), thresholds[0], thresholds[-1]) == (100, 20, 50)


def test_an_error_equal_to_the_threshold_is_correct() -> None:
    curve = pck_curve(np.array([[1.0, 2.0, 2.0, 5.0]]), np.array([0.0, 1.0, 2.0, 4.0]))
    assert curve.tolist() == [0, 0.25, 0.75, 0.75]


@settings(max_examples=100)
@given(hnp.arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 9.0])))
def test_the_curve_is_the_share_of_errors_at_or_below_each_threshold(errors: np.ndarray) -> None:
    thresholds = np.array([0.0, 1.0, 2.0, 3.0])
    expected = (errors[..., None] <= thresholds).mean(axis=0).mean(axis=0)  # per point, then over points
    np.testing.assert_allclose(pck_curve(errors, thresholds), expected, atol=1e-15)


@pytest.mark.parametrize(
    ("error_mm", "range_mm", "area"),
    # 25 mm lies midway between two thresholds: the trapezoid there gives exactly half of the range.
    [(25, (0, 50), 0.5), (15, (0, 30), 0.5), (35, (20, 50), 0.5), (0, (0, 50), 1), (51, (0, 50), 0), (19, (20, 50), 1)],
)
def test_area_of_one_error_as_computed_by_hand(error_mm: float, range_mm: tuple[float, float], area: float) -> None:
    assert area_under_pck(np.full((2, 3), float(error_mm)), range_mm=range_mm) == pytest.approx(area, abs=1e-12)


def test_a_step_before_the_first_threshold_loses_half_a_step() -> None:
    # Correct from the second threshold on: the first trapezoid has half its area.
    assert area_under_pck(np.array([[1e-9]])) == pytest.approx(1 - 0.5 / 99)


def test_the_same_errors_give_a_higher_area_over_20_to_50_than_over_0_to_50() -> None:
    errors = np.random.default_rng(0).gamma(2, 4, size=(50, 21))
    assert area_under_pck(errors, range_mm=(20, 50)) > area_under_pck(errors) + 0.1


@pytest.mark.parametrize("range_mm", [(50, 0), (10, 10), (-1, 50), (0, np.inf), (0, np.nan)])
def test_an_empty_or_negative_range_is_refused(range_mm: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="the AUC's range"):
        area_under_pck(np.ones((1, 21)), range_mm=range_mm)
