import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from engines.available import RUN_TIMES, available_engines, choices
from engines.cuda_device import Gpu, driver_version, find_gpu, spell_cuda

L4 = Gpu("NVIDIA L4", "8.9", "13.2", "580.95.05")
SUCCESS, FAILURE = SimpleNamespace(name="cudaSuccess"), SimpleNamespace(name="cudaErrorNoDevice")


def runtime(patch: pytest.MonkeyPatch, **changes: object) -> None:
    """cuda.bindings.runtime with one GPU, changed."""
    facts = SimpleNamespace(name=b"NVIDIA L4\0", major=8, minor=9)
    module = ModuleType("cuda.bindings.runtime")
    values = {
        "cudaError_t": SimpleNamespace(cudaSuccess=SUCCESS),
        "cudaGetDeviceCount": lambda: (SUCCESS, 1),
        "cudaGetDeviceProperties": lambda index: (SUCCESS, facts),
        "cudaRuntimeGetVersion": lambda: (SUCCESS, 13020),
        "cudaDriverGetVersion": lambda: (SUCCESS, 12080),
    }
    for name, value in (values | changes).items():
        setattr(module, name, value)
    patch.setitem(sys.modules, "cuda.bindings.runtime", module)


def test_the_first_gpu_is_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runtime(monkeypatch)
    monkeypatch.setattr("engines.cuda_device.DRIVER_FILE", tmp_path / "version")
    assert find_gpu() == Gpu("NVIDIA L4", "8.9", "13.2", "CUDA 12.8")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release\n")
    assert find_gpu() == L4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cudaGetDeviceCount": lambda: (FAILURE, None)}, "no NVIDIA GPU can be used (cudaErrorNoDevice)"),
        ({"cudaGetDeviceCount": lambda: (SUCCESS, 0)}, "there is no NVIDIA GPU"),
        ({"cudaGetDeviceProperties": lambda index: (FAILURE, None)}, "the GPU does not answer (cudaErrorNoDevice)"),
    ],
)
def test_why_there_is_none_is_half_a_sentence(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], said: str
) -> None:
    runtime(monkeypatch, **changes)
    assert find_gpu() == said


def test_without_cuda_python_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_gpu() == "no GPU can be looked for without cuda-python"


def test_this_machine_answers_one_way_or_the_other() -> None:
    assert isinstance(find_gpu(), Gpu | str)


def test_versions_are_spelled_as_people_do(tmp_path: Path) -> None:
    assert [spell_cuda(number) for number in (13020, 12080, 13000)] == ["13.2", "12.8", "13.0"]
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104  Fri\n")
    assert driver_version(tmp_path / "version") == "535.104"
    (tmp_path / "version").write_text("something else 1.2\n")
    assert driver_version(tmp_path / "version") is None
    assert driver_version(tmp_path / "missing") is None


def test_an_engine_is_usable_where_its_modules_and_its_gpu_are(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorrt", "cuda", "onnxruntime"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in installed else None)
    found = {choice.engine: choice for choice in choices("there is no GPU")}
    assert list(found) == [run_time.engine for run_time in RUN_TIMES]
    assert found["tensorrt"].why == "pycuda not installed; there is no GPU"
    assert found["pytorch"].why == "torch not installed"
    assert [name for name, choice in found.items() if choice.usable] == ["onnxruntime"]
    installed.add("pycuda")
    assert available_engines(L4) == "tensorrt, onnxruntime"
