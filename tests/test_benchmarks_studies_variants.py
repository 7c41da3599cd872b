"""Variants of the network under equal training, in miniature."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from linear_hand import save_onnx
from small_hand import CONFIG
from typer.testing import CliRunner

from benchmarks.measure.speed import SpeedSettings
from benchmarks.studies import variant_times, variants
from benchmarks.studies.variant_rows import Errors, Row, make_row, table
from benchmarks.studies.variant_times import Times, latencies
from benchmarks.studies.variants import HEADS, Study, app, graphs_of, study
from cliphand.checkpoint import load_checkpoint
from cliphand.config import ModelConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology, save_hand
from cliphand.model.hand_model import HandModel
from cliphand.training.distil import Distil
from cliphand.training.from_scratch import FROM_SCRATCH
from cliphand.training.loop import Run
from engines.runtimes.ort import OrtEngine

NARROW = dataclasses.replace(CONFIG, lixel_channels=CONFIG.lixel_channels // 2)
SPEED = SpeedSettings(warmup_calls=1, calls=3, seconds=5)


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path], hand_topology: HandTopology) -> Path:
    root = freihand_folder(n_labels=8)
    save_hand(hand_topology, root / "hand.npz")
    return root


@pytest.fixture(scope="module")
def shared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    train = dataclasses.replace(FROM_SCRATCH, epochs=1, batch=2, validation_fraction=0.25, accelerator="cpu")
    return Study(data=data, out=tmp_path_factory.mktemp("variants"), train=train, speed=SPEED, threads=1)


@pytest.fixture(scope="module", autouse=True)
def published() -> Iterator[None]:
    """The published form of a small network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "PUBLISHED", CONFIG)
        yield


@pytest.fixture(scope="module")
def rows(shared: Study, published: None) -> list[Row]:
    return study({"whole": CONFIG, "narrow": NARROW}, ["narrow"], shared)


def test_the_published_form_is_timed_beside_each_int8_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = {"fp32": save_onnx(tmp_path / "a.onnx"), "int8": save_onnx(tmp_path / "b.onnx")}
    lengths_ms = {"published": 8.0, "a, ort fp32": 4.0, "a, openvino fp32": 3.0, "a, openvino int8": 2.0}

    def pretend(calls: Mapping[str, Callable[[], object]], _: SpeedSettings) -> dict[str, np.ndarray]:
        for call in calls.values():
            call()
        return {name: np.full(5, lengths_ms[name]) for name in calls}

    monkeypatch.setattr(variant_times, "time_interleaved", pretend)
    with OrtEngine(graph["fp32"]) as engine:
        assert latencies({"a": graph}, published=engine, threads=1, settings=SPEED) == {"a": Times(4, 3, 2, 4)}


def test_only_trained_variants_have_an_accuracy(rows: list[Row]) -> None:
    whole, narrow = rows
    assert (whole.pa_pjpe_mm, whole.lixel_pa_pjpe_mm, whole.int8_pa_pjpe_mm, whole.change_mm) == (None,) * 4
    assert narrow.pa_pjpe_mm is not None
    assert 0 < narrow.pa_pjpe_mm < 200
    assert narrow.lixel_pa_pjpe_mm != narrow.pa_pjpe_mm
    assert narrow.int8_pa_pjpe_mm != narrow.pa_pjpe_mm
    assert narrow.int8_pa_pjpe_mm == pytest.approx(narrow.pa_pjpe_mm, abs=5)
    assert (narrow.change_mm, narrow.change_interval_mm) == (0, (0, 0))


def test_the_change_is_from_the_first_trained_variant_image_by_image() -> None:
    errors = np.array([3.0, 5.0, 9.0, 7.0])
    trained = {"a": Errors(errors, 1.0, 2.0), "b": Errors(np.array([4.0, 6.0, 11.0, 7.0]), 3.0, 4.0)}
    row = make_row("b", (10, 0.5), Times(1.0, 2.0, 3.0, 40.0), trained=trained)
    assert (row.pa_pjpe_mm, row.change_mm, row.lixel_pa_pjpe_mm, row.int8_pa_pjpe_mm) == (7, 1, 3, 4)
    low, high = row.change_interval_mm or (0, 0)
    assert 0 <= low < 1 < high <= 2
    assert (row.parameters, row.gflop) == (10, 0.5)
    assert (row.ort_fp32_ms, row.openvino_fp32_ms, row.openvino_int8_ms, row.times_faster) == (1, 2, 3, 40)


