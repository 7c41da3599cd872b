"""What must be measured of an engine by itself: cold start and memory, images a second side by side, energy.

Side by side is measured twice: threads of one process that share a model, and processes with a model each.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from benchmarks.contestants.exported import Contestant
from benchmarks.contestants.plans import SUFFIX as PLAN
from benchmarks.measure.cold_start import ColdStart, cold_start
from benchmarks.measure.energy import Energy, energy_of
from benchmarks.measure.machine import usable_cores
from benchmarks.measure.processes import process_throughput
from benchmarks.measure.throughput import Throughput, open_parallel, throughput
from cliphand.arrays import FloatArray
from cliphand.checked import checked
from cliphand.errors import InputError
from cliphand.limits import PROCESSES, REPEATS, SPELL

MOST_PROCESSES = 8  # unless asked for: each loads its run-time and a model of its own


@checked
class IsolatedSettings:
    """How much is measured.

    Attributes:
        cold_starts: processes for each engine; 0 leaves them out.
        throughput_s: seconds of calls side by side, in threads and in processes each; 0 leaves them out.
        processes: how many, one thread each; None is one for each core but at most 8, 0 leaves them out.
        energy_s: seconds of calls between two readings; 0 leaves them out.
    """

    _: KW_ONLY
    cold_starts: Annotated[int, REPEATS] = 0
    throughput_s: Annotated[float, SPELL] = 0.0
    processes: Annotated[int, PROCESSES] | None = None
    energy_s: Annotated[float, SPELL] = 0.0


@dataclass(frozen=True, slots=True)
class Isolated:
    """None is "not measured"; `notes` says why where it was asked for.

    Attributes:
        throughput: of threads that share the model.
        processes: of processes that have a model each.
    """

    cold_start: ColdStart | None = None
    throughput: Throughput | None = None
    energy: Energy | None = None
    notes: tuple[str, ...] = ()
    processes: Throughput | None = None


_Together = tuple[Throughput | None, str | None, Throughput | None, str | None]  # each with its note


def measure_isolated(
    contestants: Mapping[str, Contestant],
    images: FloatArray,
    settings: IsolatedSettings,
    progress: Callable[[int], None],
) -> dict[str, Isolated]:
    """One engine after the other.

    Args:
        contestants: by key.
        images: (1, 3, S, S) for throughput and energy.
        settings: how much.
        progress: called with the number of engines done.
    """
    energy = {key: _energy(contestant, images, settings) for key, contestant in contestants.items()}
    found = {}
    together: dict[tuple[Path | None, str], _Together] = {}
    # Last, since PyTorch's number of threads is the whole process's, and this sets it to one.
    for done, (key, contestant) in enumerate(contestants.items(), 1):
        start, start_note = _cold_start(contestant, settings)
        # One thread for each caller, whatever the engine's own number: once for each file and run-time.
        file = contestant.path, contestant.runner
        if file not in together:
            together[file] = *_side_by_side(contestant, images, settings), *_in_processes(contestant, settings)
        side_by_side, note, apart, apart_note = together[file]
        notes = tuple(text for text in (start_note, note, apart_note) if text is not None)
        found[key] = Isolated(start, side_by_side, energy[key], notes, apart)
        progress(done)
    return found


def _energy(contestant: Contestant, images: FloatArray, settings: IsolatedSettings) -> Energy | None:
    if settings.energy_s <= 0:
        return None
    return energy_of(lambda: contestant.engine(images), seconds=settings.energy_s, images=len(images))


def _cold_start(contestant: Contestant, settings: IsolatedSettings) -> tuple[ColdStart | None, str | None]:
    if settings.cold_starts == 0:
        return None, None
    if contestant.path is None:
        return None, "no cold start: it is no file that a process could open"
    told = cold_start(contestant.path, contestant.runner, threads=contestant.threads, repeats=settings.cold_starts)
    return (None, told) if isinstance(told, str) else (told, None)


def _side_by_side(
    contestant: Contestant, images: FloatArray, settings: IsolatedSettings
) -> tuple[Throughput | None, str | None]:
    if settings.throughput_s <= 0:
        return None, None
    if contestant.path is None:
        return None, "no throughput: it is no file that could be opened again"
    if contestant.path.suffix == PLAN:
        return None, "no throughput: a plan takes one call at a time"
    workers, precision = usable_cores(), contestant.engine.precision
    try:
        with open_parallel(contestant.path, contestant.runner, workers=workers, precision=precision) as engine:
            return throughput(engine, images, workers=workers, seconds=settings.throughput_s), None
    except (InputError, RuntimeError) as error:
        return None, f"no throughput: {error}"


def _in_processes(contestant: Contestant, settings: IsolatedSettings) -> tuple[Throughput | None, str | None]:
    if (
        settings.throughput_s <= 0
        or settings.processes == 0
        or contestant.path is None
        or contestant.path.suffix == PLAN
    ):
        return None, None  # what is no file, or a plan, has its note already
    processes = settings.processes or min(usable_cores(), MOST_PROCESSES)
    try:
        found = process_throughput(
            contestant.path, contestant.runner, processes=processes, seconds=settings.throughput_s
        )
    except InputError as error:
        return None, f"no throughput of {processes} processes: {error}"
    return found, None
