"""Which flavours this machine can build, and plans of a whole export folder, built in a process of their own.

The builder takes gigabytes, may end its process on an internal error, and Polygraphy serves one flavour per process:
none of that should reach the caller.
"""

import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock

import numpy as np

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import sha256_of, whole_file
from engines.base import OUTPUT_SHAPES
from engines.cuda_device import Gpu, find_gpu
from engines.manifest import check_artefact, read_manifest
from engines.ort import OrtEngine
from engines.trt_build import Progress, build_bytes, check_engine_precision, inspect
from engines.trt_flavour import FLAVOURS, TENSORRT, Flavour, load_tensorrt, unusable, why_not_built
from engines.trt_plan import BuildSettings, PlanKey, PlanRecord, check_settings, plan_path, reusable, write_record
from engines.trt_run import TrtEngine

NO_GPU = "built without a GPU"
NOT_EXECUTED = "not executed here"


@dataclass(frozen=True, slots=True)
class BuiltPlan:
    """A plan that now stands in the export folder; `reused` where an equal one stood there already."""

    path: Path
    record: PlanRecord
    reused: bool


Message = tuple[str, int, int] | InputError | list[BuiltPlan]


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
) -> tuple[BuiltPlan, ...]:
    """Build a plan, with its sidecar, of every ONNX graph in an export folder; equal ones that stand there are kept.

    Args:
        folder: that `cliphand export` wrote; its manifest stays as it is.
        flavour: `tensorrt` or `tensorrt-rtx`.
        settings: of the build.
        progress: called with a phase of the builder, its steps done and its steps in all.

    Raises:
        InputError: the folder, a graph or a setting is refused, or the flavour cannot build here.
    """
    buildable_flavours((flavour,))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_build, args=(theirs, folder, flavour, settings or BuildSettings()))
    process.start()
    theirs.close()  # so that the pipe ends with the process
    try:
        while True:
            message: Message = ours.recv()
            if isinstance(message, InputError):
                raise message
            if isinstance(message, list):
                return tuple(message)
            if progress is not None:
                progress(*message)
    except EOFError:
        process.join()
        how = f"ended its process while it built {folder} (exit code {process.exitcode}); its last words are above"
        raise InputError(f"{FLAVOURS[flavour].title} {how}.") from None
    finally:
        process.terminate()
        process.join()
        ours.close()


def _build(pipe: Connection, folder: Path, flavour: str, settings: BuildSettings) -> None:
    """The process: send every step, then the plans or the error."""
    lock = Lock()  # TensorRT reports from several threads

    def send_step(phase: str, done: int, total: int) -> None:
        with lock:
            pipe.send((phase, done, total))

    try:
        pipe.send(build_folder(folder, FLAVOURS[flavour], settings, send_step))
    except InputError as error:
        pipe.send(error)


def build_folder(folder: Path, flavour: Flavour, settings: BuildSettings, progress: Progress) -> list[BuiltPlan]:
    """Build a plan of every graph in an export folder, in this process; see `engines.trt_process.build_plans`.

    Raises:
        InputError: the folder, a graph or a setting is refused, or TensorRT fails; in its words.
    """
    manifest, found = read_manifest(folder), find_gpu()
    gpu = found if isinstance(found, Gpu) else None
    check_settings(settings, flavour, gpu=gpu)
    version, checkpoint = load_tensorrt(flavour).__version__, manifest.checkpoint.sha256
    graphs = [folder / name for name in manifest.artefacts if name.endswith(".onnx")]
    require(len(graphs) > 0, f"{folder} lists no ONNX graph; give a folder that `cliphand export` wrote.")
    built = []
    for onnx in graphs:
        graph = check_artefact(manifest, onnx)
        key = PlanKey(flavour.name, graph.precision, checkpoint, graph.sha256, version, gpu, settings)
        built.append(build_plan(onnx, key, input_size=manifest.input_size, progress=progress))
    return built


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
    findings: dict[str, object] = {"layers": layers, "engine_layers": None, "gpu": NO_GPU, "parity": NOT_EXECUTED}
    if key.gpu is not None:
        layers_here = found_here(lambda: inspect(content, plan, key, input_size=input_size), key)
        if not isinstance(layers_here, str):
            check_engine_precision(key.precision, layers_here, source=str(plan))
        findings |= {"engine_layers": layers_here, "gpu": key.gpu.name}
    with whole_file(plan) as temporary:
        temporary.write_bytes(content)
    record = PlanRecord(key, onnx.name, input_size, sha256_of(plan), build_s, findings)
    sidecar = write_record(record, plan)
    if key.gpu is not None:
        try:
            parity = found_here(lambda: measure_parity(plan, onnx), key)
        except BaseException:
            sidecar.unlink()  # with it, the next build would keep the plan
            raise
        record = dataclasses.replace(record, findings=findings | {"parity": parity})
        write_record(record, plan)
    return BuiltPlan(plan, record, reused=False)


def found_here(look: Callable[[], Mapping[str, object]], key: PlanKey) -> Mapping[str, object] | str:
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


def measure_parity(plan: Path, onnx: Path) -> dict[str, object]:
    """Largest differences in uvd to the graph in ONNX Runtime, on noise, at every profile's least and largest batch.

    Raises:
        InputError: the plan cannot be run here.
    """
    worst = dict.fromkeys(OUTPUT_SHAPES, 0.0)
    with TrtEngine(plan) as runner, OrtEngine(onnx) as reference:
        batches = sorted({size for span in runner.profiles for size in (span.min, span.max)})
        for batch in batches:
            shape = (batch, 3, runner.input_size, runner.input_size)
            noise = np.random.default_rng(batch).uniform(-1, 1, shape).astype(np.float32)
            ours, theirs = runner(noise), reference(noise)
            for name in worst:  # a NaN stays
                difference = np.abs(getattr(ours, name) - getattr(theirs, name)).max()
                worst[name] = float(np.maximum(worst[name], difference))
    finite = bool(np.isfinite(list(worst.values())).all())
    return {"reference": "ONNX Runtime", "batches": batches, "max_difference_uvd": worst if finite else None}
