"""How long a call takes, engine beside engine, under the same drift of the machine.

A latency is the wall time of one call. FPS is images a second at the median latency. End to end starts with the
JPEG file (in the operating system's cache after the first read) and ends with vertices in metres.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.photographs import Photographs, end_to_end, read_batch
from cliphand.arrays import FloatArray
from cliphand.config import require
from engines.base import Engine

MS_PER_S = 1000.0
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class SpeedSettings:
    """How much is timed.

    Attributes:
        warmup_calls: untimed calls of each engine before anything is timed.
        calls: timed calls of each engine.
        seconds: time limit for each engine and measurement; at least one turn is timed.
        calls_per_turn: timed calls before the next engine's turn.
    """

    warmup_calls: int = 5
    calls: int = 100
    seconds: float = 10.0
    calls_per_turn: int = 4

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.warmup_calls >= 0, f"warm-up calls are {self.warmup_calls}; they cannot be negative.")
        require(self.calls >= 1, f"timed calls are {self.calls}; there must be at least 1.")
        require(self.calls_per_turn >= 1, f"calls per turn are {self.calls_per_turn}; there must be at least 1.")
        require(self.seconds > 0, f"the time limit is {self.seconds} s; it must be positive.")


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles over the timed calls of one engine at one batch size, milliseconds."""

    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float

    @property
    def fps(self) -> float:
        """Images a second at the median latency."""
        return self.batch * MS_PER_S / self.p50_ms


def summarise(times_ms: FloatArray, batch: int) -> Latency:
    """Percentiles (linear between samples) of (N,) call times."""
    p50, p90, p99 = np.percentile(times_ms, (50, 90, 99)).tolist()
    return Latency(batch=batch, calls=len(times_ms), p50_ms=p50, p90_ms=p90, p99_ms=p99)


def time_in_turns(
    calls: Mapping[str, Callable[[], object]],
    settings: SpeedSettings,
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, FloatArray]:
    """Time several calls turn by turn, so that drift of the machine hits all alike.

    Args:
        calls: what to time, by name.
        settings: how often and how long.
        clock_ns: a monotonic clock in nanoseconds.

    Returns:
        (N,) milliseconds for each name, the same N for all.
    """
    for call in calls.values():
        for _ in range(settings.warmup_calls):
            call()
    times_ns: dict[str, list[int]] = {name: [] for name in calls}
    n_timed, start, limit_ns = 0, clock_ns(), settings.seconds * 1e9 * len(calls)
    while n_timed < settings.calls and (n_timed == 0 or clock_ns() - start < limit_ns):
        n_turn = min(settings.calls_per_turn, settings.calls - n_timed)
        for name, call in calls.items():
            call()  # untimed: the caches hold the previous engine's data and its threads may still be spinning
            for _ in range(n_turn):
                before = clock_ns()
                call()
                times_ns[name].append(clock_ns() - before)
        n_timed += n_turn
    return {name: np.array(times) / NS_PER_MS for name, times in times_ns.items()}


def model_latency(
    engines: Mapping[str, Engine], photographs: Photographs, batch: int, *, settings: SpeedSettings
) -> dict[str, Latency]:
    """Latency of the engines' calls alone, on one batch of real crops."""
    images = read_batch(photographs, _cycle(photographs, batch)).images

    def calling(engine: Engine) -> Callable[[], object]:
        return lambda: engine(images)

    times = time_in_turns({name: calling(engine) for name, engine in engines.items()}, settings)
    return {name: summarise(values, batch) for name, values in times.items()}


def end_to_end_latency(
    engines: Mapping[str, Engine], photographs: Photographs, batch: int, *, settings: SpeedSettings
) -> dict[str, Latency]:
    """Latency from JPEG files on disk to vertices in metres, on one batch of real photographs."""
    indices = _cycle(photographs, batch)

    def calling(engine: Engine) -> Callable[[], object]:
        return lambda: end_to_end(engine, photographs, indices)

    times = time_in_turns({name: calling(engine) for name, engine in engines.items()}, settings)
    return {name: summarise(values, batch) for name, values in times.items()}


def _cycle(photographs: Photographs, batch: int) -> list[int]:
    """The first `batch` images, from the start again where there are fewer."""
    return [place % len(photographs.data) for place in range(batch)]
