"""Open a model file with the engine that runs it."""

import importlib
from pathlib import Path
from typing import Protocol, cast

from cliphand.errors import InputError, UnavailableError
from engines.artefact.manifest import MANIFEST_NAME, check_artefact, read_manifest
from engines.base import Engine
from engines.host.available import package_fault

# Engines of each kind of file by the name that asks for them: module and function. The first is the default.
RUNNERS: dict[str, dict[str, tuple[str, str]]] = {
    ".onnx": {
        "onnxruntime": ("engines.runtimes.ort", "load"),
        "onnxruntime-cuda": ("engines.runtimes.ort", "load_cuda"),
        "openvino": ("engines.runtimes.openvino_cpu", "load"),
        "openvino-reduced": ("engines.runtimes.openvino_cpu", "load_reduced"),
    },
    ".plan": {"tensorrt": ("engines.tensorrt.run", "load"), "tensorrt-rtx": ("engines.tensorrt.run", "load")},
    ".pt2": {"inductor": ("engines.runtimes.inductor", "load")},
    ".safetensors": {"pytorch": ("engines.runtimes.eager", "load")},
}
REJECTED = ".rejected"  # ends the name of a graph that failed the gate
CACHING = ("openvino", "openvino-reduced")  # engines that can keep what they compile
NATIVE = (".plan", ".pt2")  # files that can bring native code, which their engine runs only where it is trusted
LISTED = (".onnx", ".pt2")  # what the manifest describes; a plan has a sidecar of its own, which its engine reads
CHECKPOINT = ".safetensors"
PLAN = ".plan"
UNSTATED = "unstated"


class _Load(Protocol):
    """What `RUNNERS` names."""

    def __call__(self, path: Path, *, precision: str, threads: int | None) -> Engine:
        """Open `path`."""


class _CachingLoad(Protocol):
    """What `RUNNERS` names for the engines in `CACHING`."""

    def __call__(self, path: Path, *, precision: str, threads: int | None, cache: Path | None) -> Engine:
        """Open `path`, or take it from the cache."""


class _TrustingLoad(Protocol):
    """What `RUNNERS` names for the files in `NATIVE`."""

    def __call__(self, path: Path, *, precision: str, threads: int | None, trust: bool) -> Engine:
        """Open `path`, native code included where it is trusted."""


def file_kind(path: Path) -> str:
    """The ending that says which engines run a file, whether the file was rejected or not."""
    return Path(path.stem).suffix if path.suffix == REJECTED else path.suffix


def open_engine(
    path: Path,
    *,
    threads: int | None = None,
    engine: str | None = None,
    rejected: bool = False,
    cache: Path | None = None,
    trust: bool = False,
) -> Engine:
    """Open a model file (`.onnx`, `.plan`, `.pt2`), or a checkpoint (`.safetensors`, its folder or its run's).

    A file beside a `manifest.json` must be one that the manifest describes, to the byte.

    Args:
        path: the file or folder.
        threads: of one call; None leaves the choice to the run-time.
        engine: one that `RUNNERS` lists for such files; None takes the first.
        rejected: open a graph that failed the gate as well.
        cache: folder for compiled models of engines that can keep them; the others ignore it.
        trust: run the native code that a `.pt2` package or a version-compatible plan brings.

    Raises:
        UnavailableError: its engine does not work on this machine, whatever the file.
        InputError: no engine runs such a file, it is missing, was rejected, differs from its manifest, its engine
            refuses it, or it has other tensors.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; it must be at least 1.")
    if path.suffix == REJECTED and not rejected:
        raise InputError(f"{path} failed the gate in millimetres; export it again, or ask for rejected graphs.")
    runners = RUNNERS.get(CHECKPOINT if path.is_dir() else file_kind(path))
    if runners is None:
        raise InputError(
            f"{path} ends in {path.suffix!r}; engines run {', '.join(sorted(RUNNERS))} and checkpoint folders."
        )
    if engine is not None and engine not in runners:
        raise InputError(f"{path} does not run in {engine!r}; engines for it are {', '.join(sorted(runners))}.")
    if not path.exists():
        raise InputError(f"{path} does not exist; give a model file or a checkpoint.")
    precision, input_size = _declared(path)
    runner = engine or next(iter(runners))
    if file_kind(path) != PLAN and (fault := package_fault(runner)) is not None:  # a plan may run in a lean TensorRT
        raise UnavailableError(f"{runner} cannot be used here: {fault}.")
    module, function = runners[runner]
    load = getattr(importlib.import_module(module), function)
    if file_kind(path) in NATIVE:
        opened = cast("_TrustingLoad", load)(path, precision=precision, threads=threads, trust=trust)
    elif cache is not None and engine in CACHING:
        opened = cast("_CachingLoad", load)(path, precision=precision, threads=threads, cache=cache)
    else:
        opened = cast("_Load", load)(path, precision=precision, threads=threads)
    if input_size is not None and opened.input_size != input_size:
        opened.close()
        raise InputError(
            f"{path} takes crops of {opened.input_size} px but {MANIFEST_NAME} says {input_size}; export again."
        )
    return opened


def _declared(path: Path) -> tuple[str, int | None]:
    """Precision and input size that a manifest beside the file states."""
    if file_kind(path) not in LISTED or not (path.parent / MANIFEST_NAME).exists():
        return UNSTATED, None
    manifest = read_manifest(path.parent)
    return check_artefact(manifest, path).precision, manifest.input_size
