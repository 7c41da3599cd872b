"""The few CUDA calls that running a plan needs: pycuda for memory, streams and events, cuda-python for graphs.

Both work in the GPU's primary context, which PyTorch uses as well. Needs a GPU.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cliphand.arrays import FloatArray
from engines.trt_flavour import unusable

if TYPE_CHECKING:
    import pycuda.driver


class Buffer(NamedTuple):
    """One tensor's memory: its address on the device, and pinned memory on the host, (max batch, ...) float32."""

    address: int
    host: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Cuda:
    """The GPU's primary context and the two libraries that work in it."""

    driver: ModuleType
    runtime: ModuleType
    context: "pycuda.driver.Context"

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context this thread's for a while."""
        self.context.push()
        try:
            yield
        finally:
            self.context.pop()

    def buffer(self, shape: tuple[int, ...], stack: ExitStack) -> Buffer:
        """Memory for one float32 tensor, freed when `stack` closes."""
        host = self.driver.pagelocked_empty(shape, np.float32)
        stack.callback(host.base.free)
        device = self.driver.mem_alloc(host.nbytes)
        stack.callback(device.free)
        return Buffer(int(device), host)

    def capture(
        self, work: Callable[[], None], stream: "pycuda.driver.Stream", stack: ExitStack
    ) -> Callable[[], object]:
        """A call that enqueues on the stream what `work` does, as one CUDA graph, freed when `stack` closes."""
        cuda, handle = self.runtime, stream.handle
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.check("cudaStreamBeginCapture", *cuda.cudaStreamBeginCapture(handle, mode))
        try:
            work()
        finally:  # the stream leaves the capture in any case
            status, graph = cuda.cudaStreamEndCapture(handle)
            if status == cuda.cudaError_t.cudaSuccess:
                stack.callback(lambda: self.check("cudaGraphDestroy", *cuda.cudaGraphDestroy(graph)))
        self.check("cudaStreamEndCapture", status)
        ready = self.check("cudaGraphInstantiate", *cuda.cudaGraphInstantiate(graph, 0))
        stack.callback(lambda: self.check("cudaGraphExecDestroy", *cuda.cudaGraphExecDestroy(ready)))
        return lambda: self.check("cudaGraphLaunch", *cuda.cudaGraphLaunch(ready, handle))

    def check(self, call: str, status: object, value: object = None) -> object:
        """What a call of cuda-python gave, or RuntimeError where its status is not success."""
        if status != self.runtime.cudaError_t.cudaSuccess:
            raise RuntimeError(f"{call} failed: {getattr(status, 'name', status)}")
        return value


def open_cuda(install: str) -> Cuda:
    """The first GPU's primary context.

    Raises:
        InputError: pycuda or cuda-python is not installed, which the command `install` mends, or there is no GPU.
    """
    try:
        context = importlib.import_module("pycuda.autoprimaryctx").context
        driver = importlib.import_module("pycuda.driver")
        runtime = importlib.import_module("cuda.bindings.runtime")
    except Exception as error:  # pycuda raises its own classes where there is no driver or no GPU
        bring = f"{install} and `pip install pycuda`, which compiles"
        raise unusable(f"a GPU through pycuda and cuda-python cannot be used here ({error}): {bring}") from None
    return Cuda(driver, runtime, context)
