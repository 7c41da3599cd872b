import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from fake_driver import NAME, CUresult
from fake_gpu import FakeGpu

import engines.host.cuda_device
from engines.host.available import RUN_TIMES, choices, usable_engines
from engines.host.cuda_device import Gpu, driver_version, find_gpu, spell_cuda

L4 = Gpu("NVIDIA L4", "8.9", "13.3", "580.95.05")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """cuda.bindings.driver with one GPU, to be changed; no file tells of a kernel module."""
    FakeGpu().install(monkeypatch)
    monkeypatch.setattr("engines.host.cuda_device.DRIVER_FILE", tmp_path / "version")
    monkeypatch.setattr("engines.host.cuda_device.DEVICE_FILES", tmp_path)
    return sys.modules[NAME]


def test_the_first_gpu_is_described(driver: ModuleType, tmp_path: Path) -> None:
    assert find_gpu() == Gpu("NVIDIA L4", "8.9", "13.3", "CUDA 13.3")
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release\n")
    assert find_gpu() == L4


def raising(error: Exception) -> object:
    def function(*arguments: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "gives", "said"),
    [
        ("cuInit", (CUresult.CUDA_ERROR_NO_DEVICE,), "there is no NVIDIA GPU"),
        ("cuInit", (CUresult.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,), "differ in version: restart the machine"),
        ("cuInit", (CUresult.CUDA_ERROR_UNKNOWN,), "no NVIDIA GPU can be used (CUDA_ERROR_UNKNOWN)"),
        (
            "cuInit",
            RuntimeError("Failed to dlopen\nlibcuda.so.1"),
            "there is no NVIDIA driver: install the GPU's driver",
        ),
        ("cuInit", RuntimeError("odd"), "there is no NVIDIA driver (RuntimeError: odd): install the GPU's driver"),
        ("cuDeviceGetCount", (CUresult.CUDA_SUCCESS, 0), "there is no NVIDIA GPU"),
        ("cuDriverGetVersion", (CUresult.CUDA_SUCCESS, 11040), "serves CUDA 11.4, 12.0 is the least: install a newer"),
        ("cuDeviceGetName", (CUresult.CUDA_ERROR_UNKNOWN, None), "does not answer (the GPU's driver failed at cuDev"),
        ("cuDeviceGetAttribute", RuntimeError("not found"), "driver has no cuDeviceGetAttribute (not found)"),
    ],
)
def test_why_there_is_none_is_half_a_sentence_with_a_remedy(
    driver: ModuleType, monkeypatch: pytest.MonkeyPatch, function: str, gives: object, said: str
) -> None:
    answer = raising(gives) if isinstance(gives, Exception) else lambda *arguments: gives
    monkeypatch.setattr(driver, function, answer)
    found = find_gpu()
    assert isinstance(found, str)
    assert said in found
    assert "\n" not in found


def test_files_of_the_gpu_that_may_not_be_opened_are_named(
    driver: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(driver, "cuInit", lambda flags: (CUresult.CUDA_ERROR_NO_DEVICE,))
    (tmp_path / "nvidia0").touch()
    assert find_gpu() == "there is no NVIDIA GPU"
    monkeypatch.setattr(engines.host.cuda_device.os, "access", lambda path, mode: False)
    closed = f"{tmp_path / 'nvidia0'} may not be opened (CUDA_ERROR_NO_DEVICE): let this user read and write it"
    assert find_gpu() == closed


def test_without_cuda_bindings_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NAME, None)
    assert str(find_gpu()).startswith("no GPU can be looked for without cuda-bindings (")
    assert str(find_gpu()).endswith("pip install 'cuda-bindings>=12.9,<14'")


@pytest.mark.parametrize(
    ("version", "taken"), [("12.8.0", False), ("12.9.0", True), ("13.99.1", True), ("14.0", False)]
)
def test_only_known_versions_of_cuda_bindings_are_used(
    driver: ModuleType, monkeypatch: pytest.MonkeyPatch, version: str, taken: bool
) -> None:
    monkeypatch.setattr(sys.modules["cuda.bindings"], "__version__", version)
    assert isinstance(find_gpu(), Gpu) == taken
    assert taken or f"cuda-bindings {version} is installed, 12.9 up to 13 is needed" in str(find_gpu())


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
    FakeGpu().install(monkeypatch)
    installed = {"tensorrt", "onnxruntime"}
    monkeypatch.setattr("engines.host.available.is_installed", lambda name: name in installed)
    monkeypatch.setattr("engines.host.available._has_distribution", lambda name: name == "tensorrt-cu13")
    found = {choice.engine: choice for choice in choices("there is no GPU")}
    assert list(found) == [run_time.engine for run_time in RUN_TIMES]
    assert found["tensorrt"].why == "there is no GPU"
    assert found["pytorch"].why.startswith("torch not installed: `pip install")
    assert [name for name, choice in found.items() if choice.usable] == ["onnxruntime"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert usable_engines(L4) == ["tensorrt", "onnxruntime-cuda", "onnxruntime"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert usable_engines(L4) == ["tensorrt", "onnxruntime"]


def test_a_driver_older_than_tensorrts_cuda_is_said_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu().install(monkeypatch)
    packed = {"tensorrt-cu13"}
    monkeypatch.setattr("engines.host.available._has_distribution", lambda name: name in packed)
    old = Gpu("NVIDIA L4", "8.9", "12.4", "550.54.14")
    (choice,) = (choice for choice in choices(old) if choice.engine == "tensorrt")
    assert "tensorrt for CUDA 13 is installed and the driver serves CUDA 12.4: update the driver" in choice.why
    assert "[tensorrt-cu12]" in choice.why
    packed.add("tensorrt-cu12")
    assert "tensorrt" in usable_engines(old)


def test_a_module_without_a_spec_counts_as_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a half-removed package; looking for it raises ValueError."""
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    (choice,) = (choice for choice in choices(L4) if choice.engine == "tensorrt")
    assert "tensorrt not installed" in choice.why
    sys.modules["tensorrt"].__spec__ = ModuleSpec("tensorrt", None)
    assert "tensorrt" not in usable_engines(L4)
    sys.modules["tensorrt"].Runtime = object
    assert "tensorrt" in usable_engines(L4)
