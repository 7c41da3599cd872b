"""Plans in an export folder: measured where they run, and otherwise a line that says why not."""

import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeGpu
from linear_hand import SIDE, save_export_with_checkpoint

from benchmarks.bench.run import BenchRequest, run_bench
from benchmarks.bench.table import table_text
from benchmarks.contestants.plans import Skipped, open_plans, skipped_lines
from benchmarks.measure.interleaved import SpeedSettings
from cliphand.files import sha256_of
from cliphand.hand import HandTopology
from engines.artefact.manifest import read_manifest
from engines.host.cuda_device import Gpu
from engines.tensorrt.plan import BatchRange, BuildSettings, PlanKey, PlanRecord, write_record

L4 = Gpu("NVIDIA L4", "8.9", "13.2", "CUDA 13.3")
NO_GPU = "there is no NVIDIA GPU"
MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
PROOF = "58 of 58 convolutions and matrix products in FLOAT (of the finished engine)"
SUFFIXES = {"tensorrt": ".plan", "tensorrt-rtx": ".rtx.plan"}


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=3)


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export folder with its checkpoint, whose model is `LinearHand`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return save_export_with_checkpoint(tmp_path / "export", hand_topology, monkeypatch)


def save_plan(
    export: Path,
    *,
    flavour: str = "tensorrt",
    profile: tuple[int, int, int] = (1, 1, 4),
    graph: str = "model.onnx",
    **more: bool,
) -> Path:
    """A plan of the export's graph that the stand-in for TensorRT runs."""
    plan = export / f"model{SUFFIXES[flavour]}"
    plan.write_bytes(b"plan")
    settings = BuildSettings(profiles=(BatchRange(*profile),), **more)
    version = {"tensorrt": "11.4.0", "tensorrt-rtx": "1.7.1"}[flavour]
    key = PlanKey(flavour, "fp32", "0", sha256_of(export / "model.onnx"), version, L4, settings)
    write_record(PlanRecord(key, graph, SIDE, sha256_of(plan), build_s=1.0, findings={"proof": PROOF}), plan)
    return plan


def opened(export: Path, stack: ExitStack, *, batches: tuple[int, ...] = (1, 3)) -> tuple[dict, tuple[Skipped, ...]]:
    return open_plans(export, read_manifest(export), stack, batches=batches)


