"""Which engines can be used here, in the one order that `doctor`, `predict` and `bench` follow."""

import functools
import importlib
import importlib.metadata
import importlib.util
import traceback
from dataclasses import dataclass

from cliphand.extras import install_extra
from engines.host.cuda_device import REINSTALL, Gpu


@dataclass(frozen=True, slots=True)
class RunTime:
    """One engine.

    Attributes:
        engine: its name on the command line, in `engines.open` and in reports.
        kind: ending of the files that it runs.
        module: that it needs.
        part: of the module that it calls first; where half of a package is installed, it is not there.
        install: the command that brings them.
        why: what speaks for it.
        precisions: of the graphs that it runs, best first, where nothing was measured; none where it is only taken by
            name or after a measurement.
        needs_gpu: whether it runs on an NVIDIA GPU only.
    """

    engine: str
    kind: str
    module: str
    part: str
    install: str
    why: str
    precisions: tuple[str, ...] = ()
    needs_gpu: bool = False


WHOLE = "`pip install -e .` in the checkout of cliphand"
COMPILERS = ("c++", "g++", "clang++", "cl")  # one of which AOTInductor needs
TRAIN = install_extra("train")
NVIDIA_INDEX = "https://pypi.nvidia.com"
# Best first. On a CPU as measured with resnet50 at 256 px on two cores (OpenVINO 20 to 35 ms, ONNX Runtime 33 to 36,
# AOTInductor 42, PyTorch 59), where ONNX Runtime runs INT8 slower than FP32; on a GPU in the order in which they fuse.
RUN_TIMES = (
    RunTime(
        "tensorrt",
        ".plan",
        "tensorrt",
        "Runtime",
        install_extra("tensorrt", index=NVIDIA_INDEX),
        "plans built for this very GPU",
        ("fp16", "int8", "fp32"),
        needs_gpu=True,
    ),
    RunTime(
        "tensorrt-rtx",
        ".plan",
        "tensorrt_rtx",
        "Runtime",
        install_extra("tensorrt-rtx"),
        "portable plans, finished here",
        ("fp16", "int8", "fp32"),
        needs_gpu=True,
    ),
    RunTime(
        "onnxruntime-cuda",
        ".onnx",
        "onnxruntime",
        "InferenceSession",
        "`pip install onnxruntime-gpu` in place of onnxruntime",
        "runs every exported graph on the GPU",
        ("fp16", "fp32"),
        needs_gpu=True,
    ),
    RunTime(
        "openvino",
        ".onnx",
        "openvino",
        "Core",
        install_extra("openvino"),
        "the fastest measured on CPUs, INT8 above all",
        ("int8", "fp32"),
    ),
    RunTime(
        "onnxruntime",
        ".onnx",
        "onnxruntime",
        "InferenceSession",
        WHOLE,
        "runs every exported graph everywhere",
        ("fp32", "fp16", "int8"),
    ),
    RunTime(
        "openvino-reduced",
        ".onnx",
        "openvino",
        "Core",
        install_extra("openvino"),
        "bfloat16 where the processor has it",
    ),
    RunTime(
        "inductor", ".pt2", "torch", "inference_mode", TRAIN, "compiled ahead of time, loads without the model's code"
    ),
    RunTime("pytorch", ".safetensors", "torch", "inference_mode", TRAIN, "the reference"),
)
BY_NAME = {run_time.engine: run_time for run_time in RUN_TIMES}
CUDA_MAJORS = (12, 13)  # for which TensorRT is packed: `tensorrt-cu12`, `tensorrt-rtx-cu13`, ...
PROVIDER = "CUDAExecutionProvider"  # that onnxruntime-cuda needs within ONNX Runtime


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and whether this machine can use it; `why` speaks for it, or says what is missing and what to do."""

    engine: str
    usable: bool
    why: str


def choices(gpu: Gpu | str) -> list[Choice]:
    """Every engine, best first; what is installed is imported, which takes seconds where PyTorch is.

    Args:
        gpu: from `engines.host.cuda_device.find_gpu`.
    """
    return [probe(run_time, gpu) for run_time in RUN_TIMES]


def usable_engines(gpu: Gpu | str, *, kind: str | None = None) -> list[str]:
    """Names of the engines that this machine can use, best first; with `kind` of those for such files."""
    asked = [run_time for run_time in RUN_TIMES if kind in (None, run_time.kind)]
    return [run_time.engine for run_time in asked if probe(run_time, gpu).usable]


def probe(run_time: RunTime, gpu: Gpu | str) -> Choice:
    """Whether one engine works here: its module imports and has what is called, and its GPU answers.

    What imports stays imported, so that a second probe costs nothing; what needs a GPU is not imported without one.
    """
    why_not = _why_not(run_time, gpu)
    return Choice(run_time.engine, why_not is None, why_not or run_time.why)


def is_there(run_time: RunTime, gpu: Gpu | str) -> bool:
    """Whether an engine is installed and has the GPU that it needs, without importing it: it may still not work."""
    return is_installed(run_time.module) and not (run_time.needs_gpu and isinstance(gpu, str))


def package_fault(engine: str) -> str | None:
    """What is wrong with the package that an engine needs, with the remedy, as half a sentence; None where nothing."""
    run_time = BY_NAME[engine]
    if not is_installed(run_time.module):
        return f"{run_time.module} not installed: {run_time.install}"
    fault = import_fault(run_time.module, run_time.part)
    return None if fault is None else f"{fault.why}: {fault.remedy or run_time.install}"


def is_installed(module: str) -> bool:
    """Whether a module can be found; one whose packages are damaged cannot."""
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # finding imports the packages above it, and they may do anything
        return False


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a module that is installed cannot be used: half a sentence, and what to do where it is another that fails."""

    why: str
    remedy: str | None = None


