"""Which engines can be used here, in the one order that `doctor`, `predict` and `bench` follow."""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass

from cliphand.extras import install_extra
from engines.cuda_device import Gpu


@dataclass(frozen=True, slots=True)
class RunTime:
    """One engine.

    Attributes:
        engine: its name on the command line, in `engines.open` and in reports.
        kind: ending of the files that it runs.
        modules: that it needs.
        install: the command that brings them.
        why: what speaks for it.
        precisions: of the graphs that it runs, best first, where nothing was measured; none where it is only taken by
            name or after a measurement.
        needs_gpu: whether it runs on an NVIDIA GPU only.
    """

    engine: str
    kind: str
    modules: tuple[str, ...]
    install: str
    why: str
    precisions: tuple[str, ...] = ()
    needs_gpu: bool = False


WHOLE = "`pip install -e .` in the checkout of cliphand"
NVIDIA_INDEX = "https://pypi.nvidia.com"
# Best first. On a CPU as measured with resnet50 at 256 px on two cores (OpenVINO 20 to 35 ms, ONNX Runtime 33 to 36,
# AOTInductor 42, PyTorch 59), where ONNX Runtime runs INT8 slower than FP32; on a GPU in the order in which they fuse.
RUN_TIMES = (
    RunTime(
        "tensorrt",
        ".plan",
        ("tensorrt",),
        install_extra("tensorrt", index=NVIDIA_INDEX),
        "plans built for this very GPU",
        ("fp16", "int8", "fp32"),
        needs_gpu=True,
    ),
    RunTime(
        "tensorrt-rtx",
        ".plan",
        ("tensorrt_rtx",),
        install_extra("tensorrt-rtx"),
        "portable plans, finished here",
        ("fp16", "int8", "fp32"),
        needs_gpu=True,
    ),
    RunTime(
        "onnxruntime-cuda",
        ".onnx",
        ("onnxruntime",),
        "`pip install onnxruntime-gpu` in place of onnxruntime",
        "runs every exported graph on the GPU",
        ("fp16", "fp32"),
        needs_gpu=True,
    ),
    RunTime(
        "openvino",
        ".onnx",
        ("openvino",),
        install_extra("openvino"),
        "the fastest measured on CPUs, INT8 above all",
        ("int8", "fp32"),
    ),
    RunTime(
        "onnxruntime",
        ".onnx",
        ("onnxruntime",),
        WHOLE,
        "runs every exported graph everywhere",
        ("fp32", "fp16"),
    ),
    RunTime(
        "openvino-reduced", ".onnx", ("openvino",), install_extra("openvino"), "bfloat16 where the processor has it"
    ),
    RunTime("inductor", ".pt2", ("torch",), WHOLE, "compiled ahead of time, loads without the model's code"),
    RunTime("pytorch", ".safetensors", ("torch",), WHOLE, "the reference"),
)
CUDA_MAJORS = (12, 13)  # for which TensorRT is packed: `tensorrt-cu12`, `tensorrt-rtx-cu13`, ...
PROVIDER = "CUDAExecutionProvider"  # that onnxruntime-cuda needs within ONNX Runtime


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and whether this machine can use it; `why` speaks for it, or says what is missing and what to do."""

    engine: str
    usable: bool
    why: str


def choices(gpu: Gpu | str, *, imported: bool = False) -> list[Choice]:
    """Every engine, best first.

    Args:
        gpu: from `engines.cuda_device.find_gpu`.
        imported: try what is installed by importing it, which takes seconds.
    """
    found = []
    for run_time in RUN_TIMES:
        why_not = _why_not(run_time, gpu, imported=imported)
        found.append(Choice(run_time.engine, why_not is None, why_not or run_time.why))
    return found


def usable_engines(gpu: Gpu | str) -> list[str]:
    """Names of the engines that this machine can use, best first."""
    return [choice.engine for choice in choices(gpu) if choice.usable]


def is_installed(module: str) -> bool:
    """Whether a module can be found; one whose packages are damaged cannot."""
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # finding imports the packages above it, and they may do anything
        return False


def import_fault(module: str) -> str | None:
    """Why a module that is installed does not import, as half a sentence; None where it does."""
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a package does at its import
        return f"{module} is broken ({' '.join(f'{type(error).__name__}: {error}'.split())})"
    return None


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


def _why_not(run_time: RunTime, gpu: Gpu | str, *, imported: bool) -> str | None:
    """What is missing, and the remedy."""
    lacking = [name for name in run_time.modules if not is_installed(name)]
    reasons = [f"{', '.join(lacking)} not installed: {run_time.install}"] if lacking else []
    if run_time.needs_gpu and isinstance(gpu, str):
        reasons.append(gpu)
    if reasons:
        return "; ".join(reasons)
    if run_time.needs_gpu and isinstance(gpu, Gpu) and (fault := driver_fault(run_time.engine, gpu)) is not None:
        return fault
    if imported or run_time.engine == "onnxruntime-cuda":
        faults = [fault for name in run_time.modules if (fault := import_fault(name)) is not None]
        if faults:
            return f"{'; '.join(faults)}: {run_time.install}"
    if run_time.engine == "onnxruntime-cuda":
        providers = importlib.import_module("onnxruntime").get_available_providers()
        return None if PROVIDER in providers else f"this ONNX Runtime has no {PROVIDER}: {run_time.install}"
    return None
