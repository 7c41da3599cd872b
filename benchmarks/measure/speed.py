"""How long a call takes, engine beside engine, under the same drift of the machine.

A latency is the wall time of one call. FPS is images a second at the median latency. End to end starts with the
JPEG file (in the operating system's cache after the first read) and ends with vertices in metres. Pipelined is the
same for a stream of images, the next being read while the engine works on this one. The bare call is the run-time's
own, with its input in place: what an engine's call costs beyond it is the engine's overhead.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from benchmarks.measure.interleaved import MS_PER_S, SpeedSettings, Timings, measure_interleaved, time_interleaved
from benchmarks.measure.intervals import Ratio, median_interval, paired_ratio
from benchmarks.measure.photographs import Photographs, end_to_end, pipelined, read_batch
from cliphand.arrays import FloatArray
from engines.base import Engine
from engines.hands.prepare import Preparer

__all__ = ["SpeedSettings", "time_interleaved"]  # from here on they are one with the rest for those who import them

SAMPLES_KEPT = 200  # of each engine, batch size and kind of timing
SAMPLE_DECIMALS = 4  # of milliseconds
STREAM_LENGTH = 4  # batches that one pipelined measurement runs; the first of them waits for its reading


@dataclass(frozen=True, slots=True)
class Latency:
    """Over the timed calls of one engine at one batch size, milliseconds.

    Attributes:
        interval_ms: 95 % interval of the median.
        cpu_ms_p50: median CPU time of all threads.
        first_ms: the very first call at this batch size.
        samples_ms: the times themselves, in their order; evenly spaced ones of them where there are many.
    """

    batch: int
    calls: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    interval_ms: tuple[float, float] | None = None
    cpu_ms_p50: float | None = None
    first_ms: float | None = None
    samples_ms: tuple[float, ...] = ()

    @property
    def fps(self) -> float:
        """Images a second at the median latency."""
        return self.batch * MS_PER_S / self.p50_ms


@dataclass(frozen=True, slots=True)
class Speed:
    """One engine at one batch size.

    Attributes:
        model: of its call alone.
        end_to_end: one batch after the other, nothing side by side.
        bare: of the run-time's own call; None where the engine does not offer it.
        overhead: the engine's call over the bare one.
        overhead_cpu: the same in CPU time.
        pipelined_ms_p50: of one batch in a stream, end to end.
        pipelined_over_model: that over the engine's call alone.
        pipelined_over_model_cpu: the same in CPU time, what reading and post-processing cost whoever does them.
        faster_than: how many times faster than each engine, by its key.
        faster_than_cpu: the same in CPU time.
    """

    model: Latency
    end_to_end: Latency
    bare: Latency | None
    overhead: Ratio | None
    overhead_cpu: Ratio | None
    pipelined_ms_p50: float
    pipelined_over_model: Ratio
    pipelined_over_model_cpu: Ratio
    faster_than: Mapping[str, Ratio]
    faster_than_cpu: Mapping[str, Ratio]


@runtime_checkable
class _HasBareCall(Protocol):
    def bare_call(self, images: FloatArray) -> Callable[[], object]: ...


def summarise(times_ms: FloatArray, batch: int) -> Latency:
    """Percentiles (linear between samples) of (N,) call times."""
    p50, p90, p99 = np.percentile(times_ms, (50, 90, 99)).tolist()
    return Latency(
        batch=batch,
        calls=len(times_ms),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        interval_ms=median_interval(times_ms),
        samples_ms=kept_samples(times_ms),
    )


def kept_samples(times_ms: FloatArray) -> tuple[float, ...]:
    """At most `SAMPLES_KEPT` of (N,) times, evenly spaced, rounded: a report is to be read in a browser."""
    places = np.linspace(0, len(times_ms) - 1, min(len(times_ms), SAMPLES_KEPT)).round().astype(int)
    return tuple(np.round(times_ms[places], SAMPLE_DECIMALS).tolist())


def measure_speed(
    engines: Mapping[str, Engine],
    photographs: Photographs,
    batch: int,
    *,
    settings: SpeedSettings,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Speed]:
    """Everything about the engines' speed at one batch size, on real photographs.

    Args:
        engines: by key.
        photographs: what they are fed.
        batch: its size; photographs come round again where there are fewer.
        settings: how much is timed.
        workers: photographs that are read at a time.
        progress: called after each of the two rounds.
    """
    indices = [place % len(photographs.data) for place in range(batch)]
    images = read_batch(photographs, indices).images
    calls = {key: _calling(engine, images) for key, engine in engines.items()}
    bare = {_bare(key): engine.bare_call(images) for key, engine in engines.items() if isinstance(engine, _HasBareCall)}
    model_only = measure_interleaved(calls | bare, settings)
    report = progress or (lambda rounds: None)
    report(1)
    with Preparer(photographs.crop, photographs.input_size, workers=workers) as preparer:
        whole = _measure_whole(engines, photographs, indices, calls, preparer=preparer, settings=settings)
    report(2)
    return {key: _speed(key, batch, model_only, whole, list(engines)) for key in engines}


def _measure_whole(
    engines: Mapping[str, Engine],
    photographs: Photographs,
    indices: list[int],
    calls: Mapping[str, Callable[[], object]],
    *,
    preparer: Preparer,
    settings: SpeedSettings,
) -> dict[str, Timings]:
    """End to end, as a stream, and the engine's call alone in the same turns."""
    stream = [indices] * STREAM_LENGTH

    def serial(engine: Engine) -> Callable[[], object]:
        return lambda: end_to_end(engine, photographs, indices, preparer)

    def streamed(engine: Engine) -> Callable[[], object]:
        return lambda: list(pipelined(engine, photographs, stream, preparer))

    whole: dict[str, Callable[[], object]] = {}
    for key, engine in engines.items():
        # The stream comes first: it runs the engine several times, so that the other two need no untimed call.
        whole |= {_streamed(key): streamed(engine), _model_only(key): calls[key], key: serial(engine)}
    once = dataclasses.replace(settings, warmup_calls=0, calls_per_turn=1)
    return measure_interleaved(whole, once, settle=False)


