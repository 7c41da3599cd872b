"""Which run-times can be used here, and which of them is the first choice; nothing heavy is imported to find out."""

import importlib.util
from dataclasses import dataclass

from engines.cuda_device import Gpu


@dataclass(frozen=True, slots=True)
class RunTime:
    """One engine.

    Attributes:
        engine: as reports print it.
        modules: that it needs.
        needs_gpu: whether it runs on an NVIDIA GPU only.
        why: what speaks for it.
    """

    engine: str
    modules: tuple[str, ...]
    needs_gpu: bool
    why: str


# Best first. On a CPU as measured with resnet50 at 256 px on two cores (OpenVINO 20 to 35 ms, ONNX Runtime 33 to 36,
# AOTInductor 42, PyTorch 59); on a GPU in the order in which they fuse.
RUN_TIMES = (
    RunTime("tensorrt", ("tensorrt", "pycuda", "cuda"), needs_gpu=True, why="plans built for this very GPU"),
    RunTime("tensorrt-rtx", ("tensorrt_rtx", "pycuda", "cuda"), needs_gpu=True, why="portable plans, finished here"),
    RunTime("openvino", ("openvino",), needs_gpu=False, why="the fastest measured on CPUs, INT8 above all"),
    RunTime("onnxruntime", ("onnxruntime",), needs_gpu=False, why="runs every exported graph everywhere"),
    RunTime("inductor", ("torch",), needs_gpu=False, why="compiled ahead of time, loads without the model's code"),
    RunTime("pytorch", ("torch",), needs_gpu=False, why="the reference"),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and whether this machine can use it; `why` speaks for it, or says what is missing."""

    engine: str
    usable: bool
    why: str


def choices(gpu: Gpu | str) -> list[Choice]:
    """Every engine, best first.

    Args:
        gpu: from `engines.cuda_device.find_gpu`.
    """
    found = []
    for run_time in RUN_TIMES:
        missing = [name for name in run_time.modules if importlib.util.find_spec(name) is None]
        reasons = [f"{', '.join(missing)} not installed"] if missing else []
        if run_time.needs_gpu and isinstance(gpu, str):
            reasons.append(gpu)
        found.append(Choice(run_time.engine, not reasons, "; ".join(reasons) or run_time.why))
    return found


def available_engines(gpu: Gpu | str) -> str:
    """Names of the engines that this machine can use, best first, for a sentence."""
    return ", ".join(choice.engine for choice in choices(gpu) if choice.usable)
