"""Facts about the machine that a time depends on."""

import os
import platform
import sys
from pathlib import Path
from types import ModuleType

GIB = 2**30
CPU_INFO = Path("/proc/cpuinfo")


def machine_facts() -> dict[str, object]:
    """Processor, cores this process may use, memory, load, operating system, GPU.

    The GPU is named only where PyTorch is loaded already and sees one: looking would import it for nothing.
    """
    return {
        "cpu": cpu_name(CPU_INFO),
        "cores": usable_cores(),
        "memory_gib": memory_gib(),
        "load": load(),
        "os": platform.platform(),
        "gpu": gpu_name(sys.modules.get("torch")),
    }


def cpu_name(cpu_info: Path) -> str:
    """The processor as Linux's `cpu_info` file names it, else as Python does."""
    try:
        lines = cpu_info.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that the scheduler gives this process."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return os.cpu_count() or 1 if affinity is None else len(affinity(0))


def memory_gib() -> float | None:
    """Physical memory, or None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1)
    except (AttributeError, ValueError, OSError):
        return None


def load() -> float | None:
    """Processes that ran or wanted to in the last minute, or None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 1)
    except (AttributeError, OSError):
        return None


def gpu_name(torch: ModuleType | None) -> str | None:
    """Name of the first CUDA device that a loaded PyTorch sees."""
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))
