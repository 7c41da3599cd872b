import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import cliphand.cli.doctor as module
from cliphand.cli.doctor import FACTS, doctor
from cliphand.kinds import DOCTOR
from engines.host.cuda_device import Gpu

app = typer.Typer()
app.command()(doctor)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def object_of(result: Result) -> dict[str, object]:
    return json.loads(result.stdout.splitlines()[-1])


def test_it_says_what_this_machine_has_and_that_everything_runs(tmp_path: Path) -> None:
    result = run("--json", tmp_path / "doctor.json")
    value = object_of(result)
    assert result.exit_code == 0
    assert value == json.loads((tmp_path / "doctor.json").read_text())
    assert DOCTOR.is_own(tmp_path / "doctor.json")
    assert list(value["facts"]) == [
        *("Python", "processor", "GPU", "PyTorch", "ONNX Runtime", "OpenVINO", "TensorRT", "TensorRT for RTX"),
        *("Polygraphy", "cuda-bindings", "C++ compiler"),
    ]
    assert "CPUExecutionProvider" in value["facts"]["ONNX Runtime"]
    assert (value["can_run"], value["can_train"]) == (True, True)
    assert "Predicting, scoring and benchmarking of exports can run here." in result.stdout
    assert "Training and export can, too." in result.stdout


def test_a_missing_package_is_named_and_the_exit_code_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNNING", {"cv2": "imread", "no_such_package": "any"})
    result = run()
    assert result.exit_code == 1
    assert object_of(result)["missing_for_running"] == [
        "no_such_package is not installed: run `pip install -e .` in the checkout again"
    ]
    assert object_of(result)["can_train"] is False
    assert "Nothing can run here: no_such_package is not installed" in result.stdout


def test_half_an_extra_is_a_fault_and_none_of_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRAINING", {"torch": "Tensor", "no_such_package": "any"})
    half = run()
    assert (half.exit_code, object_of(half)["can_run"], object_of(half)["can_train"]) == (1, True, False)
    assert "cannot: no_such_package is not installed: run `pip install -e '.[train]'`" in half.stdout
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)  # as if it were not installed
        none = run()
    assert (none.exit_code, object_of(none)["can_run"], object_of(none)["can_train"]) == (0, True, False)
    assert "Training and export are not installed: `pip install -e '.[train]'`" in none.stdout


def test_the_first_engine_that_can_run_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.cuda_device.find_gpu", lambda: "there is no NVIDIA GPU")
    result = run()
    usable = [choice["engine"] for choice in object_of(result)["engines"] if choice["usable"]]
    marked = [line.split()[1] for line in result.stdout.splitlines() if line.strip().startswith("->")]
    assert marked == usable[:1]
    assert "there is no NVIDIA GPU" in result.stdout


def test_a_gpu_is_described_with_its_software(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")
    assert FACTS["GPU"](gpu) == "NVIDIA L4, compute capability 8.9, driver 580.95.05, CUDA 13.2"
    monkeypatch.setattr("engines.tensorrt.flavour.why_not_built", lambda flavour, gpu: None)
    monkeypatch.setattr(
        "engines.tensorrt.flavour.load_tensorrt", lambda flavour: type("Trt", (), {"__version__": "1.7.1"})
    )
    assert FACTS["TensorRT for RTX"](gpu) == "1.7.1, builds plans, runs plans"
    assert FACTS["TensorRT for RTX"]("there is none") == "1.7.1, builds plans, runs none: there is none"


def test_commands_keep_their_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "tensorrt is not installed: pip install -e '.[tensorrt]'"
    monkeypatch.setattr("engines.tensorrt.flavour.why_not_built", lambda flavour, gpu: why)
    assert ".[tensorrt]" in "".join(run().stdout.split("\n{")[0].split())


def test_a_broken_package_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(gpu: object) -> str:
        raise OSError("libcuda.so.1:\n no such file")

    monkeypatch.setitem(module.FACTS, "PyTorch", module._said(broken))
    facts = object_of(run())["facts"]
    assert facts["PyTorch"] == "broken (OSError: libcuda.so.1: no such file): install it again"
    assert facts["ONNX Runtime"].startswith("1.")
    assert module._said(module._version("no-such-distribution"))("") == "not installed (no-such-distribution)"


def test_without_a_compiler_it_says_what_needs_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert FACTS["C++ compiler"]("") == "none of c++, g++, clang++, cl: AOTInductor needs one"
