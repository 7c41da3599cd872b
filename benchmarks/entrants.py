"""The engines that a benchmark compares: PyTorch from the checkpoint, then every model file of the export."""

import importlib.util
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cliphand.config import require
from cliphand.errors import InputError
from engines.base import Engine
from engines.manifest import Manifest, checkpoint_path
from engines.open import ENGINES, open_engine

REFERENCE = "pytorch"  # key of the engine that all others are compared with
BYTES_PER_MB = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Entrant:
    """An opened engine.

    Attributes:
        engine: open until the stack it was entered on closes.
        artefact: its file.
        size_mb: of the model file; for PyTorch of the weights in memory, since a checkpoint holds more than those.
    """

    engine: Engine
    artefact: str
    size_mb: float


def open_entrants(
    export: Path, manifest: Manifest, stack: ExitStack, *, threads: int | None, checkpoint: Path | None
) -> tuple[dict[str, Entrant], tuple[str, ...]]:
    """Open PyTorch and every model file.

    Args:
        export: folder that `cliphand export` wrote.
        manifest: its manifest.
        stack: closes the engines.
        threads: of one call; None leaves the choice to each run-time.
        checkpoint: of the PyTorch engine; None takes the one that the manifest records.

    Returns:
        Entrants by `REFERENCE` or file name, and a sentence for each that is left out.

    Raises:
        InputError: a file is missing or is not the one that was exported, or nothing can be run here.
    """
    entrants: dict[str, Entrant] = {}
    omitted: list[str] = []
    reference = _open_reference(export, manifest, stack, threads=threads, checkpoint=checkpoint)
    if isinstance(reference, str):
        omitted.append(reference)
    else:
        entrants[REFERENCE] = reference
    for name, artefact in manifest.artefacts.items():
        path = export / name
        if path.suffix not in ENGINES:
            omitted.append(f"{name} is left out: no engine here runs {path.suffix!r} files")
            continue
        engine = stack.enter_context(open_engine(path, threads=threads))
        entrants[name] = Entrant(engine, artefact=name, size_mb=artefact.bytes / BYTES_PER_MB)
    require(len(entrants) > 0, f"nothing in {export} can be run here ({'; '.join(omitted)}); export again.")
    return entrants, tuple(omitted)


def exported_key(entrants: dict[str, Entrant]) -> str:
    """Key of the entrant that stands for the export: its first model file, else PyTorch."""
    return next((key for key in entrants if key != REFERENCE), REFERENCE)


def _open_reference(
    export: Path, manifest: Manifest, stack: ExitStack, *, threads: int | None, checkpoint: Path | None
) -> Entrant | str:
    """The PyTorch entrant, or why it is left out."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is left out: torch is not installed"
    path = checkpoint or checkpoint_path(manifest, export)
    if not path.exists():
        require(checkpoint is None, f"{path} does not exist; give the checkpoint that was exported.")
        return f"PyTorch is left out: its checkpoint {path} does not exist; name it with --checkpoint"
    from engines.eager import EagerEngine

    engine = stack.enter_context(open_engine(path, threads=threads))
    if not isinstance(engine, EagerEngine):
        raise InputError(f"{path} is not a checkpoint; give a folder that `cliphand train` wrote.")
    given, valid = engine.checkpoint.sha256, manifest.checkpoint.sha256
    require(
        given == valid,
        f"{path} is not the checkpoint that was exported (sha256 {given[:12]}, not {valid[:12]}); export it again, or "
        "name the right one with --checkpoint.",
    )
    n_bytes = sum(tensor.nbytes for tensor in engine.checkpoint.model.state_dict().values())
    return Entrant(engine, artefact=str(path), size_mb=n_bytes / BYTES_PER_MB)
