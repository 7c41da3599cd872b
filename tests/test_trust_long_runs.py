"""Engines that run for days: memory, threads and files stay as they were, and callers do not disturb one another."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import endurance
import numpy as np
import pytest
import torch
from linear_hand import SIDE, LinearHand, save_onnx

from export.folder.inductor_package import build_package

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
CALLERS = 8
SHORT = {"calls": 4000, "opens": 24}
LONG = {"calls": 100_000, "opens": 500}


def save_package(path: Path) -> None:
    build_package(LinearHand().eval(), path, input_size=SIDE)


SAVE: dict[str, Callable[[Path], object]] = {
    "onnxruntime": save_onnx,
    "openvino": save_onnx,
    "pytorch": lambda path: torch.save(LinearHand().state_dict(), path),
    "inductor": save_package,
}
SUFFIX = {"pytorch": ".pt", "inductor": ".pt2"}


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an engine's name to a file that it opens."""
    folder = tmp_path_factory.mktemp("models")

    def find(engine: str) -> Path:
        if engine in ("onnxruntime", "openvino"):
            pytest.importorskip(engine, reason="not installed")
        path = (folder / engine).with_suffix(SUFFIX.get(engine, ".onnx"))
        if not path.exists():
            SAVE[engine](path)
        return path

    return find


def growth(what: str, engine: str, path: Path, times: int) -> float:
    """Share of its memory by which a fresh process grew; threads and open files must be as they were."""
    command = [sys.executable, endurance.__file__, what, engine, str(path), str(times)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    held = json.loads(result.stdout.splitlines()[-1])
    assert len({(row["threads"], row["files"]) for row in held}) == 1, held
    # A leak grows in every stretch: the middle one, for all of them, leaves out what an allocator takes once.
    grown = statistics.median(after["bytes"] - before["bytes"] for before, after in pairwise(held))
    return endurance.STRETCHES * grown / held[0]["bytes"]


def check_stays(what: str, engine: str, path: Path, times: int) -> None:
    """Memory grows by under 1 %. A short run that did not stay so gets a second: a leak shows in every process."""
    found = [growth(what, engine, path, times)]
    if found[0] >= 0.01 and times < LONG[what]:
        found.append(growth(what, engine, path, times))
    assert min(found) < 0.01, found


def short_and_long(what: str, engines: tuple[str, ...], only_long: tuple[str, ...]) -> list[object]:
    """Parameters: every engine in the long form, some in the short one."""
    return [
        *((engine, SHORT[what]) for engine in engines),
        *(pytest.param(engine, LONG[what], marks=pytest.mark.slow) for engine in (*engines, *only_long)),
    ]


# PyTorch takes seconds to import and AOTInductor longer to compile, so they have the long form alone.
@pytest.mark.parametrize(
    ("engine", "times"), short_and_long("calls", ("onnxruntime", "openvino"), ("pytorch", "inductor"))
)
def test_calls_leave_memory_threads_and_files_as_they_were(
    file_of: Callable[[str], Path], engine: str, times: int
) -> None:
    check_stays("calls", engine, file_of(engine), times)


# AOTInductor is left out: GCC marks inline variables of its packages as unique, so that glibc never unloads the library
# of one that was opened; each opening keeps its code mapped until the process ends.
@pytest.mark.parametrize(("engine", "times"), short_and_long("opens", ("onnxruntime", "openvino"), ("pytorch",)))
def test_engines_opened_and_closed_leave_nothing_behind(
    file_of: Callable[[str], Path], engine: str, times: int
) -> None:
    check_stays("opens", engine, file_of(engine), times)


@pytest.mark.parametrize(
    ("engine", "rounds"),
    [
        *((engine, 6) for engine in ("onnxruntime", "openvino", "pytorch")),
        *(pytest.param(engine, 1000, marks=pytest.mark.slow) for engine in endurance.OPEN),
    ],
)
def test_callers_that_share_an_engine_get_what_one_caller_gets(
    file_of: Callable[[str], Path], engine: str, rounds: int
) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(1 + index % 5, 3, SIDE, SIDE)).astype(np.float32) for index in range(4 * CALLERS)]
    with endurance.OPEN[engine](file_of(engine)) as opened, ThreadPoolExecutor(CALLERS) as pool:
        alone = [opened(batch) for batch in batches]
        for output in pool.map(lambda index: (index, opened(batches[index])), list(range(len(batches))) * rounds):
            index, found = output
            np.testing.assert_array_equal(found.joints_uvd, alone[index].joints_uvd)
            np.testing.assert_array_equal(found.verts_uvd, alone[index].verts_uvd)
