"""From nothing to the first result: a new process opens one model, runs it once, and says what it cost.

    python -m benchmarks.measure.cold_start FILE ENGINE THREADS PARENT

`start_s` counts from before the process exists to the line that it prints after its first result, on an input of zeros:
interpreter, imports, hashing and loading the model, first call. The peak is that of the whole process.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, cast

from benchmarks.measure.interleaved import MS_PER_S
from benchmarks.measure.peak_memory import resident_peak_bytes
from cliphand.lifeline import end_with_parent

REPEATS = 3
STEADY_CALLS = 5
MEGA = 1e6
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Medians over several processes, each with one engine alone.

    Attributes:
        start_s: process start to first result.
        cpu_s: CPU time of the process until then; waiting for other jobs on the machine is not in it.
        open_s: of that, opening the engine.
        first_call_ms: of that, the first call.
        steady_ms: median of the calls after it.
        peak_mb: largest resident memory of the process; None where the system does not tell.
        torch: whether PyTorch was loaded.
    """

    start_s: float
    cpu_s: float
    open_s: float
    first_call_ms: float
    steady_ms: float
    peak_mb: float | None
    torch: bool


def cold_start(path: Path, engine: str, *, threads: int | None, repeats: int = REPEATS) -> ColdStart | str:
    """Measure an engine in processes of its own; a sentence where that fails."""
    found: list[dict[str, float]] = []
    for _ in range(repeats):
        command = [
            sys.executable,
            "-m",
            "benchmarks.measure.cold_start",
            str(path),
            engine,
            str(threads or 0),
            str(os.getpid()),
        ]
        start = time.perf_counter()
        # Its own module with a path, an engine's name and a number.
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
            stdout = cast("IO[str]", process.stdout)
            lines = [stdout.readline()]
            start_s = time.perf_counter() - start
            lines.append(stdout.readline())  # `communicate` would lose what was read ahead of this line
            errors = process.communicate(timeout=TIMEOUT_S)[1]
        if process.returncode != 0:
            return f"{path.name} in {engine} does not start in a process of its own: {errors.strip()[-300:]}"
        first, last = (json.loads(line) for line in lines)
        found.append(first | last | {"start_s": start_s})
    told = {key: [item[key] for item in found if item[key] is not None] for key in found[0]}
    middle = {key: median(values) if values else None for key, values in told.items()}
    return ColdStart(**(middle | {"torch": bool(middle["torch"])}))  # type: ignore[arg-type]


def main(path: str, engine: str, threads: str, parent: str) -> None:
    """What the child does; it prints a line after the first result and one at its end."""
    end_with_parent(int(parent))
    import numpy as np

    from engines.open import open_engine

    before = time.perf_counter()
    with open_engine(Path(path), engine=engine, threads=int(threads) or None, rejected=True, trust=True) as opened:
        after = time.perf_counter()
        images = np.zeros((1, 3, opened.input_size, opened.input_size), np.float32)
        opened(images)
        times = [time.perf_counter() - after]
        first = {"open_s": after - before, "first_call_ms": times[0] * MS_PER_S, "cpu_s": time.process_time()}
        sys.stdout.write(json.dumps(first) + "\n")
        sys.stdout.flush()
        for _ in range(STEADY_CALLS):
            start = time.perf_counter()
            opened(images)
            times.append(time.perf_counter() - start)
    peak = resident_peak_bytes()
    last = {
        "steady_ms": median(times[1:]) * MS_PER_S,
        "peak_mb": None if peak is None else peak / MEGA,
        "torch": "torch" in sys.modules,
    }
    sys.stdout.write(json.dumps(last) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
