"""Which flavours this machine can build, and plans of a whole export folder, built in a process of their own.

The builder takes gigabytes, may end its process on an internal error, and Polygraphy serves one flavour per process:
none of that should reach the caller. A graph that cannot be built costs no other its plan.
"""

import multiprocessing
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import sha256_of, whole_file
from cliphand.lifeline import end_with_parent
from cliphand.progress import Progress
from engines.artefact.manifest import check_artefact, read_manifest
from engines.host.cuda_device import Gpu, find_gpu
from engines.tensorrt.build import build_bytes, inspect
from engines.tensorrt.flavour import FLAVOURS, TENSORRT, Flavour, load_tensorrt, unusable, why_not_built
from engines.tensorrt.layers import check_precision, proof_of
from engines.tensorrt.plan import (
    NOT_EXECUTED,
    BuildSettings,
    PlanKey,
    PlanRecord,
    check_settings,
    plan_path,
    reusable,
    write_record,
)

NO_GPU = "built without a GPU"


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan that now stands in the export folder; `reused` where an equal one stood there already."""

    path: Path
    record: PlanRecord
    reused: bool


@dataclass(frozen=True, slots=True)
class BuiltFolder:
    """What became of every graph.

    Attributes:
        plans: that stand now.
        failures: file name of a graph to why it has none, in TensorRT's words.
    """

    plans: tuple[BuiltPlan, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


Failure = tuple[str, str]  # a graph's file name, and why
Message = tuple[str, int, int] | BuiltPlan | Failure | InputError | None


def buildable_flavours(insisted: Collection[str] = ()) -> tuple[tuple[str, ...], str | None]:
    """The flavours whose plans this machine can build.

    Args:
        insisted: flavours without which the caller cannot go on.

    Returns:
        Their names, and one sentence about the others, None where there are none.

    Raises:
        InputError: an insisted flavour cannot be built here.
    """
    reasons = {name: why for name, flavour in FLAVOURS.items() if (why := why_not_built(flavour)) is not None}
    for name in insisted:
        if name in reasons:
            raise unusable(f"plans of {FLAVOURS[name].title} cannot be built here: {reasons[name]}")
    missing = " and ".join(f"of {FLAVOURS[name].title} ({why})" for name, why in reasons.items())
    buildable = tuple(name for name in FLAVOURS if name not in reasons)
    return buildable, f"Not built: plans {missing}." if missing else None


def build_plans(
    folder: Path, *, flavour: str, settings: BuildSettings | None = None, progress: Progress | None = None
) -> BuiltFolder:
    """Build a plan, with its sidecar, of every ONNX graph in an export folder; equal ones that stand there are kept.

    Args:
        folder: that `cliphand export` wrote; its manifest stays as it is.
        flavour: `tensorrt` or `tensorrt-rtx`.
        settings: of the build.
        progress: called with a phase of the builder, its steps done and its steps in all.

    Raises:
        InputError: the folder or a setting is refused, or the flavour cannot build here.
    """
    buildable_flavours((flavour,))
    left = [name for name in read_manifest(folder).artefacts if name.endswith(".onnx")]
    require(len(left) > 0, f"{folder} lists no ONNX graph; give a folder that `cliphand export` wrote.")
    plans: list[BuiltPlan] = []
    failures: dict[str, str] = {}
    while left:
        code = _build_apart(folder, flavour, settings or BuildSettings(), left, plans, failures, progress)
        if code is not None:
            how = f"ended its process while it built {folder / left[0]} (exit code {code}); its last words are above"
            failures[left.pop(0)] = f"{FLAVOURS[flavour].title} {how}"
    return BuiltFolder(tuple(plans), failures)


def _build_apart(
    folder: Path,
    flavour: str,
    settings: BuildSettings,
    left: list[str],
    plans: list[BuiltPlan],
    failures: dict[str, str],
    progress: Progress | None,
) -> int | None:
    """Build what is `left` in one process, taking each graph from it; the exit code where the process died."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_build, args=(theirs, folder, flavour, settings, tuple(left)))
    process.start()
    theirs.close()  # so that the pipe ends with the process
    try:
        while left:
            message: Message = ours.recv()
            if isinstance(message, InputError):
                raise message
            if isinstance(message, BuiltPlan):
                plans.append(message)
                left.pop(0)
            elif isinstance(message, tuple) and len(message) == 2:
                failures[message[0]] = message[1]
                left.pop(0)
            elif isinstance(message, tuple) and progress is not None:
                progress(*message)
    except EOFError:
        process.join()
        return process.exitcode
    finally:
        process.terminate()
        process.join()
        ours.close()
    return None


