import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import typer
from fake_gpu import FakeGpu, answer
from linear_hand import SIDE, expected, make_manifest, save_export, save_onnx
from refusal import refused
from typer.testing import CliRunner, Result

from cliphand.cli.predict import predict
from cliphand.config import CropConfig
from cliphand.data.crop import crop_box, crop_matrix, cut, normalise
from cliphand.data.photograph import read_image
from cliphand.errors import InputError
from cliphand.files import sha256_of
from cliphand.hand import HandTopology
from engines.artefact.manifest import write_manifest
from engines.host.cuda_device import find_gpu
from engines.tensorrt.plan import BatchRange, BuildSettings, PlanKey, PlanRecord, write_record

app = typer.Typer()
app.command()(predict)


@pytest.fixture(scope="module")
def photographs(freihand_folder: Callable[..., Path]) -> list[Path]:
    return sorted((freihand_folder(n_labels=2) / "evaluation" / "rgb").glob("*.jpg"))


@pytest.fixture
def export(tmp_path: Path, hand_topology: HandTopology) -> Path:
    return save_export(tmp_path / "export", hand_topology)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in (*arguments, "--threads", "1")])


def test_each_photograph_gets_a_file_and_a_picture(export: Path, photographs: list[Path], tmp_path: Path) -> None:
    result = run(*photographs, "--export", export, "--out", tmp_path / "out", "--engine", "ort")
    assert result.exit_code == 0, result.output
    for path in photographs:
        value = json.loads((tmp_path / "out" / f"{path.stem}.hand.json").read_text())
        matrix = crop_matrix(crop_box(CropConfig(), (224, 224)), SIDE)
        images = normalise(cut(read_image(path), matrix, side_px=SIDE), CropConfig())[None]
        np.testing.assert_allclose(value["verts_uvd"], expected(images, "verts_uvd")[0], atol=1e-5)
        assert (value["engine"], value["metric"], len(value["joints_px"])) == ("onnxruntime", False, 21)
        picture = cv2.imread(str(tmp_path / "out" / f"{path.stem}.hand.png"))
        assert picture.shape == (224, 224, 3)
        assert np.abs(picture.astype(int) - cv2.imread(str(path))).max() > 50
    assert "model.onnx in onnxruntime" in result.stdout
    again = run(*photographs, "--export", export, "--out", tmp_path / "out", "--engine", "ort")
    assert again.exit_code == 0, again.exception  # its own files may be replaced


def test_an_untrained_mesh_is_told_with_every_prediction(
    tmp_path: Path, hand_topology: HandTopology, photographs: list[Path]
) -> None:
    for stage, warnings in (("joints", 1), ("mesh", 0)):
        export = save_export(tmp_path / stage, hand_topology, training={"train": {"stage": stage}})
        result = run(photographs[0], "--export", export, "--out", tmp_path / "out", "--engine", "ort", "--no-picture")
        assert result.exit_code == 0, result.exception
        assert result.stderr.count("WARNING: The mesh of this model is not trained") == warnings


def test_metres_need_a_camera_and_a_bone(export: Path, photographs: list[Path], tmp_path: Path) -> None:
    common = (photographs[0], "--export", export, "--out", tmp_path, "--engine", "ort", "--no-picture")
    assert run(*common, "--focal", 450, "--bone-mm", 30).exit_code == 0
    value = json.loads((tmp_path / f"{photographs[0].stem}.hand.json").read_text())
    joints = np.array(value["joints"])
    assert value["metric"]
    assert np.linalg.norm(joints[9] - joints[10]) == pytest.approx(0.03, abs=1e-6)
    assert not list(tmp_path.glob("*.png"))
    for options in (("--focal", 450), ("--bone-mm", 30)):
        assert "metres need both" in str(run(*common, *options).exception)


def test_a_camera_file_of_another_form_is_refused(export: Path, photographs: list[Path], tmp_path: Path) -> None:
    camera = tmp_path / "camera.json"
    common = (photographs[0], "--export", export, "--out", tmp_path, "--intrinsics", camera, "--bone-mm", 30)
    camera.write_text(json.dumps({"K": [[450, 0, 112], [0, 450, 112], [0, 0, 1]]}))
    assert run(*common, "--engine", "ort").exit_code == 0
    for wrong in ({"K": [[1, 2], [3, 4]]}, {"K": "wide"}, {}):
        camera.write_text(json.dumps(wrong))
        result = run(*common)
        assert isinstance(result.exception, InputError)
        assert "3 rows and 3 columns" in str(result.exception)


