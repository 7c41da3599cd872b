import json
from pathlib import Path

import pytest
import typer
from typed_graphs import SIDE, lacking_op, nan, save_typed_export
from typer.testing import CliRunner, Result

from cliphand.cli.build import build, sentence
from cliphand.errors import InputError
from cliphand.files import sha256_of
from engines.tensorrt.plan import BatchRange, BuildSettings, PlanKey, PlanRecord
from engines.tensorrt.process import BuiltFolder, BuiltPlan, build_plan
from export.folder.contents import EXPORT
from export.gate.plans import judge_plans

app = typer.Typer()
app.command()(build)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"tensorrt": "tensorrt is not installed: pip install -e '.[tensorrt]'", "tensorrt-rtx": None}
    monkeypatch.setattr("engines.tensorrt.process.why_not_built", lambda flavour: reasons[flavour.name])


@pytest.mark.usefixtures("no_tensorrt")
def test_plans_are_built_from_the_folder_alone_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path / "export", fp32={}, fp16={"half": True})
    result = run(folder)
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    assert "model.rtx.plan: built in" in lines[0]
    silence = "of the parsed network: without a GPU, TensorRT tells nothing of the finished engine"
    proof = f"4 of 4 convolutions and matrix products in HALF ({silence})"
    assert f"fp16, {proof}, batches 1-64, TensorRT 1." in lines[1]
    assert "built without a GPU, gate: not executed here" in lines[1]
    assert lines[2] == "Not built: plans of TensorRT (tensorrt is not installed: pip install -e '.[tensorrt]')."
    plans = json.loads(lines[3])["plans"]
    assert [plan["plan"] for plan in plans] == [str(folder / f"model.{name}rtx.plan") for name in ("", "fp16.")]
    assert plans[1]["layers"]["CONVOLUTION HALF"] == 2
    assert (plans[1]["proof"], plans[1]["passed"]) == (proof, None)
    assert run(folder).stdout.count("is there already") == 2
    assert [name for name in EXPORT.foreign(folder) if "plan" in name] == []


@pytest.mark.usefixtures("no_tensorrt")
@pytest.mark.parametrize("name", ["model.rtx.plan", "model.rtx.plan.json"])
def test_a_plan_that_somebody_else_built_is_not_replaced(tmp_path: Path, name: str) -> None:
    folder = save_typed_export(tmp_path / "export", fp32={})
    (folder / name).write_text("from trtexec")
    result = run(folder)
    assert isinstance(result.exception, InputError)
    assert f"{folder / name} is there and was not written by `cliphand build`" in str(result.exception)
    assert (folder / name).read_text() == "from trtexec"


@pytest.mark.usefixtures("no_tensorrt")
def test_a_flavour_that_is_asked_for_and_missing_is_one_sentence(tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path / "export", fp32={})
    result = run(folder, "--flavour", "tensorrt")
    assert isinstance(result.exception, InputError)
    assert "plans of TensorRT cannot be built here: tensorrt is not installed" in str(result.exception)
    assert list(folder.glob("*plan*")) == []


def test_where_nothing_can_be_built_the_command_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.tensorrt.process.why_not_built", lambda flavour: "it is missing")
    result = run(save_typed_export(tmp_path, fp32={}))
    assert isinstance(result.exception, InputError)
    assert str(result.exception).startswith("Not built: plans of TensorRT (it is missing) and of TensorRT for RTX")


def test_every_option_reaches_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, BuildSettings]] = []

    def build_plans(folder: Path, *, flavour: str, settings: BuildSettings, progress: object) -> BuiltFolder:
        seen.append((flavour, settings))
        return BuiltFolder()

    monkeypatch.setattr("engines.tensorrt.process.build_plans", build_plans)
    monkeypatch.setattr("engines.tensorrt.process.why_not_built", lambda flavour: None)
    result = run(
        *(save_typed_export(tmp_path, fp32={}), "--flavour", "tensorrt", "--batches", "1:2:4", "--batches", "8"),
        *("--level", 5, "--workspace-mib", 64, "--tf32", "--version-compatible", "--hardware", "ampere_plus"),
        *("--compute-capability", "8.9", "--compute-capability", "12.0", "--stripped"),
    )
    assert result.exit_code == 0, result.exception
    settings = BuildSettings(
        profiles=(BatchRange(1, 2, 4), BatchRange(8, 8, 8)),
        level=5,
        workspace_mib=64,
        tf32=True,
        version_compatible=True,
        hardware="ampere_plus",
        compute_capabilities=("8.9", "12.0"),
        stripped=True,
    )
    assert seen == [("tensorrt", settings)]
    seen.clear()
    run(tmp_path)
    assert seen == [("tensorrt", BuildSettings()), ("tensorrt-rtx", BuildSettings())]


