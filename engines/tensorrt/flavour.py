"""The two members of the TensorRT family, which have one Python API, and what this machine can do with each."""

import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.extras import install_extra
from engines.host.available import NVIDIA_INDEX, driver_fault, is_installed, usable_engines
from engines.host.cuda_device import Gpu, find_gpu

WORDS = 600  # characters of TensorRT's own message that a sentence passes on
FlavourName = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One member of the family.

    Attributes:
        name: on the command line, in sidecars and reports.
        title: for sentences.
        suffix: of its plans.
        versions: the first that works and the first that is not known to.
        install: the command that brings it.
    """

    name: FlavourName
    title: str
    suffix: str
    versions: tuple[tuple[int, int], tuple[int, int]]
    install: str

    @property
    def module(self) -> str:
        """What to import."""
        return self.name.replace("-", "_")


TENSORRT = Flavour(
    name="tensorrt",
    title="TensorRT",
    suffix=".plan",
    versions=((10, 12), (12, 0)),
    install=install_extra("tensorrt", index=NVIDIA_INDEX),
)
TENSORRT_RTX = Flavour(
    name="tensorrt-rtx",
    title="TensorRT for RTX",
    suffix=".rtx.plan",
    versions=((1, 7), (2, 0)),
    install=install_extra("tensorrt-rtx"),
)
FLAVOURS: dict[str, Flavour] = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}


def load_tensorrt(flavour: Flavour, *, lean: bool = False) -> ModuleType:
    """Import the flavour's module, or with `lean` TensorRT's lean runtime where the whole is not installed.

    Raises:
        InputError: it is not installed, does not load, or has a version outside the bounds.
    """
    lean = lean and not is_installed(flavour.module)
    try:
        trt = importlib.import_module("tensorrt_lean" if lean else flavour.module)
        numbers = re.findall(r"\d+", trt.__version__)
    except Exception as error:  # an OSError where its libraries are missing, anything where a part of it is
        raise unusable(f"{flavour.title} cannot be used here ({error}): {flavour.install}") from None
    first, beyond = flavour.versions
    version = tuple(int(number) for number in numbers[:2])
    bounds = f"{first[0]}.{first[1]} up to, not including, {beyond[0]}.{beyond[1]}"
    known = first <= version < beyond
    require(known, f"{flavour.title} {trt.__version__} is installed; this project runs {bounds}: {flavour.install}")
    return trt


def load_polygraphy(flavour: Flavour) -> ModuleType:
    """Import Polygraphy's TensorRT backend, which serves one flavour per process.

    Raises:
        InputError: it is not installed, or this process uses it for the other flavour.
    """
    wanted = flavour is TENSORRT_RTX
    if "polygraphy" not in sys.modules:
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = str(int(wanted))  # it is read once, at the import
    try:
        used = importlib.import_module("polygraphy.config").USE_TENSORRT_RTX
        backend = importlib.import_module("polygraphy.backend.trt")
    except Exception as error:  # whatever a damaged package does at its import
        raise unusable(f"Polygraphy cannot be used here ({error}): {flavour.install}") from None
    require(
        used == wanted, f"Polygraphy serves one TensorRT flavour per process, here not {flavour.name}; use another."
    )
    return backend


def why_not_built(flavour: Flavour, *, gpu: Callable[[], Gpu | str] = find_gpu) -> str | None:
    """Why this machine cannot build the flavour's plans, as half a sentence; None where it can."""
    for module in (flavour.module, "polygraphy"):
        if not is_installed(module):
            return f"{module} is not installed: {flavour.install}"
    try:
        load_tensorrt(flavour)
    except InputError as error:
        return str(error).rstrip(".")
    if flavour is TENSORRT_RTX:
        return None  # it builds without a GPU
    found = gpu()
    if isinstance(found, str):
        return f"it builds only on the GPU that will run the plans, and {found}"
    return driver_fault(flavour.name, found)


def unusable(why: str) -> InputError:
    """The error about something that cannot be used: why, on one line, and what runs here without it."""
    return InputError(f"{' '.join(why.split())}; engines that run here: {', '.join(usable_engines(find_gpu()))}.")


def cache_folder() -> Path:
    """Where timing caches and just-in-time kernels are kept between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "cliphand" / "tensorrt"
