"""The first NVIDIA GPU of this machine, asked through cuda-python: no PyTorch, and no context is made."""

import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and the software beneath it.

    Attributes:
        name: as the driver names it.
        compute_capability: `major.minor`.
        cuda_version: of the CUDA runtime in use.
        driver_version: of the kernel module, else the newest CUDA that it serves.
    """

    name: str
    compute_capability: str
    cuda_version: str
    driver_version: str


def find_gpu() -> Gpu | str:
    """The first GPU, or why none can be used, as half a sentence."""
    if importlib.util.find_spec("cuda") is None:
        return "no GPU can be looked for without cuda-python"
    cuda = importlib.import_module("cuda.bindings.runtime")
    status, count = cuda.cudaGetDeviceCount()
    if status != cuda.cudaError_t.cudaSuccess:
        return f"no NVIDIA GPU can be used ({status.name})"
    if count == 0:
        return "there is no NVIDIA GPU"
    status, facts = cuda.cudaGetDeviceProperties(0)
    if status != cuda.cudaError_t.cudaSuccess:
        return f"the GPU does not answer ({status.name})"
    _, runtime = cuda.cudaRuntimeGetVersion()
    _, newest = cuda.cudaDriverGetVersion()
    return Gpu(
        name=facts.name.decode().rstrip("\0"),
        compute_capability=f"{facts.major}.{facts.minor}",
        cuda_version=spell_cuda(runtime),
        driver_version=driver_version(DRIVER_FILE) or f"CUDA {spell_cuda(newest)}",
    )


def spell_cuda(number: int) -> str:
    """CUDA's version number, 13020, as people write it, 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


def driver_version(file: Path) -> str | None:
    """The kernel module's version from the file in which it tells about itself, or None."""
    try:
        found = re.search(r"\s(\d{3}\.\d+(?:\.\d+)?)\s", file.read_text())
    except OSError:
        return None
    return found.group(1) if found else None
