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

    def capture(self, work: Callable[[], None], stream: "pycuda.driver.Stream") -> object:
        """What `work` enqueues on the stream, as a graph that is ready to be launched."""
        cuda = self.runtime
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.check(cuda.cudaStreamBeginCapture(stream.handle, mode), "cudaStreamBeginCapture")
        with ExitStack() as release:
            try:
                work()
            finally:  # the stream leaves the capture in any case
                status, graph = cuda.cudaStreamEndCapture(stream.handle)
                if status == cuda.cudaError_t.cudaSuccess:
                    release.callback(cuda.cudaGraphDestroy, graph)  # the ready form stands for itself
            self.check((status,), "cudaStreamEndCapture")
            return self.check(cuda.cudaGraphInstantiate(graph, 0), "cudaGraphInstantiate")[1]

    def launch(self, graph: object, stream: "pycuda.driver.Stream") -> None:
        """Enqueue a captured graph."""
        self.check(self.runtime.cudaGraphLaunch(graph, stream.handle), "cudaGraphLaunch")

    def destroy(self, graph: object) -> None:
        """Free a captured graph."""
        self.check(self.runtime.cudaGraphExecDestroy(graph), "cudaGraphExecDestroy")

    def check(self, result: tuple[object, ...], call: str) -> tuple[object, ...]:
        """What a call of cuda-python returned, or RuntimeError where its status is not success."""
        if result[0] != self.runtime.cudaError_t.cudaSuccess:
            raise RuntimeError(f"{call} failed: {getattr(result[0], 'name', result[0])}")
        return result


def open_cuda(install: str) -> Cuda:
    """The first GPU's primary context.

    Args:
        install: the command that brings what is missing, for the error.

    Raises:
        InputError: pycuda or cuda-python is not installed, or there is no GPU.
    """
    try:
        context = importlib.import_module("pycuda.autoprimaryctx").context
        driver = importlib.import_module("pycuda.driver")
        runtime = importlib.import_module("cuda.bindings.runtime")
    except Exception as error:  # pycuda raises its own classes where there is no driver or no GPU
        what = "a GPU through pycuda and cuda-python"
        raise unusable(what, error, install=f"{install} and `pip install pycuda`, which compiles") from None
    return Cuda(driver, runtime, context)
