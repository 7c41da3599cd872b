"""What is measured of an engine by itself: a new process, calls side by side, energy."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, save_onnx

from benchmarks.alone import AloneSettings, measure_alone
from benchmarks.cold_start import cold_start
from benchmarks.energy import energy_of
from benchmarks.entrants import Entrant
from benchmarks.throughput import open_parallel, throughput
from engines.ort import OrtEngine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_onnx(tmp_path_factory.mktemp("alone") / "model.onnx")


def images() -> np.ndarray:
    return np.zeros((1, 3, SIDE, SIDE), np.float32)


def test_a_cold_start_counts_the_whole_process_and_needs_no_torch(model: Path) -> None:
    found = cold_start(model, "onnxruntime", threads=1, repeats=1)
    assert not isinstance(found, str), found
    assert 0 < found.open_s + found.first_call_ms / 1000 < found.start_s
    assert found.steady_ms < found.first_call_ms
    assert found.peak_mb is not None
    assert 20 < found.peak_mb < 2000
    assert found.torch is False


def test_an_engine_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    found = cold_start(tmp_path / "model.onnx", "onnxruntime", threads=None, repeats=1)
    assert isinstance(found, str)
    assert "cannot be run by ONNX Runtime" in found


def test_calls_run_side_by_side_and_every_image_counts() -> None:
    calls, together, most, lock = [0], [0], [0], threading.Lock()
    gate = threading.Event()

    class Slow(OrtEngine):
        def __init__(self) -> None:
            self.input_size = SIDE

        def __call__(self, given: np.ndarray) -> object:
            with lock:
                calls[0] += 1
                together[0] += 1
                most[0] = max(most[0], together[0])
            gate.wait(0.01)
            with lock:
                together[0] -= 1
            return given

    start = time.perf_counter()
    found = throughput(Slow(), np.zeros((4, 3, SIDE, SIDE), np.float32), workers=3, seconds=0.3)
    elapsed = time.perf_counter() - start
    assert most[0] == 3
    # Four images a call; three calls were not timed, and the time here is longer than what was timed.
    least = 4 * (calls[0] - 3) / elapsed
    assert least <= found.images_per_s < 2.5 * least
    assert found.workers == 3


@pytest.mark.parametrize("runner", ["onnxruntime", "openvino"])
def test_engines_open_for_several_callers(model: Path, runner: str) -> None:
    pytest.importorskip(runner, reason="not installed")
    with open_parallel(model, runner, workers=2, precision="fp32") as engine:
        assert throughput(engine, images(), workers=2, seconds=0.05).images_per_s > 0


def zone(powercap: Path, energy_uj: str) -> Path:
    folder = powercap / "intel-rapl:0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(energy_uj)
    (folder / "max_energy_range_uj").write_text("1000000")
    return folder


def test_energy_is_the_counters_difference_over_the_calls(tmp_path: Path) -> None:
    folder = zone(tmp_path, "100000")

    def call() -> None:
        (folder / "energy_uj").write_text("600000")

    assert energy_of(call, seconds=1e-9, powercap=tmp_path).joules == pytest.approx(0.5)


def test_a_counter_that_started_again_is_understood(tmp_path: Path) -> None:
    folder = zone(tmp_path, "900000")

    def call() -> None:
        (folder / "energy_uj").write_text("200000")

    assert energy_of(call, seconds=1e-9, powercap=tmp_path).joules == pytest.approx(0.3)


def test_energy_that_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    assert "no RAPL zone" in str(energy_of(lambda: None, seconds=1e-9, powercap=tmp_path).reason)
    zone(tmp_path, "broken")
    found = energy_of(lambda: None, seconds=1e-9, powercap=tmp_path)
    assert found.joules is None
    assert "RAPL cannot be read" in str(found.reason)


def test_what_is_no_file_says_why_it_has_no_cold_start(model: Path) -> None:
    with OrtEngine(model, threads=1) as engine:
        entrants = {"peer": Entrant(engine, artefact="", size_mb=0.0, kind="peer")}
        found = measure_alone(entrants, images(), AloneSettings(1, 0.1, 0.0), lambda done: None)["peer"]
    assert (found.cold_start, found.throughput, found.energy) == (None, None, None)
    assert len(found.notes) == 2
    assert all("it is no file" in note for note in found.notes)
