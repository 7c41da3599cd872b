"""The check on a machine without a GPU: the CPU's rows are real, every other one says why it is not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from linear_hand import SIDE, LinearHand, linear_checkpoint, make_manifest, save_export, save_onnx
from torch import nn
from typer.testing import CliRunner

import benchmarks.gpu.check as module
from benchmarks.contestants.pytorch_variants import published
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.candidates import Candidate, Subject, TorchEngine
from benchmarks.gpu.check import run_check, table_of
from benchmarks.gpu.peak import matmul_tflops, training_images_per_s
from benchmarks.gpu.rows import CPU_BATCHES, GPU_BATCHES, EngineRow, distance_mm, measure
from benchmarks.gpu.subject import exported_subject
from benchmarks.measure.speed import SpeedSettings
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from engines.artefact.manifest import write_manifest
from engines.base import HandOutput
from engines.runtimes.ort import OrtEngine

QUICK = SpeedSettings(warmup_calls=1, calls=3, seconds=1.0)
NO_GPU = "there is no NVIDIA GPU"


@pytest.fixture
def subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Subject:
    """A tiny export on a machine without a GPU and without a compiler."""
    save_onnx(tmp_path / "model.onnx")
    write_manifest(make_manifest(tmp_path, {"model.onnx": "fp32"}), tmp_path)

    def no_compiler(*arguments: object, **options: object) -> None:
        raise InputError("there is no compiler.")

    monkeypatch.setattr("benchmarks.gpu.candidates.build_package", no_compiler)
    for place in ("benchmarks.gpu.candidates.deploy_model", "benchmarks.contestants.pytorch_variants.deploy_model"):
        monkeypatch.setattr(place, lambda model: model.eval())
    for place in ("benchmarks.gpu.rows.find_gpu", "benchmarks.gpu.check.find_gpu"):
        monkeypatch.setattr(place, lambda: NO_GPU)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    graphs = {"fp32": tmp_path / "model.onnx"}
    return Subject(folder=tmp_path, model=LinearHand().eval(), input_size=SIDE, gflop=0.5, graphs=graphs)


@pytest.fixture
def report(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr("benchmarks.gpu.check.matmul_tflops", lambda device, precision: 2.0)
    monkeypatch.setattr("benchmarks.gpu.check._train", lambda subject, device, batch: 7.0)
    return run_check(subject, tmp_path / "out", Budget(minutes=5), settings=QUICK)


def rows_of(report: dict[str, object], **values: object) -> list[dict[str, object]]:
    return [row for row in report["rows"] if all(row[name] == value for name, value in values.items())]


def test_every_row_of_the_gpu_says_why_it_is_skipped(report: dict[str, object]) -> None:
    rows = rows_of(report, device="cuda")
    assert {row["engine"] for row in rows} == {
        *("pytorch", "pytorch, as published", "torch.compile", "inductor", "onnxruntime-cuda", "tensorrt"),
        "tensorrt-rtx",
    }
    assert {row["batch"] for row in rows} == set(GPU_BATCHES)
    assert all(row["skipped"] and row["latency_ms_p50"] is None for row in rows)
    assert {row["skipped"] for row in rows} == {f"{NO_GPU}."}


@pytest.mark.parametrize("engine", ["pytorch", "onnxruntime"])
def test_the_cpus_rows_are_real(report: dict[str, object], engine: str) -> None:
    rows = rows_of(report, device="cpu", engine=engine)
    assert [row["batch"] for row in rows] == list(CPU_BATCHES)
    for row in rows:
        assert row["skipped"] is None
        assert 0 < row["latency_ms_p50"] <= row["latency_ms_p90"] <= row["latency_ms_p99"]
        assert row["images_per_s"] == pytest.approx(row["batch"] * 1000 / row["latency_ms_p50"])
        assert row["share_of_peak"] == pytest.approx(row["images_per_s"] * 0.5 / 1000 / 2.0)
        assert row["parity_mm"] < 0.01


def test_findings_are_figures_on_the_cpu_and_reasons_on_the_gpu(report: dict[str, object]) -> None:
    values = {finding["name"]: finding["value"] for finding in report["findings"]}
    reasons = {finding["name"]: finding["skipped"] for finding in report["findings"]}
    assert values["matrix product, cpu, fp32"] == 2.0
    assert values["training, cpu, fp32, batch 2"] == 7.0
    assert {name for name, reason in reasons.items() if reason == NO_GPU} == {
        "pytest -m gpu",
        "matrix product, cuda, fp32",
        "matrix product, cuda, fp16",
        "training, cuda, bf16, batch 48",
    }


def test_the_report_is_written_as_it_is_returned(report: dict[str, object], tmp_path: Path) -> None:
    written = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert written == json.loads(json.dumps(report))
    assert {"machine", "gpu", "versions", "commit", "findings", "rows"} <= set(written)


def test_the_table_gives_one_line_to_batches_skipped_for_one_reason(report: dict[str, object]) -> None:
    table = table_of(report)
    batches = list(table.columns[3].cells)
    assert batches.count("1, 8, 64, 256") == len(
        {(r["engine"], r["precision"]) for r in rows_of(report, device="cuda")}
    )
    assert batches.count("8") == 2


def test_when_the_time_is_up_nothing_more_begins(subject: Subject, tmp_path: Path) -> None:
    clock = iter([0.0, *[1e9] * 1000])
    budget = Budget(minutes=1, clock=lambda: next(clock))
    report = run_check(subject, tmp_path / "out", budget, settings=QUICK)
    assert all("minutes are up" in row["skipped"] for row in rows_of(report, device="cpu"))
    assert all(row["skipped"] == f"{NO_GPU}." for row in rows_of(report, device="cuda"))
    assert all("minutes are up" in f["skipped"] for f in report["findings"] if "cpu" in f["name"])


def test_an_engine_that_fails_in_the_middle_keeps_its_earlier_rows(subject: Subject) -> None:
    class OutOfMemory(OrtEngine):
        def __call__(self, images: np.ndarray) -> HandOutput:
            if len(images) > 2:
                raise RuntimeError("CUDA out of\nmemory")
            return super().__call__(images)

    candidate = Candidate("ort", "cpu", "fp32", lambda: OutOfMemory(subject.graphs["fp32"]))
    rows = measure(candidate, subject, Budget(5), peaks_tflops={}, settings=QUICK)
    assert [row.skipped for row in rows] == [None, "CUDA out of memory"]
    assert rows[0].share_of_peak is None


def test_parity_is_the_largest_distance_in_millimetres(subject: Subject) -> None:
    class Moved(OrtEngine):
        def __call__(self, images: np.ndarray) -> HandOutput:
            output = super().__call__(images)
            output.verts_uvd[1, 700, 0] += 0.01 if self.precision == "moved" else np.nan
            return output

    graph = subject.graphs["fp32"]
    # A share of 0.01 of the crop's side at 0.7 m, seen with a focal length of 1.75 sides, is 4 mm at the root's depth.
    assert distance_mm(Moved(graph, precision="moved"), subject) == pytest.approx(4.0, abs=0.5)
    assert distance_mm(Moved(graph, precision="lost"), subject) == math.inf


def test_pytorch_on_a_device_gives_what_the_model_gives(subject: Subject) -> None:
    images = np.random.default_rng(0).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
    with TorchEngine(subject.model, name="pytorch", device="cpu", precision="fp32", input_size=SIDE) as engine:
        output = engine(images)
    joints, verts = subject.model(torch.from_numpy(images))
    np.testing.assert_array_equal(output.joints_uvd, joints.numpy())
    np.testing.assert_array_equal(output.verts_uvd, verts.numpy())


def test_the_form_as_published_has_the_models_weights(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.contestants.pytorch_variants.NaiveHand", lambda model: nn.Sequential(model))
    assert published(subject.model)[0] is subject.model


def test_an_export_is_copied_before_anything_is_written_into_it(
    tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = save_export(tmp_path / "export", hand_topology)
    before = sorted(path.name for path in export.iterdir())
    monkeypatch.setattr("benchmarks.gpu.subject.load_checkpoint", lambda path: linear_checkpoint(hand_topology))
    monkeypatch.setattr("benchmarks.gpu.subject.deploy_model", lambda model: model)
    found = exported_subject(export, tmp_path / "copy")
    assert found.folder == tmp_path / "copy"
    assert found.graphs == {"fp32": tmp_path / "copy" / "model.onnx"}
    assert sorted(path.name for path in found.folder.iterdir()) == before
    assert found.gflop > 0


def test_a_matrix_product_and_a_training_step_have_a_speed() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features = self.layer(images)
            return features, features * 2

    model = Small()
    before = model.layer.weight.detach().clone()
    assert 1e-4 < matmul_tflops("cpu", "fp32") < 1e3
    assert training_images_per_s(model, device="cpu", batch=2, input_size=SIDE) > 0
    assert not torch.equal(model.layer.weight, before)


def test_the_command_prints_the_table_and_the_object(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = EngineRow("pytorch", "cpu", "fp32", 1, latency_ms_p50=2.0)
    monkeypatch.setattr(module, "untrained_subject", lambda out, **options: subject)
    monkeypatch.setattr(module, "candidates", lambda subject: [None])
    monkeypatch.setattr(module, "measure", lambda *arguments, **options: [row])
    monkeypatch.setattr(module, "_train", lambda subject, device, batch: 1.0)
    app = typer.Typer()
    app.command()(module.main)
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "out"), "--minutes", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    value = json.loads(result.stdout.splitlines()[-1])
    assert [found["engine"] for found in value["rows"]] == ["pytorch"]
    assert "skipped: there is no NVIDIA GPU" in result.stdout