def test_with_a_teacher_every_trained_variant_is_its_student(
    shared: Study, rows: list[Row], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    teacher = load_checkpoint(shared.out / "narrow" / "run" / "last")
    runs: list[Run] = []
    monkeypatch.setattr(variants, "train_hand", runs.append)
    for taught in (None, teacher):
        with pytest.raises(InputError):  # nothing was trained
            study({"narrow": NARROW}, ["narrow"], dataclasses.replace(shared, out=tmp_path, teacher=taught))
    plain, student = (run.recipe for run in runs)
    assert not isinstance(plain, Distil)
    assert isinstance(student, Distil)
    assert student.teacher.path == teacher.path


def test_every_variant_is_timed_in_every_engine_and_its_cost_is_its_own(rows: list[Row]) -> None:
    whole, narrow = rows
    for row in rows:
        assert min(row.ort_fp32_ms, row.openvino_fp32_ms, row.openvino_int8_ms) > 0
    assert narrow.parameters < whole.parameters
    assert narrow.gflop < whole.gflop


def test_what_is_there_is_not_made_again(shared: Study, rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    for name in ("train_hand", "export_graph", "calibrate"):
        monkeypatch.setattr(variants, name, refuse)
    again = study({"narrow": NARROW}, ["narrow"], shared)
    assert again[0].pa_pjpe_mm == rows[1].pa_pjpe_mm


def test_graphs_of_random_weights_are_not_taken_for_a_trained_variants(
    shared: Study, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[HandModel] = []
    monkeypatch.setattr(variants, "write_graphs", lambda model, *_: made.append(model))
    checkpoint = load_checkpoint(shared.out / "narrow" / "run" / "last")
    for weights in (None, None, checkpoint, checkpoint, None):
        graphs_of(weights, NARROW, tmp_path, shared)
    assert len(made) == 3
    assert made[1] is checkpoint.model


def test_a_student_is_not_taken_from_a_run_without_its_teacher(shared: Study, rows: list[Row]) -> None:
    taught = dataclasses.replace(shared, teacher=load_checkpoint(shared.out / "narrow" / "run" / "last"))
    with pytest.raises(InputError, match="by another teacher"):
        study({"narrow": NARROW}, ["narrow"], taught)


def test_a_run_of_other_settings_is_not_taken_for_this_one(shared: Study, rows: list[Row]) -> None:
    other = dataclasses.replace(shared, train=dataclasses.replace(shared.train, learning_rate=0.5))
    with pytest.raises(InputError, match="other settings"):
        study({"narrow": NARROW}, ["narrow"], other)


def test_each_head_changes_the_paper_in_what_its_name_says() -> None:
    paper = ModelConfig()
    for name, changes in HEADS.items():
        changed = dataclasses.replace(paper, **changes)  # type: ignore[arg-type]
        assert (changed == paper) == (name == "paper")


def test_a_missing_figure_is_a_dash(rows: list[Row]) -> None:
    cells = [list(column.cells) for column in table(rows, "variants").columns]
    assert cells[0] == ["whole", "narrow"]
    assert cells[3][0] == "-"
    assert cells[3][1] == f"{rows[1].pa_pjpe_mm:.2f}"
    assert cells[4] == ["-", "+0.00 (+0.00 to +0.00)"]


def test_the_command_prints_a_table_and_one_json_object(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "BASE", CONFIG)
    monkeypatch.setattr(variants, "BACKBONES", (CONFIG.backbone,))
    result = CliRunner().invoke(
        app,
        ["backbones", "--data", str(data), "--out", str(tmp_path), "--calls", "2", "--threads", "1"],
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert report == json.loads((tmp_path / "backbones.json").read_text())
    assert report["rows"][0]["variant"] == CONFIG.backbone
    assert report["rows"][0]["pa_pjpe_mm"] is None


@pytest.mark.parametrize(("arguments", "said"), [(["tails"], "heads, backbones"), (["heads", "--train", "x"], "paper")])
def test_unknown_names_are_refused_with_those_there_are(
    data: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    result = CliRunner().invoke(app, [*arguments, "--data", str(data), "--out", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
