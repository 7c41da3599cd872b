"""The CUDA calls through the real cuda-bindings, of CUDA 12 and 13, against a stand-in for libcuda: no GPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from vendor_wheels import OLD_CUDA, cached

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import json
from contextlib import ExitStack
import cuda.bindings
from cliphand.errors import InputError
from engines.host.cuda_device import find_gpu
from engines.tensorrt.cuda import open_cuda

told = {"version": cuda.bindings.__version__, "gpu": find_gpu().name, "capability": find_gpu().compute_capability}
cuda = open_cuda()
with cuda.current(), ExitStack() as stack:
    stream, first, last = cuda.stream(stack), cuda.event(stack), cuda.event(stack)
    buffer = cuda.buffer((4, 5), stack)
    buffer.host.ravel()[:] = range(20)
    cuda.record(first, stream)
    cuda.upload(buffer, 4, stream)
    cuda.synchronise(stream)
    buffer.host[...] = 0
    cuda.download(buffer, 3, stream)
    cuda.record(last, stream)
    cuda.synchronise(stream)
    told["there and back"] = buffer.host.ravel().tolist()
    told["ms"] = cuda.milliseconds(first, last)
    buffer.host[...] = 7
    cuda.upload(buffer, 4, stream)

    def copies():
        cuda.upload(buffer, 2, stream)
        cuda.download(buffer, 4, stream)

    replay = cuda.capture(copies, stream, stack)
    told["replays"] = []
    for value in (3, 5):
        buffer.host[...] = value
        replay()
        cuda.synchronise(stream)
        told["replays"].append(buffer.host[:, 0].tolist())
    for name, call in {
        "wait": lambda: cuda.capture(lambda: cuda.synchronise(stream), stream, stack),
        "allocate": lambda: cuda.capture(lambda: cuda.device_memory(8, stack), stream, stack),
    }.items():
        try:
            call()
        except InputError as error:
            told[name] = str(error)
try:
    with ExitStack() as stack:
        cuda.device_memory(8, stack)
except InputError as error:
    told["no context"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the stand-in."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("libcuda")
    source = ROOT / "tests" / "stand_in_libcuda.c"
    options = ["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run(["cc", *options, str(source)], check=True)
    return folder


@pytest.mark.parametrize("major", [12, 13])
def test_memory_streams_events_and_graphs_go_through_the_real_bindings(libcuda: Path, major: int) -> None:
    before = [cached(OLD_CUDA)] if major == 12 else []
    paths = os.pathsep.join(str(path) for path in (*before, ROOT))
    environment = dict(os.environ) | {"LD_LIBRARY_PATH": str(libcuda), "PYTHONPATH": paths}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told.pop("version").startswith(f"{major}.")
    assert told == {
        "gpu": "Stand-in",
        "capability": "9.0",
        "there and back": [*range(15), 0, 0, 0, 0, 0],
        "ms": 0.5,
        "replays": [[3, 3, 7, 7], [5, 5, 7, 7]],
        "wait": "the GPU's driver failed at cuStreamSynchronize: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        "allocate": "the GPU's driver failed at cuMemAlloc: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        "no context": "the GPU's driver failed at cuMemAlloc: CUDA_ERROR_INVALID_CONTEXT",
    }
