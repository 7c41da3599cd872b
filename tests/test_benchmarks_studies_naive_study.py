"""The published form, the measure of memory, and the study that compares the two forms."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_hand import CONFIG, SIDE, small_hand

from benchmarks.bench.table import plain_text
from benchmarks.contestants.published import NaiveHand, gaussian_volume
from benchmarks.measure import peak_memory
from benchmarks.measure.peak_memory import peak_bytes
from benchmarks.measure.speed import SpeedSettings
from benchmarks.studies import naive_study
from benchmarks.studies.naive_study import Row, study, study_table
from cliphand.model.heatmap import SeparableHeatmapConv
from export.graph.deploy_model import example_images

QUICK = SpeedSettings(warmup_calls=1, calls=2, seconds=30, calls_per_turn=1)
MIB = 2**20


def test_the_published_form_computes_what_the_model_computes() -> None:
    model, images = small_hand(), example_images(3, SIDE, seed=2)
    with torch.inference_mode():
        for ours, theirs in zip(NaiveHand(model)(images), model(images), strict=True):
            assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def test_the_volume_has_one_gaussian_for_each_joint() -> None:
    conv = SeparableHeatmapConv(CONFIG, 4)
    joints = torch.tensor([0.25, 0.5, 0.0]).expand(1, 21, 3)
    volume = gaussian_volume(conv, joints)
    side, bins = SIDE // 4, CONFIG.depth_bins
    assert volume.shape == (1, 21, bins, side, side)
    z, y, x = np.unravel_index(int(volume[0, 7].argmax()), (bins, side, side))
    assert (x, y, z) == (side // 4, side // 2, bins // 2)
    assert volume[0, 7, z, y, x] == 1
    one_off = np.exp(-0.5 / CONFIG.heatmap_sigma**2)
    for neighbour in (volume[0, 7, z + 1, y, x], volume[0, 7, z, y + 1, x], volume[0, 7, z, y, x + 1]):
        assert float(neighbour) == pytest.approx(one_off, rel=1e-6)


@pytest.mark.skipif(not peak_memory.RESET.exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("size_mib", [40, 120])
def test_peak_is_what_a_call_holds_at_most_not_what_it_touches_in_all(size_mib: int) -> None:
    def call() -> int:
        total = 0
        for _ in range(3):  # one after the other: the peak is one array
            total += int(np.ones(size_mib * MIB, np.uint8)[-1])
        return total

    peak = peak_bytes(call)
    assert peak is not None
    assert peak / MIB == pytest.approx(size_mib, rel=0.1)


@pytest.mark.skipif(not peak_memory.RESET.exists(), reason="needs Linux's /proc")
def test_what_the_process_held_before_is_no_part_of_the_peak() -> None:
    held = np.ones(100 * MIB, np.uint8)
    peak = peak_bytes(lambda: int(np.ones(30 * MIB, np.uint8)[-1]))
    assert peak is not None
    assert peak / MIB == pytest.approx(30, rel=0.15)
    assert held[-1] == 1


def test_without_the_kernels_figures_there_is_no_peak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak_memory, "STATUS", tmp_path / "absent")
    assert peak_bytes(lambda: None) is None


def test_a_study_has_a_row_for_each_engine_and_batch() -> None:
    rows = study(small_hand(), SIDE, batches=(1, 2), settings=QUICK, threads=1)
    assert [(row.engine, row.batch) for row in rows] == [
        ("pytorch", 1),
        ("onnxruntime", 1),
        ("pytorch", 2),
        ("onnxruntime", 2),
    ]
    for row in rows:
        assert row.naive_gflop > row.rewritten_gflop > 0
        assert 0 < row.max_relative_difference < 1e-5
        assert min(row.naive_ms, row.rewritten_ms, row.speed_up) > 0


def test_speed_up_is_the_median_of_paired_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down tenfold between two turns leaves each turn's ratio alone."""
    times = {"naive": np.array([2.0, 20.0, 3.0]), "rewritten": np.array([1.0, 10.0, 1.0])}
    monkeypatch.setattr(naive_study, "time_interleaved", lambda *_: times)
    monkeypatch.setattr(naive_study, "peak_bytes", lambda call: 300 if call() is None else None)
    row = naive_study._row(
        "pytorch",
        np.zeros((4, 3, 8, 8), np.float32),
        (np.ones(2),),
        {"naive": 2.0, "rewritten": 1.0},
        timed={"naive": lambda _: (np.ones(2),), "rewritten": lambda _: (np.array([1.0, 1.5]),)},
        measured={"naive": lambda _: None, "rewritten": lambda _: None},
        settings=QUICK,
    )
    assert (row.naive_ms, row.rewritten_ms, row.speed_up, row.batch) == (3.0, 1.0, 2.0, 4)
    assert (row.naive_peak_mb, row.peak_ratio, row.max_relative_difference) == (3e-4, 1.0, 0.5)


def test_the_table_shows_every_row_and_dashes_for_what_is_unknown() -> None:
    row = Row("onnxruntime", 8, 40.0, 30.0, 1.4, None, None, None, 15.6, 13.5, 4e-7)
    text = plain_text(study_table([row, dataclasses.replace(row, batch=16, peak_ratio=2.25)]))
    for word in ("onnxruntime", "1.40", "15.60", "4.0e-07", "2.25"):
        assert word in text
    assert " - " in text


def test_a_checkpoint_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.studies.naive_study", "--checkpoint", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "is not a checkpoint" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_report_ends_in_one_json_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row("pytorch", 1, 2.0, 1.0, 2.0, 3.0, 1.0, 3.0, 15.6, 13.5, 4e-7)
    monkeypatch.setattr(naive_study, "study", lambda *_, **__: [row])
    monkeypatch.setattr(naive_study, "_random_model", lambda: (small_hand(), CONFIG))
    naive_study.main(batch=[1], json_file=tmp_path / "study.json")
    value = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert value == json.loads((tmp_path / "study.json").read_text())
    assert value["rows"] == [dataclasses.asdict(row)]
    assert {"machine", "versions", "precision", "commit", "model"} <= value.keys()
