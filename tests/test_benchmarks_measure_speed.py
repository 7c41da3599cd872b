from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, save_onnx

from benchmarks.measure.interleaved import SpeedSettings, time_interleaved
from benchmarks.measure.photographs import Photographs
from benchmarks.measure.speed import SAMPLES_KEPT, measure_speed, summarise
from cliphand.config import CropConfig
from cliphand.data.freihand import open_freihand
from cliphand.data.photograph import read_image
from cliphand.errors import InputError
from engines.runtimes.ort import OrtEngine


class Clock:
    """Time that passes only in the calls that it makes, and by `ns_per_look` whenever it is read."""

    def __init__(self, *, ns_per_look: int = 0) -> None:
        self.now_ns = 0
        self.ns_per_look = ns_per_look

    def __call__(self) -> int:
        self.now_ns += self.ns_per_look
        return self.now_ns

    def taking(self, name: str, ms: float, log: list[str]) -> Callable[[], None]:
        def call() -> None:
            log.append(name)
            self.now_ns += round(ms * 1e6)

        return call


def test_percentiles_and_fps_of_known_times() -> None:
    latency = summarise(np.arange(1, 102, dtype=float), batch=4)
    assert (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.calls) == (51, 91, 100, 101)
    assert latency.fps == pytest.approx(4 * 1000 / 51)


def test_single_calls_are_kept_in_their_order_and_thinned_evenly_where_there_are_many() -> None:
    few = np.array([3.00004, 1.0, 2.0])
    assert summarise(few, batch=1).samples_ms == (3.0, 1.0, 2.0)
    many = summarise(np.arange(5000.0), batch=1).samples_ms
    assert len(many) == SAMPLES_KEPT
    assert (many[0], many[-1]) == (0, 4999)
    assert set(np.diff(many)) <= {25, 26}


def test_each_call_is_timed_by_itself() -> None:
    clock, log = Clock(), []
    calls = {"fast": clock.taking("fast", 2, log), "slow": clock.taking("slow", 30, log)}
    times = time_interleaved(calls, SpeedSettings(warmup_calls=1, calls=10, seconds=60), clock_ns=clock)
    assert times["fast"].tolist() == [2.0] * 10
    assert times["slow"].tolist() == [30.0] * 10


def test_engines_take_turns_and_each_turn_starts_with_an_untimed_call() -> None:
    clock, log = Clock(), []
    calls = {"a": clock.taking("a", 1, log), "b": clock.taking("b", 1, log)}
    times = time_interleaved(
        calls, SpeedSettings(warmup_calls=2, calls=5, seconds=60, calls_per_turn=3), clock_ns=clock
    )
    assert "".join(log) == "aabb" + "aaaabbbb" + "aaabbb"
    assert {name: len(values) for name, values in times.items()} == {"a": 5, "b": 5}


def test_drift_of_the_machine_hits_all_alike() -> None:
    clock = Clock()

    def drifting() -> None:
        clock.now_ns += round(1e6 * (1 + clock.now_ns / 1e9))  # ever slower

    times = time_interleaved(
        {"a": drifting, "b": drifting}, SpeedSettings(warmup_calls=0, calls=200, seconds=60), clock_ns=clock
    )
    medians = {name: np.median(values) for name, values in times.items()}
    assert times["a"][-1] > 1.5 * times["a"][0]
    assert medians["b"] == pytest.approx(medians["a"], rel=0.02)


def test_the_time_limit_ends_a_measurement_after_whole_turns() -> None:
    clock, log = Clock(), []
    calls = {"a": clock.taking("a", 100, log), "b": clock.taking("b", 100, log)}
    times = time_interleaved(
        calls, SpeedSettings(warmup_calls=0, calls=1000, seconds=0.6, calls_per_turn=2), clock_ns=clock
    )
    # A turn of both takes 0.6 s; the limit of 2 x 0.6 s is reached after two.
    assert [len(values) for values in times.values()] == [4, 4]


def test_one_turn_is_timed_however_short_the_limit() -> None:
    clock, log = Clock(ns_per_look=100), []
    times = time_interleaved(
        {"a": clock.taking("a", 1000, log)}, SpeedSettings(calls=8, seconds=1e-9, calls_per_turn=4), clock_ns=clock
    )
    assert len(times["a"]) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"calls": 0}, r"^calls is 0"),
        ({"warmup_calls": -1}, "warmup_calls is -1; it must be at least 0"),
        ({"seconds": 0.0}, "seconds is 0.0; it must be more than 0"),
        ({"calls_per_turn": 0}, "calls_per_turn is 0"),
    ],
)
def test_settings_that_time_nothing_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SpeedSettings(**options)


def test_engines_are_timed_at_the_batch_asked_for_and_end_to_end_reads_every_file(
    tmp_path: Path, freihand_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_freihand(freihand_folder(n_labels=2), "evaluation")
    photographs = Photographs(data=data, crop=CropConfig(), input_size=SIDE, root="truth")
    batches: list[int] = []
    read: list[str] = []

    def watched_read(path: Path) -> np.ndarray:
        read.append(path.name)
        return read_image(path)

    monkeypatch.setattr("engines.hands.prepare.read_image", watched_read)

    class Watched(OrtEngine):
        def __call__(self, images: np.ndarray) -> object:
            batches.append(len(images))
            return super().__call__(images)

    settings = SpeedSettings(warmup_calls=0, calls=3, seconds=600)
    with Watched(save_onnx(tmp_path / "model.onnx"), threads=1) as engine:
        speed = measure_speed({"ort": engine}, photographs, 5, settings=settings)["ort"]
    assert set(batches) == {5}  # more than there are photographs: they come round again
    assert (speed.model.batch, speed.model.calls, speed.end_to_end.calls) == (5, 3, 3)
    # Once before the timing; then three turns, each with a stream of four batches and one batch by itself.
    names = ["00000000.jpg", "00000001.jpg", "00000000.jpg", "00000001.jpg", "00000000.jpg"]
    assert read == names * (1 + 3 * (4 + 1))
    assert (len(speed.model.samples_ms), len(speed.end_to_end.samples_ms)) == (3, 3)
    assert speed.bare is not None
    assert speed.overhead is not None
    assert 0 < speed.overhead.low <= speed.overhead.median <= speed.overhead.high
    assert speed.pipelined_ms_p50 > 0
