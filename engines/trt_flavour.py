"""The two members of the TensorRT family, which have one Python API, and what this machine can do with each."""

import importlib
import importlib.util
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
from engines.available import available_engines
from engines.cuda_device import Gpu, find_gpu

WORDS = 600  # characters of TensorRT's own message that a sentence passes on
LEAN_MODULE = "tensorrt_lean"
POLYGRAPHY_SWITCH = "POLYGRAPHY_USE_TENSORRT_RTX"
FlavourName = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One member of the family.

    Attributes:
        name: on the command line, in sidecars and reports.
        title: for sentences.
        module: to import.
        suffix: of its plans.
        versions: the first that works and the first that is not known to.
        install: the command that brings it.
        builds_without_gpu: whether a machine without a GPU can build its plans.
    """

    name: FlavourName
    title: str
    module: str
    suffix: str
    versions: tuple[tuple[int, int], tuple[int, int]]
    install: str
    builds_without_gpu: bool


TENSORRT = Flavour(
    name="tensorrt",
    title="TensorRT",
    module="tensorrt",
    suffix=".plan",
    versions=((10, 12), (12, 0)),
    install="pip install 'cliphand[tensorrt]' --extra-index-url https://pypi.nvidia.com",
    builds_without_gpu=False,
)
TENSORRT_RTX = Flavour(
    name="tensorrt-rtx",
    title="TensorRT for RTX",
    module="tensorrt_rtx",
    suffix=".rtx.plan",
    versions=((1, 7), (2, 0)),
    install="pip install 'cliphand[tensorrt-rtx]'",
    builds_without_gpu=True,
)
FLAVOURS: dict[str, Flavour] = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}


def load_tensorrt(flavour: Flavour, *, lean: bool = False) -> ModuleType:
    """Import the flavour's module, or with `lean` TensorRT's lean runtime where the whole is not installed.

    Raises:
        InputError: it is not installed, does not load, or has a version outside the bounds.
    """
    lean = lean and flavour is TENSORRT and importlib.util.find_spec(flavour.module) is None
    try:
        trt = importlib.import_module(LEAN_MODULE if lean else flavour.module)
    except (ImportError, OSError) as error:  # an OSError where its libraries are missing
        raise unusable(flavour.title, error, install=flavour.install) from None
    first, beyond = flavour.versions
    version = tuple(int(number) for number in re.findall(r"\d+", trt.__version__)[:2])
    require(
        first <= version < beyond,
        f"{flavour.title} {trt.__version__} is installed; this project runs {first[0]}.{first[1]} up to, not "
        f"including, {beyond[0]}.{beyond[1]}: {flavour.install}",
    )
    return trt


def load_polygraphy(flavour: Flavour) -> ModuleType:
    """Import Polygraphy's TensorRT backend, which serves one flavour per process.

    Raises:
        InputError: it is not installed, or this process uses it for the other flavour.
    """
    wanted = flavour is TENSORRT_RTX
    if "polygraphy" not in sys.modules:
        os.environ[POLYGRAPHY_SWITCH] = "1" if wanted else "0"  # it is read once, at the import
    try:
        used = importlib.import_module("polygraphy.config").USE_TENSORRT_RTX
        backend = importlib.import_module("polygraphy.backend.trt")
    except ImportError as error:
        raise unusable("Polygraphy", error, install=flavour.install) from None
    require(
        used == wanted,
        f"Polygraphy serves one TensorRT flavour per process, and this one did not begin with {flavour.name}; build in "
        f"a new process, with {POLYGRAPHY_SWITCH}={int(wanted)} where it is set.",
    )
    return backend


def why_not_built(flavour: Flavour, *, gpu: Callable[[], Gpu | str] = find_gpu) -> str | None:
    """Why this machine cannot build the flavour's plans, as half a sentence; None where it can."""
    for module in (flavour.module, "polygraphy"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed: {flavour.install}"
    try:
        load_tensorrt(flavour)
    except InputError as error:
        return str(error).rstrip(".")
    found = None if flavour.builds_without_gpu else gpu()
    return f"it builds only on the GPU that will run the plans, and {found}" if isinstance(found, str) else None


def unusable(what: str, error: Exception, *, install: str) -> InputError:
    """The error about something that cannot be imported: why, what to install, and what runs here without it."""
    reason, others = " ".join(str(error).split()), available_engines(find_gpu())
    return InputError(f"{what} cannot be used here ({reason}): {install}; engines that run here: {others}.")


def cache_folder() -> Path:
    """Where timing caches and just-in-time kernels are kept between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "cliphand" / "tensorrt"
