"""A process that uses an engine for long and says what it held on the way: `endurance.py WHAT ENGINE FILE TIMES`."""

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engines.base import Engine

SIDE = 32
STRETCHES = 4  # a leak grows in each; what an allocator takes once in a while, in one


def open_onnxruntime(path: Path) -> Engine:
    from engines.runtimes.ort import OrtEngine

    return OrtEngine(path, threads=2)


def open_openvino(path: Path) -> Engine:
    from engines.runtimes.openvino_cpu import OpenVinoEngine

    return OpenVinoEngine(path, threads=2)


def open_pytorch(path: Path) -> Engine:
    import torch
    from linear_hand import LinearHand

    from engines.runtimes.eager import ModuleEngine

    module = LinearHand()
    module.load_state_dict(torch.load(path, weights_only=True))
    return ModuleEngine(module, name="pytorch", input_size=SIDE, threads=2)


def open_inductor(path: Path) -> Engine:
    from engines.runtimes.inductor import InductorEngine

    return InductorEngine(path, threads=2)


OPEN: dict[str, Callable[[Path], Engine]] = {
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "pytorch": open_pytorch,
    "inductor": open_inductor,
}


def held() -> dict[str, int]:
    """What this process holds now: resident memory, threads and open files."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    threads, files = (len(list(Path("/proc/self", name).iterdir())) for name in ("task", "fd"))
    return {"bytes": resident, "threads": threads, "files": files}


def calls(engine: str, path: Path, times: int) -> list[dict[str, int]]:
    """Call one engine `times` times in stretches, batches of 1 and 2 in turn, after one stretch as a warm-up."""
    images = [np.random.default_rng(batch).normal(size=(batch, 3, SIDE, SIDE)).astype(np.float32) for batch in (1, 2)]
    found = []
    with OPEN[engine](path) as opened:
        for _ in range(STRETCHES + 1):
            for index in range(times // STRETCHES):
                opened(images[index % 2])
            found.append(held())
    return found


def opens(engine: str, path: Path, times: int) -> list[dict[str, int]]:
    """Open an engine, call it and close it, `times` times in stretches, after one stretch as a warm-up."""
    images = np.zeros((1, 3, SIDE, SIDE), np.float32)
    found = []
    for _ in range(STRETCHES + 1):
        for _ in range(times // STRETCHES):
            with OPEN[engine](path) as opened:
                opened(images)
        found.append(held())
    return found


if __name__ == "__main__":
    what, engine, path, times = sys.argv[1:]
    print(json.dumps({"calls": calls, "opens": opens}[what](engine, Path(path), int(times))))  # noqa: T201
