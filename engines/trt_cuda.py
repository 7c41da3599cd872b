"""The few CUDA calls that running a plan needs: pycuda for memory, streams and events, cuda-python for graphs.

Both work in the GPU's primary context, which PyTorch uses as well. Needs a GPU.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.errors import InputError
from engines.available import available_engines
from engines.cuda_device import find_gpu


class DeviceMemory(Protocol):
    """pycuda's DeviceAllocation."""

    def __int__(self) -> int:
        """Its address."""

    def free(self) -> None:
        """Give it back."""


class Stream(Protocol):
    """pycuda's Stream."""

    handle: int

    def synchronize(self) -> None:
        """Wait until all its work is done."""


class Event(Protocol):
    """pycuda's Event."""

    def record(self, stream: Stream) -> "Event":
        """Mark the stream's present end."""

    def time_till(self, later: "Event") -> float:
        """Milliseconds between two events that have happened."""


class _Context(Protocol):
    def push(self) -> None: ...
    def pop(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """One tensor's memory: on the device, and pinned on the host, (max batch, ...) float32."""

    device: DeviceMemory
    host: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Cuda:
    """The GPU's primary context and the two libraries that work in it."""

    driver: ModuleType
    runtime: ModuleType
    context: _Context

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
        return Buffer(device, host)

    def capture(self, work: Callable[[], None], stream: Stream) -> object:
        """What `work` enqueues on the stream, as a graph that is ready to be launched."""
        cuda = self.runtime
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._check(cuda.cudaStreamBeginCapture(stream.handle, mode), "cudaStreamBeginCapture")
        with ExitStack() as release:
            try:
                work()
            finally:  # the stream leaves the capture in any case
                status, graph = cuda.cudaStreamEndCapture(stream.handle)
                if status == cuda.cudaError_t.cudaSuccess:
                    release.callback(cuda.cudaGraphDestroy, graph)  # the ready form stands for itself
            self._check((status,), "cudaStreamEndCapture")
            return self._check(cuda.cudaGraphInstantiate(graph, 0), "cudaGraphInstantiate")[1]

    def launch(self, graph: object, stream: Stream) -> None:
        """Enqueue a captured graph."""
        self._check(self.runtime.cudaGraphLaunch(graph, stream.handle), "cudaGraphLaunch")

    def destroy(self, graph: object) -> None:
        """Free a captured graph."""
        self._check(self.runtime.cudaGraphExecDestroy(graph), "cudaGraphExecDestroy")

    def _check(self, result: tuple[object, ...], call: str) -> tuple[object, ...]:
        """What a call of cuda-python returned, if its status is success."""
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
        reason = " ".join(str(error).split())
        raise InputError(
            f"plans run through pycuda and cuda-python on a GPU, which cannot be used here ({reason}): {install} and "
            f"`pip install pycuda` (it compiles); engines that run here: {available_engines(find_gpu())}."
        ) from None
    return Cuda(driver, runtime, context)
