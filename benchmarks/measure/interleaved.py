"""Calls timed turn by turn, so that drift of the machine and other jobs on it hit all of them alike.

A wall time is what a user waits. A CPU time is what all threads of the process spent, waiting excluded (though not the
spinning of idle workers): on a machine that others use as well it is the steadier figure.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from benchmarks.measure.intervals import relative_width
from cliphand.arrays import FloatArray
from cliphand.checked import checked
from cliphand.limits import CALLS, REPEATS, SECONDS

MS_PER_S = 1000.0
NS_PER_MS = 1e6
NS_PER_S = 1e9
LEAST_CALLS = 20  # before an interval is believed
Clock = Callable[[], int]


@checked
class SpeedSettings:
    """How much is timed.

    Attributes:
        warmup_calls: untimed calls of each engine before anything is timed.
        calls: timed calls of each engine, at most.
        seconds: time limit for each engine and measurement; at least one turn is timed.
        calls_per_turn: timed calls before the next engine's turn.
        interval: stop once the 95 % interval of every median is narrower than this share of it; None goes on.
    """

    warmup_calls: Annotated[int, REPEATS] = 5
    calls: Annotated[int, CALLS] = 100
    seconds: Annotated[float, SECONDS] = 10.0
    calls_per_turn: Annotated[int, CALLS] = 4
    interval: Annotated[float, Interval(gt=0, le=1)] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Timings:
    """Of one call.

    Attributes:
        wall_ms: (N,).
        cpu_ms: (N,) of all threads of the process.
        first_ms: wall time of the very first call, at this batch size.
    """

    wall_ms: FloatArray
    cpu_ms: FloatArray
    first_ms: float


def measure_interleaved(
    calls: Mapping[str, Callable[[], object]],
    settings: SpeedSettings,
    *,
    settle: bool = True,
    clock_ns: Clock = time.perf_counter_ns,
    cpu_clock_ns: Clock = time.process_time_ns,
) -> dict[str, Timings]:
    """Time several calls turn by turn.

    Args:
        calls: what to time, by name.
        settings: how often and how long.
        settle: begin each turn with an untimed call.
        clock_ns: a monotonic clock in nanoseconds.
        cpu_clock_ns: CPU time of this process in nanoseconds.

    Returns:
        By name; the same N for all, call i of one in the same turn as call i of another.
    """
    first_ns: dict[str, int] = {}
    for name, call in calls.items():
        for _ in range(settings.warmup_calls):
            before = clock_ns()
            call()
            first_ns.setdefault(name, clock_ns() - before)
    wall: dict[str, list[int]] = {name: [] for name in calls}
    cpu: dict[str, list[int]] = {name: [] for name in calls}
    n_timed, start, limit_ns = 0, clock_ns(), settings.seconds * NS_PER_S * len(calls)
    while n_timed < settings.calls and (n_timed == 0 or clock_ns() - start < limit_ns):
        n_turn = min(settings.calls_per_turn, settings.calls - n_timed)
        for name, call in calls.items():
            if settle:
                call()  # the caches hold the previous engine's data and its threads may still be spinning
            for _ in range(n_turn):
                cpu_before, before = cpu_clock_ns(), clock_ns()
                call()
                wall[name].append(clock_ns() - before)
                cpu[name].append(cpu_clock_ns() - cpu_before)
        n_timed += n_turn
        if settings.interval is not None and n_timed >= LEAST_CALLS and _widest(wall) < settings.interval:
            break
    return {
        name: Timings(
            wall_ms=np.array(wall[name]) / NS_PER_MS,
            cpu_ms=np.array(cpu[name]) / NS_PER_MS,
            first_ms=first_ns.get(name, wall[name][0]) / NS_PER_MS,
        )
        for name in calls
    }


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], settings: SpeedSettings, *, clock_ns: Clock = time.perf_counter_ns
) -> dict[str, FloatArray]:
    """The wall times of `measure_interleaved` alone: (N,) milliseconds for each name."""
    timings = measure_interleaved(calls, settings, clock_ns=clock_ns)
    return {name: timing.wall_ms for name, timing in timings.items()}


def _widest(times: Mapping[str, list[int]]) -> float:
    """The widest interval of a median, as a share of it."""
    return max(relative_width(np.array(values)) for values in times.values())