@pytest.mark.parametrize("flavour", MODULES)
def test_where_there_is_a_gpu_a_plan_has_its_row(
    export: Path, data: Path, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu(side=SIDE).install(monkeypatch, MODULES[flavour])
    monkeypatch.setattr("benchmarks.contestants.plans.find_gpu", lambda: L4)
    plan = save_plan(export, flavour=flavour)
    speed = SpeedSettings(warmup_calls=1, calls=3, seconds=1)
    report = run_bench(BenchRequest(export=export, data=data, batches=(1, 2), threads=(1, 2), speed=speed))
    rows = [(row.engine, row.precision, row.batch, row.threads) for row in report.rows if row.artefact == plan.name]
    # The CPU's threads are not the plan's: it is measured once for each batch size.
    assert rows == [(flavour, "fp32", 1, None), (flavour, "fp32", 2, None)]
    row = next(row for row in report.rows if row.artefact == plan.name)
    assert (row.runner, row.key, row.size_mb) == (flavour, plan.name, 4e-6)
    assert row.speedup == row.faster_than["pytorch"]
    assert row.within_gate is False  # the stand-in's hands are sums of pixels
    assert report.skipped == ()
    assert row.layers == PROOF
    assert f"{plan.name}: {PROOF}" in " ".join(table_text(report).split())


def test_without_a_gpu_every_plan_is_skipped_for_one_reason(
    export: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.contestants.plans.find_gpu", lambda: NO_GPU)
    for flavour in MODULES:
        save_plan(export, flavour=flavour)
    speed = SpeedSettings(warmup_calls=0, calls=1, seconds=1)
    report = run_bench(BenchRequest(export=export, data=data, threads=(1,), speed=speed))
    assert [row.engine for row in report.rows] == ["pytorch", "onnxruntime"]
    assert report.skipped == (
        Skipped("model.plan", "tensorrt", "fp32", f"it needs a GPU, and {NO_GPU}"),
        Skipped("model.rtx.plan", "tensorrt-rtx", "fp32", f"it needs a GPU, and {NO_GPU}"),
    )
    text = table_text(report)
    assert f"tensorrt, model.plan: skipped: it needs a GPU, and {NO_GPU}" in text
    assert f"tensorrt-rtx, model.rtx.plan: skipped: it needs a GPU, and {NO_GPU}" in text


def test_plans_skipped_for_one_reason_share_a_line() -> None:
    same = Skipped("model.plan", "tensorrt", "fp32", "no GPU")
    others = (dataclasses.replace(same, key="model.fp16.plan"), dataclasses.replace(same, reason="too old"))
    assert skipped_lines((same, *others)) == [
        "tensorrt, model.plan, model.fp16.plan: skipped: no GPU",
        "tensorrt, model.plan: skipped: too old",
    ]


def test_a_plan_that_cannot_be_trusted_is_skipped(
    export: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.contestants.plans.find_gpu", lambda: L4)
    FakeGpu(side=SIDE).install(monkeypatch)
    plan = save_plan(export, graph="model.int8.onnx")  # set aside since
    contestants, (skipped,) = opened(export, stack)
    assert contestants == {}
    assert skipped.reason.startswith("it was built from another model.int8.onnx than the export's")
    save_plan(export)
    plan.write_bytes(b"changed")
    assert "is not the plan that its sidecar describes" in opened(export, stack)[1][0].reason
    plan.with_name("model.plan.json").write_text("{}")
    (skipped,) = opened(export, stack)[1]
    assert (skipped.precision, skipped.engine) == ("unstated", "tensorrt")
    assert "findings" in skipped.reason


def test_a_plan_that_brings_native_code_is_left_out_until_it_is_trusted(
    export: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeGpu(side=SIDE).install(monkeypatch)
    monkeypatch.setattr("benchmarks.contestants.plans.find_gpu", lambda: L4)
    save_plan(export, version_compatible=True)
    contestants, (skipped,) = opened(export, stack)
    assert contestants == {}
    assert "is version-compatible: it brings native code" in skipped.reason
    trusted, none = open_plans(export, read_manifest(export), stack, batches=(1,), trust=True)
    assert (list(trusted), none) == (["model.plan"], ())


def test_a_plan_that_does_not_serve_a_batch_is_skipped_and_closed(
    export: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(side=SIDE, profiles=((2, 2, 4),))
    gpu.install(monkeypatch)
    monkeypatch.setattr("benchmarks.contestants.plans.find_gpu", lambda: L4)
    save_plan(export, profile=(2, 2, 4))
    contestants, (skipped,) = opened(export, stack)
    assert contestants == {}
    assert skipped.reason == "a call of 1 images fits no profile of the plan, which serve 2 to 4"
    assert gpu.alive == []


def test_an_error_of_the_gpus_own_libraries_is_a_reason_too(
    export: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DriverError(Exception):
        """As a library's own: of no common base."""

    def broken(*arguments: object, **options: object) -> None:
        raise DriverError("out of\nmemory")

    monkeypatch.setattr("benchmarks.contestants.plans.find_gpu", lambda: L4)
    monkeypatch.setattr("benchmarks.contestants.plans.open_engine", broken)
    save_plan(export)
    assert opened(export, stack)[1][0].reason == "out of memory"


def test_an_opened_plan_runs_until_the_stack_closes(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(side=SIDE)
    gpu.install(monkeypatch)
    monkeypatch.setattr("benchmarks.contestants.plans.find_gpu", lambda: L4)
    save_plan(export)
    with ExitStack() as stack:
        engine = opened(export, stack)[0]["model.plan"].engine
        engine(np.zeros((2, 3, SIDE, SIDE), np.float32))
        assert gpu.alive
    assert gpu.alive == []