def _speed(
    key: str, batch: int, model_only: Mapping[str, Timings], whole: Mapping[str, Timings], keys: list[str]
) -> Speed:
    model, bare, streamed, model_then = (
        model_only[key],
        model_only.get(_bare(key)),
        whole[_streamed(key)],
        whole[_model_only(key)],
    )
    return Speed(
        model=_latency(model, batch),
        end_to_end=_latency(whole[key], batch),
        bare=None if bare is None else _latency(bare, batch),
        overhead=None if bare is None else paired_ratio(model.wall_ms, bare.wall_ms),
        overhead_cpu=None if bare is None else paired_ratio(model.cpu_ms, bare.cpu_ms),
        pipelined_ms_p50=float(np.median(streamed.wall_ms)) / STREAM_LENGTH,
        pipelined_over_model=paired_ratio(streamed.wall_ms / STREAM_LENGTH, model_then.wall_ms),
        pipelined_over_model_cpu=paired_ratio(streamed.cpu_ms / STREAM_LENGTH, model_then.cpu_ms),
        faster_than={other: paired_ratio(model_only[other].wall_ms, model.wall_ms) for other in keys if other != key},
        faster_than_cpu={other: paired_ratio(model_only[other].cpu_ms, model.cpu_ms) for other in keys if other != key},
    )


def _latency(timings: Timings, batch: int) -> Latency:
    cpu_ms = float(np.median(timings.cpu_ms))
    return dataclasses.replace(summarise(timings.wall_ms, batch), cpu_ms_p50=cpu_ms, first_ms=timings.first_ms)


def _calling(engine: Engine, images: FloatArray) -> Callable[[], object]:
    return lambda: engine(images)


def _bare(key: str) -> str:
    return f"{key}, bare call"


def _streamed(key: str) -> str:
    return f"{key}, as a stream"


def _model_only(key: str) -> str:
    return f"{key}, model alone"
