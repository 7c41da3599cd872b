"""Timing interleaved: what is stopped when, what a ratio and an interval say."""

import numpy as np
import pytest

from benchmarks.measure.interleaved import LEAST_CALLS, SpeedSettings, measure_interleaved
from benchmarks.measure.intervals import median_interval, paired_ratio, relative_width
from cliphand.errors import InputError


class Clock:
    """Time that passes only in the calls that it makes."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def spend(self, ms: float) -> None:
        self.now_ns += round(ms * 1e6)


def test_steady_calls_stop_as_soon_as_the_interval_is_narrow() -> None:
    clock = Clock()
    settings = SpeedSettings(warmup_calls=0, calls=1000, seconds=1000, interval=0.03)
    times = measure_interleaved({"a": lambda: clock.spend(10)}, settings, clock_ns=clock, cpu_clock_ns=clock)
    assert len(times["a"].wall_ms) == LEAST_CALLS


def test_one_unsteady_call_keeps_all_going() -> None:
    clock, rng = Clock(), np.random.default_rng(0)
    settings = SpeedSettings(warmup_calls=0, calls=400, seconds=1000, interval=0.03)
    calls = {"steady": lambda: clock.spend(10), "unsteady": lambda: clock.spend(rng.uniform(5, 15))}
    times = measure_interleaved(calls, settings, clock_ns=clock, cpu_clock_ns=clock)
    assert len(times["steady"].wall_ms) == len(times["unsteady"].wall_ms) > 10 * LEAST_CALLS


def test_the_first_call_and_the_cpu_time_are_told_apart() -> None:
    wall, cpu, costs = Clock(), Clock(), iter([500, 10, 10, 10, 10])

    def call() -> None:
        wall.spend(next(costs))
        cpu.spend(3)

    times = measure_interleaved(
        {"a": call}, SpeedSettings(warmup_calls=2, calls=2, calls_per_turn=2), clock_ns=wall, cpu_clock_ns=cpu
    )["a"]
    assert (times.first_ms, times.wall_ms.tolist(), times.cpu_ms.tolist()) == (500, [10, 10], [3, 3])


def test_without_warm_up_the_first_timed_call_is_the_first() -> None:
    clock, costs = Clock(), iter([50, 10, 10])
    settings = SpeedSettings(warmup_calls=0, calls=3, calls_per_turn=1)
    times = measure_interleaved(
        {"a": lambda: clock.spend(next(costs))}, settings, settle=False, clock_ns=clock, cpu_clock_ns=clock
    )["a"]
    assert (times.first_ms, times.wall_ms.tolist()) == (50, [50, 10, 10])


def test_an_interval_asked_for_must_be_positive() -> None:
    with pytest.raises(InputError, match="interval is 0"):
        SpeedSettings(interval=0.0)


def test_the_interval_holds_the_true_median_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        low, high = median_interval(rng.lognormal(size=60))
        held.append(low <= 1.0 <= high)
    assert 0.93 < np.mean(held) < 0.99


def test_the_interval_of_a_few_values_is_their_range() -> None:
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (1.0, 3.0)
    assert relative_width(np.array([3.0, 1.0, 2.0])) == 1.0


def test_a_ratio_does_not_see_drift_that_hits_both() -> None:
    drift = np.linspace(1, 5, 100)
    ratio = paired_ratio(20 * drift, 10 * drift)
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
