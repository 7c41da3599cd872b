"""Plans are judged like graphs, in millimetres, wherever they can run; what fails is set aside with exit code 1."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from linear_hand import SIDE, save_export
from typer.testing import CliRunner, Result

from cliphand.cli.build import build
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HandTopology
from engines.base import HandOutput
from engines.host.cuda_device import Gpu
from engines.runtimes.ort import OrtEngine
from engines.tensorrt.plan import (
    NOT_EXECUTED,
    BatchRange,
    BuildSettings,
    PlanKey,
    PlanRecord,
    read_record,
    write_record,
)
from engines.tensorrt.process import BuiltFolder, BuiltPlan
from export.gate.plans import gate_request

L4 = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")
app = typer.Typer()
app.command()(build)


class Plan(OrtEngine):
    """Stands for a plan: the graph itself, with something added to the vertices of batches of 2."""

    profiles = (BatchRange(1, 1, 2), BatchRange(3, 4, 4))
    error = np.float32(0)
    refusal: str | None = None

    def __init__(self, plan: Path, *, trust: bool) -> None:
        assert trust  # it was built here
        if self.refusal is not None:
            raise InputError(self.refusal)
        super().__init__(plan.with_name("model.onnx"))

    def __call__(self, images: np.ndarray) -> HandOutput:
        output = super().__call__(images)
        assert images.shape[1:] == (3, SIDE, SIDE)
        if len(images) == 2:
            output.verts_uvd[:, :, 2] += self.error
        return output


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export folder in which the builder has put a plan that runs as `Plan` does."""
    folder = save_export(tmp_path / "export", hand_topology)
    plan = folder / "model.plan"

    def build_plans(folder: Path, *, flavour: str, settings: BuildSettings, progress: object) -> BuiltFolder:
        reused = plan.exists()
        plan.write_bytes(b"plan")
        key = PlanKey(flavour, "fp32", "0", sha256_of(folder / "model.onnx"), "11.4.0", L4, settings)
        record = PlanRecord(key, "model.onnx", SIDE, sha256_of(plan), 1.0, {"parity": NOT_EXECUTED})
        if reused:
            return BuiltFolder((BuiltPlan(plan, read_record(plan), reused=True),))
        write_record(record, plan)
        return BuiltFolder((BuiltPlan(plan, record, reused=False),))

    monkeypatch.setattr("engines.tensorrt.process.build_plans", build_plans)
    monkeypatch.setattr("engines.tensorrt.process.why_not_built", lambda flavour: None)
    monkeypatch.setattr("export.gate.plans.TrtEngine", Plan)
    return folder


def run(folder: Path, *more: object, flavour: str = "tensorrt") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in (folder, "--flavour", flavour, *more)])


def parity_of(plan: Path) -> dict:
    return read_record(plan).findings["parity"]


def test_a_plan_that_does_what_its_graph_does_passes_at_every_profiles_ends(export: Path) -> None:
    result = run(export)
    assert result.exit_code == 0, result.exception
    parity = parity_of(export / "model.plan")
    assert parity["passed"] is True
    assert parity["noise"] == {
        "batches": [1, 2, 3, 4],
        "max_difference_uvd": {"joints_uvd": 0.0, "verts_uvd": 0.0},
        "vertices_p99_mm": 0.0,
    }
    assert "gate: passed on noise" in result.stdout
    assert json.loads(result.stdout.splitlines()[-1])["plans"][0]["passed"] is True


@pytest.mark.parametrize(
    ("error", "said"), [(np.nan, "NaN or infinity on noise"), (0.25, r"99 % of vertices lie within \d+\.\d+ mm of its")]
)
def test_a_plan_that_gives_nan_or_another_hand_is_set_aside(
    export: Path, monkeypatch: pytest.MonkeyPatch, error: float, said: str
) -> None:
    monkeypatch.setattr(Plan, "error", np.float32(error))
    result = run(export)
    assert result.exit_code == 1
    assert sorted(path.name for path in export.glob("*plan*")) == ["model.plan.rejected", "model.plan.rejected.json"]
    parity = parity_of(export / "model.plan.rejected")
    assert parity["passed"] is False
    assert [part for part in parity["failures"] if re.search(said, part)]
    assert "gate: FAILED, set aside" in result.stdout
    monkeypatch.setattr(Plan, "error", np.float32(0))  # mended, it takes the failed one's place
    assert run(export).exit_code == 0
    assert sorted(path.name for path in export.glob("*plan*")) == ["model.plan", "model.plan.json"]


def test_photographs_judge_where_they_are_at_hand(
    export: Path, freihand_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = freihand_folder(n_labels=2)
    (export / "parity.json").write_text(json.dumps({"gate": {"data": str(data), "split": "evaluation", "images": 2}}))
    result = run(export)
    assert result.exit_code == 0, result.exception
    row = parity_of(export / "model.plan")["photographs"]
    assert (row["images"], row["nonfinite"], row["vertex_distance_mm"]["max"]) == (2, 0, 0.0)
    (export / "model.plan").unlink()
    monkeypatch.setattr(Plan, "error", np.float32(0.25))  # the two photographs are one batch
    assert run(export, "--gate-data", data).exit_code == 1
    assert parity_of(export / "model.plan.rejected")["photographs"]["vertex_distance_mm"]["p99"] > 3


def test_a_plan_is_judged_once(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(export)
    monkeypatch.setattr(Plan, "refusal", "it must not be opened")
    assert run(export).exit_code == 0


@pytest.mark.parametrize(("flavour", "code"), [("tensorrt", 1), ("tensorrt-rtx", 0)])
def test_a_plan_that_its_own_gpu_does_not_run_fails_where_it_was_built_for_it(
    export: Path, monkeypatch: pytest.MonkeyPatch, flavour: str, code: int
) -> None:
    monkeypatch.setattr(Plan, "refusal", "deserialize_cuda_engine fails")
    result = run(export, flavour=flavour)
    assert result.exit_code == code
    assert "deserialize_cuda_engine fails" in result.stdout
    assert (export / "model.plan.rejected").exists() == bool(code)


def test_the_photographs_are_those_of_the_graphs_while_they_are_here(tmp_path: Path) -> None:
    assert gate_request(tmp_path) is None
    gate = {"data": str(tmp_path), "split": "training", "images": 7}
    (tmp_path / "parity.json").write_text(json.dumps({"gate": gate}))
    request = gate_request(tmp_path)
    assert request is not None
    assert (request.data, request.split, request.images) == (tmp_path, "training", 7)
    (tmp_path / "parity.json").write_text(json.dumps({"gate": gate | {"data": str(tmp_path / "gone")}}))
    assert gate_request(tmp_path) is None
    assert gate_request(tmp_path, tmp_path).data == tmp_path