def import_fault(module: str, part: str) -> Fault | None:
    """What is wrong with a module that is installed; None where it imports and has the part that is needed."""
    if (fault := raised_at_import(module)) is not None:
        return fault
    try:
        found = hasattr(importlib.import_module(module), part)
    except Exception:  # modules may compute their parts, and raise more than AttributeError
        found = False
    return None if found else Fault(f"{module} is broken (it has no {part})")


@functools.cache  # a second import of what failed says something else: PyTorch, that it cannot be imported twice
def raised_at_import(module: str) -> Fault | None:
    """What a module's first import raised."""
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a package does at its import
        words = " ".join(f"{type(error).__name__}: {error}".split())
        if _passed_through(error, "cuda"):
            return Fault(f"{module} does not load because cuda-bindings is broken ({words})", REINSTALL)
        return Fault(f"{module} is broken ({words})")
    return None


def _passed_through(error: Exception, package: str) -> bool:
    """Whether an error comes from a package's code, or from what that called."""
    names = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(name.partition(".")[0] == package for name in names)


def driver_fault(engine: str, gpu: Gpu) -> str | None:
    """Why the driver is too old for the TensorRT that is installed, as half a sentence; None where it is not."""
    packed = [major for major in CUDA_MAJORS if _has_distribution(f"{engine}-cu{major}")]
    served = int(gpu.cuda_version.partition(".")[0])
    if not packed or min(packed) <= served:
        return None
    older = install_extra(f"{engine}-cu{served}", index=NVIDIA_INDEX)
    return (
        f"{engine} for CUDA {min(packed)} is installed and the driver serves CUDA {gpu.cuda_version}: update the "
        f"driver, or take {older}"
    )


def _has_distribution(name: str) -> bool:
    """Whether a package's metadata are there and readable."""
    try:
        return bool(importlib.metadata.version(name))
    except Exception:  # a damaged METADATA raises more than PackageNotFoundError
        return False


def _why_not(run_time: RunTime, gpu: Gpu | str) -> str | None:
    """What is missing, and the remedy."""
    if run_time.needs_gpu and isinstance(gpu, str):
        lacking = "" if is_installed(run_time.module) else f"{run_time.module} not installed: {run_time.install}; "
        return f"{lacking}{gpu}"
    if (fault := package_fault(run_time.engine)) is not None:
        return fault
    if run_time.needs_gpu and isinstance(gpu, Gpu) and (fault := driver_fault(run_time.engine, gpu)) is not None:
        return fault
    if run_time.engine == "onnxruntime-cuda":
        providers = importlib.import_module("onnxruntime").get_available_providers()
        return None if PROVIDER in providers else f"this ONNX Runtime has no {PROVIDER}: {run_time.install}"
    return None
