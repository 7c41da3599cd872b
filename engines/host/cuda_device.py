"""The first NVIDIA GPU of this machine, asked through the driver's own API: no PyTorch, and no context is made.

cuda-bindings reaches the driver from a wheel: neither a CUDA toolkit nor a compiler is needed. Where no GPU can be used
the reason is half a sentence with its remedy, whatever is broken.
"""

import importlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cliphand.errors import InputError

DRIVER_FILE = Path("/proc/driver/nvidia/version")
DEVICE_FILES = Path("/dev")
MODULE = "cuda.bindings.driver"
VERSIONS = ((12, 9), (14, 0))  # of cuda-bindings: the first that works and the first that is not known to
INSTALL = "pip install 'cuda-bindings>=12.9,<14'"
REINSTALL = "pip install --force-reinstall 'cuda-bindings>=12.9,<14'"
OLDEST_CUDA = 12000  # that a driver must serve
NO_LIBCUDA = re.compile("dlopen|libcuda|can only be found")
# What the driver's codes mean, and what to do. Any other is passed on as it is.
MEANINGS = {
    "CUDA_ERROR_NO_DEVICE": "there is no NVIDIA GPU",
    "CUDA_ERROR_OPERATING_SYSTEM": "the operating system keeps the GPU from the driver: restart the machine",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver and its kernel module differ in version: restart the machine",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "the CUDA compatibility package does not serve this GPU: remove it",
    "CUDA_ERROR_SYSTEM_NOT_READY": "the GPU's services are not ready: start nvidia-fabricmanager, or wait",
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and the software beneath it.

    Attributes:
        name: as the driver names it.
        compute_capability: `major.minor`.
        cuda_version: the newest that the driver serves.
        driver_version: of the kernel module, else the CUDA version.
    """

    name: str
    compute_capability: str
    cuda_version: str
    driver_version: str


class DriverError(InputError):
    """A call of the driver failed, for want of memory above all; the message says which and how."""


def call(driver: ModuleType, name: str, *arguments: object) -> object:
    """What a function of the driver gives, None where that is nothing.

    Raises:
        DriverError: its status is not success, or this driver does not have it.
    """
    try:
        status, *values = getattr(driver, name)(*arguments)
    except (AttributeError, RuntimeError) as error:  # an old driver lacks functions of a newer cuda-bindings
        raise DriverError(f"the GPU's driver has no {name} ({' '.join(str(error).split())})") from None
    if status != driver.CUresult.CUDA_SUCCESS:
        raise DriverError(f"the GPU's driver failed at {name}: {getattr(status, 'name', status)}")
    return values[0] if values else None


def open_driver() -> ModuleType | str:
    """The driver's API, initialised, or why it cannot be used, as half a sentence."""
    try:
        driver = importlib.import_module(MODULE)
        version = str(importlib.import_module("cuda.bindings").__version__)
        initialise = driver.cuInit
    except ModuleNotFoundError as error:
        return f"no GPU can be looked for without cuda-bindings ({error}): {INSTALL}"
    except Exception as error:  # whatever a broken package does at its import
        return f"cuda-bindings is broken ({_words(error)}): {REINSTALL}"
    if not VERSIONS[0] <= tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < VERSIONS[1]:
        return f"cuda-bindings {version} is installed, 12.9 up to 13 is needed: {INSTALL}"
    try:
        (status,) = initialise(0)
    except Exception as error:  # cuda-bindings found no libcuda, in words that changed between its versions
        words = "" if NO_LIBCUDA.search(str(error)) else f" ({_words(error)})"
        return f"there is no NVIDIA driver{words}: install the GPU's driver"
    if status != driver.CUresult.CUDA_SUCCESS:
        return _meaning(str(getattr(status, "name", status)))
    return driver


def find_gpu() -> Gpu | str:
    """The first GPU, or why none can be used, as half a sentence."""
    driver = open_driver()
    if isinstance(driver, str):
        return driver
    try:
        newest, count = _whole(driver, "cuDriverGetVersion"), _whole(driver, "cuDeviceGetCount")
        if newest < OLDEST_CUDA:
            return f"the driver serves CUDA {spell_cuda(newest)}, 12.0 is the least: install a newer driver"
        if count == 0:
            return _meaning("CUDA_ERROR_NO_DEVICE")
        device, kinds = call(driver, "cuDeviceGet", 0), driver.CUdevice_attribute
        name = call(driver, "cuDeviceGetName", 256, device)
        major, minor = (
            _whole(driver, "cuDeviceGetAttribute", kind, device)
            for kind in (
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
    except DriverError as error:
        return f"the GPU does not answer ({error})"
    return Gpu(
        name=name.decode(errors="replace").partition("\0")[0] if isinstance(name, bytes) else str(name),
        compute_capability=f"{major}.{minor}",
        cuda_version=spell_cuda(newest),
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


def _whole(driver: ModuleType, name: str, *arguments: object) -> int:
    """A whole number that the driver gives."""
    return int(str(call(driver, name, *arguments)))


def _meaning(status: str) -> str:
    """A status for people; the driver does not say that it may not open the GPU's files."""
    closed = [
        str(path)
        for path in (*DEVICE_FILES.glob("nvidiactl"), *DEVICE_FILES.glob("nvidia[0-9]*"))
        if not os.access(path, os.R_OK | os.W_OK)
    ]
    if closed:
        return f"{closed[0]} may not be opened ({status}): let this user read and write it"
    return MEANINGS.get(status, f"no NVIDIA GPU can be used ({status})")


def _words(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
