"""What a benchmark compares: PyTorch from the checkpoint, then every model file in every engine that runs it."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cliphand.config import require
from cliphand.errors import InputError, UnavailableError
from engines.artefact.manifest import Manifest, checkpoint_path
from engines.base import NATIVE_CODE, Engine
from engines.host.available import BY_NAME, package_fault, probe, usable_engines
from engines.host.cuda_device import find_gpu
from engines.open import NATIVE, REJECTED, RUNNERS, file_kind, open_engine

REFERENCE = "pytorch"  # key of the engine that all others are compared with
BYTES_PER_MB = 1e6
DEFAULT_RUNNERS = ("onnxruntime",)
# Engines that would repeat another row under another name: OpenVINO computes an FP16 graph in float32 or in bfloat16.
POINTLESS = {("openvino", "fp16"), ("openvino-reduced", "fp16")}
Kind = Literal["reference", "artefact", "baseline"]


@dataclass(frozen=True, slots=True, eq=False)
class Contestant:
    """An opened engine.

    Attributes:
        engine: open until the stack it was entered on closes.
        artefact: its file.
        size_mb: of the model file; for PyTorch of the weights in memory, since a checkpoint holds more than those.
        kind: what it is in the comparison.
        runner: name that `engines.open` opens it by; empty where it is no file.
        threads: of one call; None left the choice to the run-time.
        path: of its file; None where it is none.
        sha256: of its file; None where it is none.
        layers: of a plan, how many of its layers have the precision that its name promises.
    """

    engine: Engine
    artefact: str
    size_mb: float
    kind: Kind = "artefact"
    runner: str = ""
    threads: int | None = None
    path: Path | None = None
    sha256: str | None = None
    layers: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row of the matrix that could not be measured.

    Attributes:
        key: the file's name, as it would name the row.
        engine: that would have run it.
        precision: of its graph, `unstated` where its sidecar cannot be read.
        reason: half a sentence.
        broken: whether the engine works here and refuses the file.
    """

    key: str
    engine: str
    precision: str
    reason: str
    broken: bool = False

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.key.partition(", ")[0]


def installed_runners() -> tuple[str, ...]:
    """Engines for ONNX graphs that this machine can use, the portable one first."""
    usable = usable_engines(find_gpu(), kind=".onnx")
    return tuple(name for name in RUNNERS[".onnx"] if name in usable)


def open_contestants(
    export: Path,
    manifest: Manifest,
    stack: ExitStack,
    *,
    threads: int | None,
    checkpoint: Path | None,
    runners: Sequence[str] = DEFAULT_RUNNERS,
    rejected: bool = False,
    trust: bool = False,
    skipped: list[Skipped] | None = None,
) -> tuple[dict[str, Contestant], tuple[str, ...]]:
    """Open PyTorch and every model file.

    Args:
        export: folder that `cliphand export` wrote.
        manifest: its manifest.
        stack: closes the engines.
        threads: of one call; None leaves the choice to each run-time.
        checkpoint: of the PyTorch engine; None takes the one that the manifest records.
        runners: engines for ONNX graphs, of those that `engines.open` lists.
        rejected: whether graphs that failed the gate run as well.
        trust: whether packages of native code are opened.
        skipped: gets the files that their engine refuses; without it the first of them ends everything.

    Returns:
        Contestants by `REFERENCE`, file name, or file name and engine, and a sentence for each that is left out.

    Raises:
        InputError: a file is missing or is not the one that was exported, or nothing can be run here.
    """
    contestants: dict[str, Contestant] = {}
    omitted: list[str] = []
    reference = _open_reference(export, manifest, stack, threads=threads, checkpoint=checkpoint)
    if isinstance(reference, str):
        omitted.append(reference)
    else:
        contestants[REFERENCE] = reference
    for name in manifest.artefacts:
        found = _open_artefact(
            export, manifest, name, stack, threads=threads, runners=runners, rejected=rejected, trust=trust
        )
        for key, contestant in found.items():
            if isinstance(contestant, Skipped):
                if skipped is None:
                    raise InputError(f"{contestant.reason}.")
                skipped.append(contestant)
            elif isinstance(contestant, str):
                omitted.append(contestant)
            else:
                contestants[key] = contestant
    reasons = [*omitted, *(one.reason for one in skipped or ())]
    require(len(contestants) > 0, f"nothing in {export} can be run here ({'; '.join(reasons)}); export again.")
    return contestants, tuple(omitted)


def exported_key(contestants: dict[str, Contestant]) -> str:
    """Key of the contestant that stands for the export: its first model file, else PyTorch."""
    return next((key for key, contestant in contestants.items() if contestant.kind == "artefact"), REFERENCE)


def _open_artefact(
    export: Path,
    manifest: Manifest,
    name: str,
    stack: ExitStack,
    *,
    threads: int | None,
    runners: Sequence[str],
    rejected: bool,
    trust: bool,
) -> dict[str, Contestant | Skipped | str]:
    """A model file in every engine for it, or why it is left out."""
    path, artefact = export / name, manifest.artefacts[name]
    if path.suffix == REJECTED and not rejected:
        return {name: f"{name} is left out: it failed the gate in millimetres; --rejected runs it nevertheless"}
    if file_kind(path) not in RUNNERS:
        return {name: f"{name} is left out: no engine here runs {path.suffix!r} files"}
    known = RUNNERS[file_kind(path)]
    if file_kind(path) in NATIVE and not trust:
        return {name: f"{name} is left out: {NATIVE_CODE.rstrip('.')}"}
    gpu = find_gpu()
    found: dict[str, Contestant | Skipped | str] = {}
    for runner in [item for item in runners if item in known] or list(known)[:1]:
        key = name if runner == next(iter(known)) else f"{name}, {runner}"
        if (runner, artefact.precision) in POINTLESS:
            continue
        if not (choice := probe(BY_NAME[runner], gpu)).usable:
            found[key] = f"{key} is left out: {choice.why}"
            continue
        try:
            engine = stack.enter_context(
                open_engine(path, threads=threads, engine=runner, rejected=rejected, trust=trust)
            )
        except UnavailableError as error:
            found[key] = f"{key} is left out: {error}"
            continue
        except InputError as error:
            found[key] = Skipped(key, runner, artefact.precision, str(error).rstrip("."), broken=True)
            continue
        found[key] = Contestant(
            engine,
            artefact=name,
            size_mb=artefact.bytes / BYTES_PER_MB,
            runner=runner,
            threads=threads,
            path=path,
            sha256=artefact.sha256,
        )
    return found


def _open_reference(
    export: Path, manifest: Manifest, stack: ExitStack, *, threads: int | None, checkpoint: Path | None
) -> Contestant | str:
    """The PyTorch contestant, or why it is left out."""
    if (fault := package_fault("pytorch")) is not None:
        return f"PyTorch is left out: {fault}"
    path = checkpoint or checkpoint_path(manifest, export)
    if not path.exists():
        require(checkpoint is None, f"{path} does not exist; give the checkpoint that was exported.")
        return f"PyTorch is left out: its checkpoint {path} does not exist; name it with --checkpoint"
    from engines.runtimes.eager import EagerEngine

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
    return Contestant(
        engine,
        artefact=str(path),
        size_mb=n_bytes / BYTES_PER_MB,
        kind="reference",
        runner="pytorch",
        threads=threads,
        path=path,
    )