def test_a_hand_is_predicted_without_pytorch(export: Path, photographs: list[Path], tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from cliphand.cli.app import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(sorted(name for name in ('torch', 'timm', 'lightning') if name in sys.modules))\n"
    )
    arguments = ["predict", photographs[0], "--export", export, "--out", tmp_path, "--engine", "ort"]
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
    assert (tmp_path / f"{photographs[0].stem}.hand.png").exists()


def test_openvino_keeps_what_it_compiled_unless_told_not_to(
    export: Path, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    common = (photographs[0], "--export", export, "--out", tmp_path, "--engine", "openvino", "--no-picture")
    assert run(*common, "--no-cache").exit_code == 0
    assert run(*common, "--cache", tmp_path / "mine").exit_code == 0
    assert not (tmp_path / "home").exists()
    assert run(*common).exit_code == 0
    for folder in (tmp_path / "mine", tmp_path / "home" / "cliphand" / "openvino"):
        assert [path.suffix for path in folder.iterdir()] == [".blob"]


def test_a_plan_runs_where_there_is_a_gpu(
    export: Path, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = FakeGpu(side=SIDE)
    gpu.install(monkeypatch)
    plan = export / "model.plan"
    plan.write_bytes(b"plan")
    settings = BuildSettings(profiles=(BatchRange(1, 1, 4),))
    key = PlanKey("tensorrt", "fp32", "0", sha256_of(export / "model.onnx"), "11.4.0", find_gpu(), settings)
    findings = {"parity": {"passed": True, "failures": []}}
    write_record(PlanRecord(key, "model.onnx", SIDE, sha256_of(plan), 1.0, findings), plan)
    common = (photographs[0], "--export", export, "--out", tmp_path, "--no-picture")
    for engine in ("auto", "tensorrt"):
        result = run(*common, "--engine", engine)
        assert result.exit_code == 0, result.exception
        value = json.loads((tmp_path / f"{photographs[0].stem}.hand.json").read_text())
        assert (value["engine"], Path(value["model"]).name, value["precision"]) == ("tensorrt", "model.plan", "fp32")
        matrix = crop_matrix(crop_box(CropConfig(), (224, 224)), SIDE)
        images = normalise(cut(read_image(photographs[0]), matrix, side_px=SIDE), CropConfig())[None]
        np.testing.assert_allclose(value["verts_uvd"], answer(images, "verts_uvd")[0], rtol=1e-5)
    assert gpu.alive == []


def test_onnx_runtime_runs_on_the_gpu_where_it_has_the_provider(
    export: Path, photographs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu(onnxruntime.InferenceSession):
        """The CPU's session under the GPU's name."""

        def __init__(self, path: str, options: object, providers: list[str]) -> None:
            assert providers == ["CUDAExecutionProvider"]
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider"]

    FakeGpu(side=SIDE).install(monkeypatch, "tensorrt_rtx")
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", OnGpu)
    common = (photographs[0], "--export", export, "--out", tmp_path, "--no-picture")
    for engine in ("auto", "onnxruntime-cuda"):
        result = run(*common, "--engine", engine)
        assert result.exit_code == 0, result.exception
        value = json.loads((tmp_path / f"{photographs[0].stem}.hand.json").read_text())
        assert (value["engine"], Path(value["model"]).name) == ("onnxruntime-cuda", "model.onnx")


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_network_that_gives_no_numbers_is_named_and_nothing_is_written(
    export: Path, photographs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], poison: float
) -> None:
    save_onnx(export / "model.onnx", poison=poison)
    write_manifest(make_manifest(export, {"model.onnx": "fp32"}), export)
    out = tmp_path / "out"
    common = ("predict", photographs[0], "--export", export, "--out", out, "--engine", "ort")
    sentence = refused(capsys, *common, watched=tmp_path)
    assert f"{export / 'model.onnx'} gives no hand for {photographs[0]}: " in sentence
    assert not out.exists()