def test_a_folder_that_is_no_export_is_the_first_thing_said(tmp_path: Path) -> None:
    assert "has no manifest.json" in str(run(tmp_path).exception)


@pytest.mark.usefixtures("no_tensorrt")
def test_a_graph_that_is_refused_is_told_and_the_others_stand(tmp_path: Path) -> None:
    folder = save_typed_export(tmp_path / "export", fp32={}, fp16={"half": True, "fault": lacking_op})
    result = run(folder)
    assert result.exit_code == 1
    assert (folder / "model.rtx.plan").exists()
    assert "model.fp16.onnx: no plan: TensorRT for RTX 1." in result.stdout
    (failure,) = json.loads(result.stdout.splitlines()[-1])["failures"]
    assert (failure["graph"], failure["flavour"]) == ("model.fp16.onnx", "tensorrt-rtx")
    assert "operator: Det" in failure["reason"]


@pytest.mark.usefixtures("no_tensorrt")
def test_without_a_gpu_the_plan_of_a_graph_that_gives_nan_is_set_aside_and_the_others_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which the process that builds has as well
    folder = save_typed_export(tmp_path / "export", fp32={}, fp16={"half": True, "fault": nan})
    result = run(folder)
    assert result.exit_code == 1
    assert (folder / "model.rtx.plan").exists()
    assert not (folder / "model.fp16.rtx.plan").exists()
    assert (folder / "model.fp16.rtx.plan.rejected").exists()
    assert "FAILED, set aside: its graph gives NaN or infinity in joints_uvd and verts_uvd on noise" in result.stdout
    assert "gate: not executed here (its graph gives finite numbers on noise in ONNX Runtime)" in result.stdout


def test_a_graph_that_onnx_runtime_does_not_run_keeps_its_plan_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def __init__(self, path: Path) -> None:
            raise InputError(f"{path} cannot be run by ONNX Runtime 1.0 (no kernel); export it again.")

    monkeypatch.setattr("export.gate.plans.OrtEngine", Refusing)
    monkeypatch.setattr("engines.tensorrt.process.build_bytes", lambda *given, **named: (b"plan", {}))
    onnx = save_typed_export(tmp_path / "export", fp32={}) / "model.onnx"
    key = PlanKey("tensorrt-rtx", "fp32", "0", sha256_of(onnx), "1.0", None, BuildSettings())
    built = build_plan(onnx, key, input_size=SIDE, progress=lambda *step: None)
    (judged,) = judge_plans(onnx.parent, (built,), None)
    assert judged.path == built.path
    assert built.path.exists()
    assert "gate: not executed here (ONNX Runtime does not run its graph (" in sentence(judged)
    assert "no kernel" in sentence(judged)


NAN = "NaN or infinity on noise"


@pytest.mark.parametrize(
    ("parity", "told"),
    [
        ({"passed": True, "noise": {"vertices_p99_mm": 0.0125}}, "gate: passed on noise, vertices p99 0.0125"),
        ({"passed": True, "noise": {}, "photographs": {}}, "gate: passed on the photographs"),
        (
            {"passed": True, "noise": {}, "photographs": {"images": 8}},
            "gate: passed on the photographs (compared on 8 images; under 50 images a gate says little)",
        ),
        ({"passed": False, "failures": [NAN]}, f"gate: FAILED, set aside: {NAN}"),
        ("not executed here", "gate: not executed here"),
    ],
)
def test_the_gates_verdict_is_told(tmp_path: Path, parity: object, told: str) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"plan")
    key = PlanKey("tensorrt", "fp16", "0", "1", "11.4.0", None, BuildSettings())
    findings = {"gpu": "NVIDIA L4", "proof": "9 of 9", "parity": parity}
    line = sentence(BuiltPlan(plan, PlanRecord(key, "model.onnx", 256, "2", 1.0, findings), reused=False))
    assert f", NVIDIA L4, {told}" in line


def test_progress_stays_off_stdout(tmp_path: Path) -> None:
    result = run(save_typed_export(tmp_path, fp32={}), "--flavour", "tensorrt-rtx")
    assert "Building" not in result.stdout
    assert len(result.stdout.splitlines()) == 2
