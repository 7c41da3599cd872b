"""Images a second when several processes, each with a model of its own on one thread, run side by side.

    python -m benchmarks.measure.processes FILE ENGINE PLACE PARENT

Every process opens the model, warms up and waits. Once all are ready they call without a pause until the common window
is over; what counts are the calls that end within it, so that at no time of it a core stands idle for a process that
starts later or has finished. Each process keeps to a core of its own where the system allows it: left to itself,
OpenVINO binds the only thread of every process to the same core.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from benchmarks.measure.throughput import Throughput
from cliphand.config import require
from cliphand.errors import InputError
from cliphand.lifeline import end_with_parent

WARM_UP_CALLS = 3
LEAD_S = 0.05  # between the word to start and the window, for the word to arrive
LIMIT_S = 300.0  # for all processes to be ready; one that hangs is ended then
READY = "ready"
WORDS = 300  # characters of a process's own message that a sentence passes on


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[str]
    errors: IO[str]

    def tell(self, line: str) -> None:
        """Send the process a line; one that has ended is noticed when it is heard."""
        with contextlib.suppress(BrokenPipeError):  # past the buffer, which would be flushed again when it is closed
            os.write(cast("IO[str]", self.process.stdin).fileno(), f"{line}\n".encode())

    def hear(self) -> str:
        """The process's next line.

        Raises:
            InputError: it has ended instead, with its last words.
        """
        line = cast("IO[str]", self.process.stdout).readline().strip()
        if line:
            return line
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines()
        raise InputError((said[-1] if said else f"it ended with code {self.process.returncode}")[-WORDS:])

    def hear_ready(self) -> None:
        """Wait until the process is ready.

        Raises:
            InputError: it has ended, or says something else.
        """
        line = self.hear()
        require(line == READY, f"a process said '{line[:WORDS]}' instead of '{READY}'.")

    def hear_count(self) -> int:
        """The number that the process says.

        Raises:
            InputError: it has ended, or says something else.
        """
        line = self.hear()
        require(line.isdecimal(), f"a process said '{line[:WORDS]}' instead of its number of calls.")
        return int(line)


def process_throughput(path: Path, engine: str, *, processes: int, seconds: float) -> Throughput:
    """Run a model file in several processes for some time, one image a call.

    Args:
        path: what `engines.open` opens.
        engine: the name that it opens it by.
        processes: how many.
        seconds: length of the common window.

    Raises:
        InputError: a process fails or says what it should not, or none ends a call within the window.
    """
    with ExitStack() as stack:
        workers = [_start(path, engine, place, stack) for place in range(processes)]
        for worker in workers:
            limit = threading.Timer(LIMIT_S + seconds, worker.process.kill)
            limit.start()
            stack.callback(limit.cancel)
        for worker in workers:
            worker.hear_ready()
        # One clock for all processes: that of the machine since it started.
        begin = time.monotonic() + LEAD_S
        for worker in workers:
            worker.tell(f"{begin} {begin + seconds}")
        done = sum(worker.hear_count() for worker in workers)
    if done == 0:
        raise InputError(f"no call ended within {seconds:g} s; give more seconds.")
    return Throughput(done / seconds, processes)


def _start(path: Path, engine: str, place: int, stack: ExitStack) -> _Worker:
    """A process that is ended, whatever happens, when the stack closes."""
    # A pipe that nobody reads could fill up.
    errors = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - the stack closes it
    command = [sys.executable, "-m", "benchmarks.measure.processes", str(path), engine, str(place), str(os.getpid())]
    process = stack.enter_context(
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)  # noqa: S603
    )
    stack.callback(process.kill)
    return _Worker(process, errors)


def keep_to_core(place: int) -> None:
    """Bind this process to one of the cores that it may use: number `place`, and round again."""
    if sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place % len(cores)]})


def main(path: str, engine: str, place: str, parent: str) -> None:
    """What a process does: `ready`, then, after being told the window, the number of calls that ended within it."""
    end_with_parent(int(parent))
    keep_to_core(int(place))  # before any run-time counts them
    import numpy as np

    from engines.open import open_engine

    try:
        with open_engine(Path(path), engine=engine, threads=1, rejected=True, trust=True) as opened:
            images = np.zeros((1, 3, opened.input_size, opened.input_size), np.float32)
            for _ in range(WARM_UP_CALLS):
                opened(images)
            _say(READY)
            begin, end = (float(number) for number in sys.stdin.readline().split())
            _say(str(count_calls(lambda: opened(images), begin, end)))
    except InputError as error:
        sys.exit(str(error))


def count_calls(
    call: Callable[[], object], begin: float, end: float, *, clock: Callable[[], float] = time.monotonic
) -> int:
    """Call without a pause until `end` is over; how many of the calls end after `begin` and not after `end`."""
    done, now = 0, begin
    while now < end:
        call()
        now = clock()
        done += begin < now <= end
    return done


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
