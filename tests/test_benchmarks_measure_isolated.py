"""What is measured of an engine by itself: a new process, calls side by side, energy."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, save_onnx

from benchmarks.contestants.exported import Contestant
from benchmarks.measure.cold_start import cold_start
from benchmarks.measure.energy import energy_of
from benchmarks.measure.isolated import IsolatedSettings, measure_isolated
from benchmarks.measure.processes import count_calls, keep_to_core, process_throughput
from benchmarks.measure.throughput import Throughput, open_parallel, throughput
from cliphand.errors import InputError
from engines.runtimes.ort import OrtEngine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_onnx(tmp_path_factory.mktemp("isolated") / "model.onnx")


def images(count: int = 1) -> np.ndarray:
    return np.zeros((count, 3, SIDE, SIDE), np.float32)


def test_a_cold_start_counts_the_whole_process_and_needs_no_torch(model: Path) -> None:
    found = cold_start(model, "onnxruntime", threads=1, repeats=1)
    assert not isinstance(found, str), found
    assert 0 < found.open_s + found.first_call_ms / 1000 < found.start_s
    assert found.steady_ms > 0
    assert found.peak_mb is not None
    assert 20 < found.peak_mb < 2000
    assert found.torch is False


def test_an_engine_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    found = cold_start(tmp_path / "model.onnx", "onnxruntime", threads=None, repeats=1)
    assert isinstance(found, str)
    assert "is not an ONNX graph" in found


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
    # Four images a call, of which three were not timed; what was timed is longer than asked for, shorter than here.
    timed = 4 * (calls[0] - 3)
    assert timed / elapsed <= found.images_per_s <= timed / 0.3
    assert found.workers == 3


@pytest.mark.parametrize("runner", ["onnxruntime", "openvino"])
def test_engines_open_for_several_callers(model: Path, runner: str) -> None:
    pytest.importorskip(runner, reason="not installed")
    with open_parallel(model, runner, workers=2, precision="fp32") as engine:
        assert throughput(engine, images(), workers=2, seconds=0.05).images_per_s > 0


@pytest.mark.parametrize("runner", ["onnxruntime", "openvino"])
def test_processes_count_what_ends_in_the_window_they_share(model: Path, runner: str) -> None:
    pytest.importorskip(runner, reason="not installed")
    found = process_throughput(model, runner, processes=2, seconds=1.0)  # each gets the processor within that
    assert found.workers == 2
    assert found.images_per_s > 0
    assert round(found.images_per_s, 6).is_integer()


def test_a_process_that_fails_is_one_sentence_and_leaves_no_other_behind(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"^[^\n]*is not an ONNX graph[^\n]*$"):
        process_throughput(tmp_path / "model.onnx", "onnxruntime", processes=2, seconds=0.1)
    with OrtEngine(save_onnx(tmp_path / "good.onnx"), threads=1) as engine:
        contestant = Contestant(engine, artefact="", size_mb=0.0, runner="onnxruntime", path=tmp_path / "model.onnx")
        settings = IsolatedSettings(throughput_s=0.05, processes=1)
        found = measure_isolated({"model": contestant}, images(), settings, lambda done: None)["model"]
    assert found.processes is None
    assert found.notes[-1].startswith("no throughput of 1 processes: ")


def test_calls_count_that_end_within_the_window_and_go_on_beyond_it() -> None:
    now, calls = [9.75], []

    def call() -> None:
        calls.append(None)
        now[0] += 0.5

    # They end at 10.25, 10.75, ..., 12.25: the window of [10.5, 12] holds those from 10.75 to 11.75.
    assert count_calls(call, 10.5, 12.0, clock=lambda: now[0]) == 3
    assert len(calls) == 5


STAND_IN = """
import os, sys, time
started = time.monotonic()
print("{ready}", flush=True)
begin, end = (float(number) for number in sys.stdin.readline().split())
assert begin > started and abs(end - begin - {seconds}) < 1e-6
print({done}, flush=True)
"""


@pytest.mark.parametrize(
    ("ready", "done", "said"),
    [
        ("ready", "7", None),
        ("ready", "0", r"no call ended within 0\.25 s"),
        ("ready", "sys.exit(3)", "code 3"),
        ("a greeting", "7", "said 'a greeting' instead of 'ready'"),
        ("ready", "'many'", "said 'many' instead of its number of calls"),
        ("ready", "-7", "said '-7' instead of its number of calls"),
    ],
)
def test_the_processes_are_told_one_window_and_their_calls_added(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ready: str, done: str, said: str | None
) -> None:
    script = tmp_path / "child.py"
    script.write_text(STAND_IN.format(ready=ready, seconds=0.25, done=done))
    real = subprocess.Popen
    monkeypatch.setattr(
        "benchmarks.measure.processes.subprocess.Popen",
        lambda command, **options: real([command[0], str(script)], **options),
    )
    if said is None:
        assert process_throughput(tmp_path, "", processes=3, seconds=0.25) == Throughput(3 * 7 / 0.25, 3)
    else:
        with pytest.raises(InputError, match=said):
            process_throughput(tmp_path, "", processes=3, seconds=0.25)


def test_what_runs_on_one_thread_is_measured_once_for_a_file_and_an_engine(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def told(path: Path, engine: str, *, processes: int, seconds: float) -> Throughput:
        asked.append((engine, processes))
        return Throughput(float(len(asked)), processes)

    monkeypatch.setattr("benchmarks.measure.isolated.process_throughput", told)
    monkeypatch.setattr("benchmarks.measure.isolated.usable_cores", lambda: 3)
    with OrtEngine(model, threads=1) as engine:
        contestants = {
            f"{runner}, {threads}": Contestant(engine, "", 0.0, runner=runner, threads=threads, path=model)
            for threads in (1, 2)
            for runner in ("onnxruntime", "pytorch")
        }
        found = measure_isolated(contestants, images(), IsolatedSettings(throughput_s=0.01), lambda done: None)
    assert asked == [("onnxruntime", 3), ("pytorch", 3)]
    assert [isolated.processes.images_per_s for isolated in found.values()] == [1, 2, 1, 2]
    assert found["onnxruntime, 1"].throughput == found["onnxruntime, 2"].throughput
    assert found["pytorch, 1"].notes == found["pytorch, 2"].notes != ()  # it opens no such file


def test_a_big_server_starts_no_more_than_eight_processes_unless_asked_to(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "benchmarks.measure.isolated.process_throughput",
        lambda path, engine, *, processes, seconds: Throughput(1.0, processes),
    )
    monkeypatch.setattr("benchmarks.measure.isolated.open_parallel", lambda *given, **more: OrtEngine(model, threads=1))
    monkeypatch.setattr("benchmarks.measure.isolated.usable_cores", lambda: 64)
    with OrtEngine(model, threads=1) as engine:
        contestants = {"model": Contestant(engine, "", 0.0, runner="onnxruntime", path=model)}
        for processes, started in ((None, 8), (9, 9)):
            settings = IsolatedSettings(throughput_s=0.01, processes=processes)
            found = measure_isolated(contestants, images(), settings, lambda done: None)["model"]
            assert found.processes == Throughput(1.0, started)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds processes to cores")
def test_each_process_keeps_to_one_core_and_they_share_them_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {4, 2})
    monkeypatch.setattr("os.sched_setaffinity", lambda process, cores: kept.append((process, cores)))
    for place in range(3):
        keep_to_core(place)
    assert kept == [(0, {2}), (0, {4}), (0, {2})]


def test_a_plan_is_not_called_side_by_side(model: Path, tmp_path: Path) -> None:
    with OrtEngine(model, threads=1) as engine:
        contestant = Contestant(engine, artefact="", size_mb=0.0, runner="tensorrt", path=tmp_path / "model.plan")
        settings = IsolatedSettings(throughput_s=0.05)
        found = measure_isolated({"plan": contestant}, images(), settings, lambda done: None)["plan"]
    assert (found.throughput, found.processes) == (None, None)
    assert found.notes == ("no throughput: a plan takes one call at a time",)


def test_less_than_nothing_cannot_be_measured() -> None:
    for wrong in ({"cold_starts": -1}, {"throughput_s": -0.1}, {"processes": -1}, {"energy_s": -2.0}):
        with pytest.raises(InputError, match="must be at least 0"):
            IsolatedSettings(**wrong)


def zone(powercap: Path, energy_uj: str, *, zone: str = "intel-rapl:0", name: str = "package-0") -> Path:
    folder = powercap / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(energy_uj)
    (folder / "max_energy_range_uj").write_text("1000000")
    return folder


def test_energy_is_the_packages_difference_over_the_images(tmp_path: Path) -> None:
    folders = [zone(tmp_path, "100000"), zone(tmp_path, "200000", zone="intel-rapl:1", name="package-1")]
    # Of these the first is a part of a package, the second holds all of them.
    parts = [
        zone(tmp_path, "0", zone="intel-rapl:0:0", name="core"),
        zone(tmp_path, "0", zone="intel-rapl:2", name="psys"),
    ]

    def call() -> None:
        for folder in (*folders, *parts):
            (folder / "energy_uj").write_text("600000")

    assert energy_of(call, seconds=1e-9, powercap=tmp_path).joules == pytest.approx(0.9)
    folders = [zone(tmp_path, "100000"), zone(tmp_path, "200000", zone="intel-rapl:1", name="package-1")]
    assert energy_of(call, seconds=1e-9, images=3, powercap=tmp_path).joules == pytest.approx(0.3)


def test_bench_reads_the_machines_counters_for_one_image(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, used = zone(tmp_path, "0"), [0]

    class Counting(OrtEngine):
        def __call__(self, given: np.ndarray) -> object:
            used[0] += 2500
            (folder / "energy_uj").write_text(str(used[0]))
            return super().__call__(given)

    monkeypatch.setattr("benchmarks.measure.energy.POWERCAP", tmp_path)
    with Counting(model, threads=1) as engine:
        contestants = {"model": Contestant(engine, artefact="", size_mb=0.0, runner="onnxruntime", path=model)}
        found = measure_isolated(contestants, images(2), IsolatedSettings(energy_s=0.05), lambda done: None)["model"]
    assert found.energy is not None
    assert found.energy.joules == pytest.approx(0.0025 / 2)


def test_a_counter_that_started_again_is_understood(tmp_path: Path) -> None:
    folder = zone(tmp_path, "900000")

    def call() -> None:
        (folder / "energy_uj").write_text("200000")

    assert energy_of(call, seconds=1e-9, powercap=tmp_path).joules == pytest.approx(0.3)


def test_energy_that_cannot_be_read_has_a_reason(tmp_path: Path) -> None:
    assert "reports none (no RAPL counter)" in str(energy_of(lambda: None, seconds=1e-9, powercap=tmp_path).reason)
    zone(tmp_path, "broken")
    found = energy_of(lambda: None, seconds=1e-9, powercap=tmp_path)
    assert found.joules is None
    assert "RAPL cannot be read" in str(found.reason)


def test_what_is_no_file_says_why_it_has_no_cold_start(model: Path) -> None:
    with OrtEngine(model, threads=1) as engine:
        contestants = {"baseline": Contestant(engine, artefact="", size_mb=0.0, kind="baseline")}
        found = measure_isolated(
            contestants, images(), IsolatedSettings(cold_starts=1, throughput_s=0.1), lambda done: None
        )["baseline"]
    assert (found.cold_start, found.throughput, found.energy) == (None, None, None)
    assert len(found.notes) == 2
    assert all("it is no file" in note for note in found.notes)
