"""The two members of the TensorRT family, and what this machine can do with each.

Both have one Python API. Polygraphy, which drives the builder, serves one of them per process; therefore plans are
built in processes of their own (`engines.trt_build`).
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from cliphand.errors import InputError
from engines.available import available_engines
from engines.cuda_device import Gpu, find_gpu

LEAN_MODULE = "tensorrt_lean"
POLYGRAPHY_SWITCH = "POLYGRAPHY_USE_TENSORRT_RTX"


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

    name: str
    title: str
    module: str
    suffix: str
    versions: tuple[tuple[int, ...], tuple[int, ...]]
    install: str
    builds_without_gpu: bool


TENSORRT = Flavour(
    name="tensorrt",
    title="TensorRT",
    module="tensorrt",
    suffix=".plan",
    versions=((10, 12), (12,)),
    install="pip install 'cliphand[tensorrt]' --extra-index-url https://pypi.nvidia.com",
    builds_without_gpu=False,
)
TENSORRT_RTX = Flavour(
    name="tensorrt-rtx",
    title="TensorRT for RTX",
    module="tensorrt_rtx",
    suffix=".rtx.plan",
    versions=((1, 7), (2,)),
    install="pip install 'cliphand[tensorrt-rtx]'",
    builds_without_gpu=True,
)
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}


def flavour_named(name: str) -> Flavour:
    """The flavour called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in FLAVOURS:
        raise InputError(f"TensorRT's flavour is {name!r}; valid are {sorted(FLAVOURS)}.")
    return FLAVOURS[name]


def load_tensorrt(flavour: Flavour, *, lean: bool = False) -> ModuleType:
    """Import the flavour's module.

    Args:
        flavour: to import.
        lean: whether TensorRT's lean runtime, which only runs version-compatible plans, will do where the whole is
            not installed.

    Raises:
        InputError: it is not installed, does not load, or has a version outside the bounds.
    """
    lean = lean and flavour is TENSORRT and importlib.util.find_spec(flavour.module) is None
    try:
        trt = importlib.import_module(LEAN_MODULE if lean else flavour.module)
    except (ImportError, OSError) as error:  # an OSError where its libraries are missing
        raise _missing(flavour.title, str(error), install=flavour.install) from None
    first, beyond = flavour.versions
    if not first <= _numbers(trt.__version__) < beyond:
        raise InputError(
            f"{flavour.title} {trt.__version__} is installed; this project runs {_spell(first)} up to, not including, "
            f"{_spell(beyond)}: {flavour.install}"
        )
    return trt


def load_polygraphy(flavour: Flavour) -> ModuleType:
    """Import Polygraphy's TensorRT backend for a flavour.

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
        raise _missing("Polygraphy", str(error), install=flavour.install) from None
    if used != wanted:
        raise InputError(
            f"Polygraphy serves one TensorRT flavour per process, and this one did not begin with {flavour.name}; "
            f"build in a new process, with {POLYGRAPHY_SWITCH}={int(wanted)} where it is set."
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
    found = "" if flavour.builds_without_gpu else gpu()
    if isinstance(found, str) and found:
        return f"it builds only on the GPU that will run the plans, and {found}: build there"
    return None


def cache_folder() -> Path:
    """Where timing caches and just-in-time kernels are kept between runs."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "cliphand" / "tensorrt"


def _missing(what: str, error: str, *, install: str) -> InputError:
    reason = " ".join(error.split())
    return InputError(
        f"{what} cannot be used here ({reason}): {install}; engines that run here: {available_engines(find_gpu())}."
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version, for comparison."""
    numbers = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _spell(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
