"""Building plans in a process of its own, and which flavours this machine can build.

The builder takes gigabytes, may end its process on an internal error, and Polygraphy serves one flavour per process:
none of that should reach the caller.
"""

import multiprocessing
from collections.abc import Collection
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock

from cliphand.errors import InputError
from engines.available import available_engines
from engines.cuda_device import find_gpu
from engines.trt_build import BuiltPlan, Progress, build_folder
from engines.trt_flavour import FLAVOURS, why_not_built
from engines.trt_plan import BuildSettings

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
    reasons = {name: why_not_built(flavour) for name, flavour in FLAVOURS.items()}
    for name in insisted:
        if reasons[name] is not None:
            raise InputError(
                f"plans of {FLAVOURS[name].title} cannot be built here: {reasons[name]}; engines that run here: "
                f"{available_engines(find_gpu())}."
            )
    missing = [f"of {FLAVOURS[name].title} ({why})" for name, why in reasons.items() if why is not None]
    sentence = f"Not built: plans {' and '.join(missing)}." if missing else None
    return tuple(name for name, why in reasons.items() if why is None), sentence


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
        raise InputError(
            f"{FLAVOURS[flavour].title} ended its process while it built {folder} (exit code {process.exitcode}); its "
            "last words are above."
        ) from None
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
