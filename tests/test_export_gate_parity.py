"""The gate's figures and verdicts on hands whose differences are known."""

import numpy as np
import pytest

from cliphand.errors import InputError
from export.gate.parity import TOLERANCES, Comparison, Hands, Tolerance, Truth, bootstrap_interval, compare, excess

N = 6
NAMES = tuple(f"{index:08d}.jpg" for index in range(N))
RNG = np.random.default_rng(0)
TRUTH = Truth(xyz=RNG.normal(size=(N, 21, 3)) * 0.05, verts=RNG.normal(size=(N, 778, 3)) * 0.05)
WIDE = Tolerance(delta_mm=100, p99_mm=100)


def noisy(error_mm: float, seed: int = 1) -> Hands:
    rng = np.random.default_rng(seed)
    return Hands(*(points + rng.normal(size=points.shape) * error_mm / 1000 for points in (TRUTH.xyz, TRUTH.verts)))


def judge(ours: Hands, reference: Hands, tolerance: Tolerance = WIDE, truth: Truth = TRUTH) -> Comparison:
    return compare(
        ours, reference, truth, names=NAMES, tolerance=tolerance, artefact="a.onnx", engine="e", precision="fp16"
    )


def moved(hands: Hands, metres: np.ndarray) -> Hands:
    return Hands(hands.xyz + metres, hands.verts + metres)


def test_the_reference_itself_passes_with_nothing_apart() -> None:
    row = judge(noisy(5), noisy(5), TOLERANCES["fp32"])
    assert row.within_tolerance
    assert (row.delta_pa_pjpe_mm, row.delta_pa_pvpe_mm, row.delta_pjpe_mm) == (0, 0, 0)
    assert row.vertex_distance_mm is not None
    assert row.vertex_distance_mm.max == 0
    assert excess(row) == 0


def test_a_shift_shows_in_the_distances_and_not_in_the_aligned_errors() -> None:
    row = judge(moved(noisy(5), np.array([0.003, 0.004, 0])), noisy(5), Tolerance(delta_mm=0.1, p99_mm=4.9))
    assert row.vertex_distance_mm is not None
    figures = row.vertex_distance_mm
    assert [figures.mean, figures.median, figures.p99, figures.max] == pytest.approx([5, 5, 5, 5])
    assert row.delta_pa_pjpe_mm == pytest.approx(0, abs=1e-9)
    assert row.failures == ("99 % of vertices lie within 5.000 mm, bound 4.9 mm",)
    assert excess(row) == pytest.approx(5 / 4.9)


def test_differences_are_ours_minus_the_references() -> None:
    row = judge(noisy(8), noisy(4))
    assert row.pa_pjpe_mm is not None
    assert row.reference_pa_pjpe_mm is not None
    assert row.delta_pa_pjpe_mm == pytest.approx(row.pa_pjpe_mm - row.reference_pa_pjpe_mm)
    assert row.delta_pa_pjpe_mm > 2
    assert row.delta_pa_pvpe_mm is not None
    assert row.delta_pa_pvpe_mm > 2


@pytest.mark.parametrize(("ours_mm", "theirs_mm"), [(6, 5), (5, 6)])
def test_a_change_either_way_is_outside(ours_mm: float, theirs_mm: float) -> None:
    row = judge(noisy(ours_mm), noisy(theirs_mm), Tolerance(delta_mm=0.5, p99_mm=1000))
    assert [failure.split()[0] for failure in row.failures] == ["PA-PJPE", "PA-PVPE"]
    assert not row.within_tolerance
    assert excess(row) > 1


def test_one_nan_fails_and_names_its_image() -> None:
    ours = noisy(5)
    ours.verts[3, 700, 1] = np.nan
    row = judge(ours, noisy(5))
    assert not row.within_tolerance
    assert (row.nonfinite, row.worst_image) == (1, NAMES[3])
    assert row.failures == ("1 numbers are NaN or infinite",)
    assert row.pa_pjpe_mm is None
    assert excess(row) == float("inf")


def test_infinities_count_as_well() -> None:
    ours = noisy(5)
    ours.verts[2, :, 0] = np.inf
    ours.xyz[2, 0, 0] = -np.inf
    assert judge(ours, noisy(5)).nonfinite == 779


def test_the_worst_image_is_the_one_farthest_from_pytorch() -> None:
    ours = noisy(5)
    ours.verts[4] += 0.01
    assert judge(ours, noisy(5)).worst_image == NAMES[4]


def test_without_true_vertices_the_joints_and_distances_still_decide() -> None:
    truth = Truth(TRUTH.xyz, None)
    row = judge(moved(noisy(5), np.array([0, 0, 0.1])), noisy(5), Tolerance(delta_mm=0.1, p99_mm=1), truth)
    assert (row.pa_pvpe_mm, row.delta_pa_pvpe_ci_mm) == (None, None)
    assert len(row.failures) == 1


def test_the_interval_holds_the_mean_and_narrows_with_more_images() -> None:
    few, many = (np.random.default_rng(0).normal(loc=2, size=size) for size in (20, 2000))
    for values in (few, many):
        low, high = bootstrap_interval(values)
        assert low < values.mean() < high
    # A normal sample of 2000: 2 * 1.96 / sqrt(2000) = 0.088.
    assert np.diff(bootstrap_interval(many))[0] == pytest.approx(0.088, rel=0.1)
    assert np.diff(bootstrap_interval(few))[0] > 5 * np.diff(bootstrap_interval(many))[0]


def test_the_interval_of_the_difference_uses_each_images_own_difference() -> None:
    # Both engines share the images' large errors; their difference is the same on each image.
    low, high = judge(moved(noisy(5), np.zeros(3)), noisy(5)).delta_pa_pjpe_ci_mm or (1.0, 1.0)
    assert low == high == 0


def test_tolerances_are_the_stated_ones() -> None:
    assert {name: tolerance.delta_mm for name, tolerance in TOLERANCES.items()} == {
        "fp32": 0.01,
        "fp16": 0.1,
        "int8": 0.3,
    }


def test_a_tolerance_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="delta_mm is 0; it must be more than 0"):
        Tolerance(0, 1)
