"""Open a model file with the engine that runs it."""

import importlib
from pathlib import Path
from typing import Protocol, cast

from cliphand.errors import InputError
from engines.base import Engine
from engines.manifest import MANIFEST_NAME, check_artefact, read_manifest

ENGINES = {
    ".onnx": "engines.ort",
    ".plan": "engines.trt_run",
    ".pt2": "engines.inductor",
    ".safetensors": "engines.eager",
}
LISTED = (".onnx", ".pt2")  # what the manifest describes; a plan has a sidecar of its own, which its engine reads
CHECKPOINT_FOLDER = "engines.eager"
UNSTATED = "unstated"


class _EngineModule(Protocol):
    """What a module in `ENGINES` offers."""

    def load(self, path: Path, *, precision: str, threads: int | None) -> Engine:
        """Open `path`."""


def open_engine(path: Path, *, threads: int | None = None) -> Engine:
    """Open a model file (`.onnx`, `.plan`, `.pt2`), or a checkpoint (`.safetensors` or its folder).

    A file beside a `manifest.json` must be one that the manifest describes, to the byte.

    Args:
        path: the file or folder.
        threads: of one call; None leaves the choice to the run-time.

    Raises:
        InputError: no engine runs such a file, it is missing, differs from its manifest, or has other tensors.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; it must be at least 1.")
    module = CHECKPOINT_FOLDER if path.is_dir() else ENGINES.get(path.suffix)
    if module is None:
        raise InputError(f"{path} ends in {path.suffix!r}; engines run {sorted(ENGINES)} and checkpoint folders.")
    if not path.exists():
        raise InputError(f"{path} does not exist; give a model file or a checkpoint.")
    precision, input_size = _declared(path)
    engine = cast("_EngineModule", importlib.import_module(module)).load(path, precision=precision, threads=threads)
    if input_size is not None and engine.input_size != input_size:
        engine.close()
        raise InputError(
            f"{path} takes crops of {engine.input_size} px but {MANIFEST_NAME} says {input_size}; export again."
        )
    return engine


def _declared(path: Path) -> tuple[str, int | None]:
    """Precision and input size that a manifest beside the file states."""
    if path.suffix not in LISTED or not (path.parent / MANIFEST_NAME).exists():
        return UNSTATED, None
    manifest = read_manifest(path.parent)
    return check_artefact(manifest, path).precision, manifest.input_size
