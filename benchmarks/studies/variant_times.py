"""How long variants of the network take, all interleaved, beside the network as its authors published it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.measure.interleaved import SpeedSettings, time_interleaved
from benchmarks.measure.intervals import paired_ratio
from cliphand.arrays import FloatArray
from engines.base import Engine
from engines.runtimes.openvino_cpu import OpenVinoEngine
from engines.runtimes.ort import OrtEngine

SEED = 0
PUBLISHED = "published"
KINDS = ("ort fp32", "openvino fp32", "openvino int8")


class Times(NamedTuple):
    """Medians of one image's call, wall times.

    Attributes:
        times_faster: INT8 than the published form, median over turns.
    """

    ort_fp32_ms: float
    openvino_fp32_ms: float
    openvino_int8_ms: float
    times_faster: float


def latencies(
    graphs: Mapping[str, Mapping[str, Path]],
    *,
    published: Engine,
    threads: int | None,
    settings: SpeedSettings,
) -> dict[str, Times]:
    """Time every variant in every engine, and the published form, in one process.

    Args:
        graphs: files by variant and precision, `fp32` and `int8`.
        published: the network as its authors published it.
        threads: of one call; None leaves the choice to the run-time.
        settings: how much is timed.
    """
    with ExitStack() as stack:
        calls = {PUBLISHED: _call(published)}
        for name, paths in graphs.items():
            engines: tuple[Engine, ...] = (
                OrtEngine(paths["fp32"], precision="fp32", threads=threads),
                OpenVinoEngine(paths["fp32"], precision="fp32", threads=threads),
                OpenVinoEngine(paths["int8"], precision="int8", threads=threads),
            )
            for kind, engine in zip(KINDS, engines, strict=True):
                calls[f"{name}, {kind}"] = _call(stack.enter_context(engine))
        wall_ms = time_interleaved(calls, settings)
    return {name: _times(wall_ms, name) for name in graphs}


def _times(wall_ms: Mapping[str, FloatArray], name: str) -> Times:
    ort, openvino, int8 = (wall_ms[f"{name}, {kind}"] for kind in KINDS)
    faster = paired_ratio(wall_ms[PUBLISHED], int8).median
    return Times(float(np.median(ort)), float(np.median(openvino)), float(np.median(int8)), faster)


def _call(engine: Engine) -> Callable[[], object]:
    shape = (1, 3, engine.input_size, engine.input_size)
    return partial(engine, np.random.default_rng(SEED).normal(size=shape).astype(np.float32))
