"""Images a second when several calls run side by side, each on one thread: what a server would see."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from cliphand.arrays import FloatArray
from engines.base import Engine
from engines.open import open_engine
from engines.runtimes.openvino_cpu import OpenVinoEngine, OpenVinoOptions


@dataclass(frozen=True, slots=True)
class Throughput:
    """Attributes: images a second over all workers, and how many of them called side by side."""

    images_per_s: float
    workers: int


def open_parallel(path: Path, engine: str, *, workers: int, precision: str) -> Engine:
    """An engine for so many callers side by side, one thread for each."""
    if engine.startswith("openvino"):
        options = OpenVinoOptions(reduced=engine != "openvino", mode="throughput", threads=workers, streams=workers)
        return OpenVinoEngine(path, precision=precision, options=options)
    return open_engine(path, engine=engine, threads=1, rejected=True, trust=True)


def throughput(engine: Engine, images: FloatArray, *, workers: int, seconds: float) -> Throughput:
    """Call an engine from several threads for some time.

    Args:
        engine: from `open_parallel`.
        images: (B, 3, S, S) that every call gets.
        workers: callers.
        seconds: after one untimed call of each.
    """
    for _ in range(workers):
        engine(images)
    done = [0] * workers
    start = time.perf_counter()

    def work(place: int) -> None:
        while done[place] == 0 or time.perf_counter() - start < seconds:
            engine(images)
            done[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Throughput(sum(done) * len(images) / (time.perf_counter() - start), workers)
