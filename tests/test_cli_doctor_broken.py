"""`cliphand doctor` on installations that are broken in every way known: it ends in a verdict and says the remedy."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import typer
from fake_driver import NAME, CUresult
from fake_gpu import FakeGpu
from typer.testing import CliRunner

from cliphand.cli.doctor import doctor
from engines.host.available import RUN_TIMES

app = typer.Typer()
app.command()(doctor)
Facts = dict[str, str]
FORCE = "pip install --force-reinstall 'cuda-bindings>=12.9,<14'"
NEED = "pip install 'cuda-bindings>=12.9,<14'"


def replaced(patch: pytest.MonkeyPatch, folder: Path, files: dict[str, str]) -> None:
    """Packages of these files stand before the installed ones of the same names."""
    for name in {name.partition("/")[0] for name in files}:
        for module in [module for module in sys.modules if module.partition(".")[0] == name]:
            patch.delitem(sys.modules, module)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    patch.syspath_prepend(folder)


def run() -> tuple[int, dict[str, str], dict[str, str]]:
    """Exit code, the facts, and why of each engine."""
    result = CliRunner().invoke(app, [], catch_exceptions=False)
    value = json.loads(result.stdout.splitlines()[-1])
    assert [choice["engine"] for choice in value["engines"]] == [run_time.engine for run_time in RUN_TIMES]
    return result.exit_code, value["facts"], {choice["engine"]: choice["why"] for choice in value["engines"]}


EMPTY = {"cuda/__init__.py": "", "cuda/bindings/__init__.py": "__version__ = '13.0.0'\n"}
CUDA = {
    "half installed: no bindings": ({"cuda/__init__.py": ""}, NEED),
    "half installed: no driver": (EMPTY, NEED),
    "half installed: an empty driver": (EMPTY | {"cuda/bindings/driver.py": ""}, FORCE),
    "no version": (EMPTY | {"cuda/bindings/__init__.py": "", "cuda/bindings/driver.py": ""}, FORCE),
    "wrong version": (
        EMPTY | {"cuda/bindings/__init__.py": "__version__ = '11.8.7'", "cuda/bindings/driver.py": "cuInit = print"},
        NEED,
    ),
    "no driver": (
        EMPTY | {"cuda/bindings/driver.py": "def cuInit(flags):\n    raise RuntimeError('no libcuda.so.1')\n"},
        "install the GPU's driver",
    ),
} | {
    f"import raises {error}": (EMPTY | {"cuda/bindings/driver.py": f"raise {error}('libcuda\\n is gone')"}, FORCE)
    for error in ("ImportError", "OSError", "RuntimeError", "AttributeError")
}


@pytest.mark.parametrize("state", CUDA)
def test_a_broken_cuda_bindings_costs_the_gpu_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str) -> None:
    files, remedy = CUDA[state]
    replaced(monkeypatch, tmp_path, files)
    code, facts, engines = run()
    assert code == 0
    assert remedy in facts["GPU"]
    assert remedy in engines["onnxruntime-cuda"]
    assert "\n" not in facts["GPU"]


def test_an_absent_cuda_bindings_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NAME, None)
    code, facts, _ = run()
    assert code == 0
    assert NEED in facts["GPU"]


def failing_at(function: str, status: CUresult) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(
        sys.modules[NAME], function, lambda *arguments: (status, None)[: 2 - (function == "cuInit")]
    )


def no_permission(patch: pytest.MonkeyPatch) -> None:
    failing_at("cuInit", CUresult.CUDA_ERROR_NO_DEVICE)(patch)
    patch.setattr("engines.host.cuda_device.os.access", lambda path, mode: False)


def old_driver(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys.modules[NAME], "cuDriverGetVersion", lambda: (CUresult.CUDA_SUCCESS, 11040))


DRIVER = {
    "no device": (failing_at("cuInit", CUresult.CUDA_ERROR_NO_DEVICE), "there is no NVIDIA GPU"),
    "kernel module of another version": (
        failing_at("cuInit", CUresult.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH),
        "restart the machine",
    ),
    "an unknown code": (failing_at("cuDeviceGetCount", CUresult.CUDA_ERROR_UNKNOWN), "CUDA_ERROR_UNKNOWN"),
    "no permission": (no_permission, "let this user read and write it"),
    "old": (old_driver, "install a newer driver"),
}


@pytest.mark.parametrize("state", DRIVER)
def test_a_driver_that_fails_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    FakeGpu().install(monkeypatch)
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr("engines.host.cuda_device.DEVICE_FILES", tmp_path)
    change, said = DRIVER[state]
    change(monkeypatch)
    code, facts, engines = run()
    assert code == 0
    assert said in facts["GPU"]
    assert said in engines["tensorrt"]


@pytest.mark.parametrize(
    ("package", "fact", "engines"),
    [
        ("openvino", "OpenVINO", ("openvino", "openvino-reduced")),
        ("onnxruntime", "ONNX Runtime", ("onnxruntime",)),
        ("torch", "PyTorch", ("inductor", "pytorch")),
    ],
)
def test_an_empty_package_is_broken_in_the_facts_and_in_the_table_alike(
    monkeypatch: pytest.MonkeyPatch, package: str, fact: str, engines: tuple[str, ...]
) -> None:
    hollow = ModuleType(package)
    hollow.__spec__ = ModuleSpec(package, None)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, package, hollow)
        code, facts, why = run()
    assert code == (0 if package == "openvino" else 1)
    for said in (facts[fact], *(why[engine] for engine in engines)):
        assert said.startswith(f"{package} is broken (it has no ")
        assert "pip install" in said


def test_broken_cuda_bindings_are_named_where_pytorch_does_not_load_because_of_them(tmp_path: Path) -> None:
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda" / "__init__.py").write_text("import ctypes\nctypes.CDLL('libgone.so')\n")
    (tmp_path / "torch").mkdir()
    once = "import sys\nassert not hasattr(sys, 'torch_began'), 'it can be initialised once'\nsys.torch_began = True\n"
    (tmp_path / "torch" / "__init__.py").write_text(once + "import cuda\n")
    program = "from engines.host.available import package_fault as ask; ask('inductor'); print(ask('pytorch'))"
    path = os.pathsep.join((str(tmp_path), *sys.path))
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    ).stdout
    assert found.startswith("torch does not load because cuda-bindings is broken (OSError: libgone.so")
    assert found.strip().endswith(FORCE)


def test_what_predict_does_not_take_is_not_in_the_order_of_auto() -> None:
    text = CliRunner().invoke(app, [], catch_exceptions=False).stdout
    order, _, beside = text.partition("pytorch (bench compares with it; predict does not take it): the reference")
    assert beside
    assert "pytorch" not in order.partition("--engine auto")[2]


BROKEN = {"ImportError": "", "OSError": "", "RuntimeError": "", "AttributeError": ""}


@pytest.mark.parametrize("error", BROKEN)
@pytest.mark.parametrize(
    ("package", "engine", "fact"),
    [
        ("tensorrt", "tensorrt", "TensorRT"),
        ("onnxruntime", "onnxruntime", "ONNX Runtime"),
        ("openvino", "openvino", "OpenVINO"),
    ],
)
def test_a_package_that_fails_at_its_import_is_no_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, engine: str, fact: str, error: str
) -> None:
    FakeGpu().install(monkeypatch)  # a GPU, so that TensorRT would be the first
    replaced(monkeypatch, tmp_path, {f"{package}/__init__.py": f"raise {error}('lib.so:\\n undefined symbol')\n"})
    code, facts, engines = run()
    assert code == (1 if package == "onnxruntime" else 0)
    assert "lib.so: undefined symbol" in facts[fact]
    assert f"{package} is broken ({error}: lib.so: undefined symbol): " in engines[engine]
    assert "pip install" in engines[engine]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "cannot be used here"), ("__version__ = '9.3.0'", "TensorRT 9.3.0 is installed; this project runs 10.12")],
)
def test_a_half_removed_or_an_old_tensorrt_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    FakeGpu().install(monkeypatch)
    replaced(monkeypatch, tmp_path, {"tensorrt/__init__.py": text})
    code, facts, _ = run()
    assert code == 0
    assert said in facts["TensorRT"]
    assert "pip install" in facts["TensorRT"]


@pytest.mark.parametrize("error", [KeyError("Version"), TypeError("None"), ValueError("bad"), OSError("unreadable")])
def test_broken_metadata_hide_nothing_else(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(name: str) -> str:
        raise error

    monkeypatch.setattr(importlib.metadata, "version", broken)
    code, facts, _ = run()
    assert code == 0
    assert facts["Polygraphy"].startswith("broken (")
    assert facts["ONNX Runtime"].startswith("1.")