def _build(pipe: Connection, folder: Path, flavour: str, settings: BuildSettings, names: Sequence[str]) -> None:
    """The process: send every step, and each plan or why there is none."""
    end_with_parent()
    lock = Lock()  # TensorRT reports from several threads

    def send(message: Message) -> None:
        with lock:
            pipe.send(message)

    try:
        build_folder(folder, FLAVOURS[flavour], settings, names, send)
    except InputError as error:
        send(error)


def build_folder(
    folder: Path, flavour: Flavour, settings: BuildSettings, names: Sequence[str], send: Callable[[Message], None]
) -> None:
    """Build a plan of each graph named, in this process; see `engines.tensorrt.process.build_plans`.

    Raises:
        InputError: the folder or a setting is refused.
    """
    manifest, found = read_manifest(folder), find_gpu()
    gpu = found if isinstance(found, Gpu) else None
    check_settings(settings, flavour, gpu=gpu)
    version, checkpoint = load_tensorrt(flavour).__version__, manifest.checkpoint.sha256
    for name in names:
        try:
            graph = check_artefact(manifest, folder / name)
            key = PlanKey(flavour.name, graph.precision, checkpoint, graph.sha256, version, gpu, settings)
            send(build_plan(folder / name, key, input_size=manifest.input_size, progress=lambda *step: send(step)))
        except InputError as error:
            send((name, str(error).rstrip(".")))


def build_plan(onnx: Path, key: PlanKey, *, input_size: int, progress: Progress) -> BuiltPlan:
    """Build one graph's plan and its sidecar, or reuse those that are there.

    Raises:
        InputError: graph or plan are not of the precision that their name says, or TensorRT fails; in its words.
    """
    plan = plan_path(onnx, FLAVOURS[key.flavour])
    if (known := reusable(plan, key)) is not None:
        return BuiltPlan(plan, known, reused=True)
    start = time.perf_counter()
    content, layers = build_bytes(onnx, key, input_size=input_size, progress=progress)
    build_s = time.perf_counter() - start
    layers_here: dict[str, int] | str | None = None
    if key.gpu is not None:
        layers_here = found_here(lambda: inspect(content, plan, key, input_size=input_size), key)
        if not isinstance(layers_here, str):
            check_precision(key.precision, layers_here, source=str(plan), silence=key.flavour != TENSORRT.name)
    findings = {
        "layers": layers,
        "engine_layers": layers_here,
        "proof": proof_of(key.precision, network=layers, engine=layers_here),
        "gpu": NO_GPU if key.gpu is None else key.gpu.name,
        "parity": NOT_EXECUTED,
    }
    with whole_file(plan, None) as temporary:
        temporary.write_bytes(content)
    record = PlanRecord(key, onnx.name, input_size, sha256_of(plan), build_s, findings)
    write_record(record, plan)
    return BuiltPlan(plan, record, reused=False)


def found_here(look: Callable[[], dict[str, int]], key: PlanKey) -> dict[str, int] | str:
    """What this GPU tells of a plan, or why it tells nothing: TensorRT for RTX builds for GPUs that it is not run on.

    Raises:
        InputError: TensorRT built the plan for this GPU, which refuses it.
    """
    try:
        return look()
    except InputError as error:
        if key.flavour == TENSORRT.name:
            raise
        return str(error)
