"""The few CUDA calls that running a plan needs, through the driver's API: memory, streams, events and graphs.

All of it works in the GPU's primary context, which TensorRT and PyTorch use as well. Needs a GPU.
"""

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple, SupportsInt, cast

import numpy as np

from cliphand.arrays import FloatArray
from engines.host.cuda_device import DriverError, call, open_driver
from engines.tensorrt.flavour import unusable


class Buffer(NamedTuple):
    """One tensor's memory: its address on the device, and pinned memory on the host, (max batch, ...) float32."""

    address: int
    host: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Cuda:
    """The GPU's primary context and the driver that works in it. Streams and events are handles."""

    driver: ModuleType
    context: object

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context this thread's for a while."""
        call(self.driver, "cuCtxPushCurrent", self.context)
        try:
            yield
        finally:
            call(self.driver, "cuCtxPopCurrent")

    def stream(self, stack: ExitStack) -> int:
        """A stream that waits for no other, destroyed when `stack` closes."""
        return self._made("cuStreamCreate", "cuStreamDestroy", stack, self.driver.CUstream_flags.CU_STREAM_NON_BLOCKING)

    def event(self, stack: ExitStack) -> int:
        """A mark in time, destroyed when `stack` closes."""
        return self._made("cuEventCreate", "cuEventDestroy", stack, 0)

    def device_memory(self, n_bytes: int, stack: ExitStack) -> int:
        """Address of memory on the device, aligned to 256 bytes, freed when `stack` closes."""
        return self._made("cuMemAlloc", "cuMemFree", stack, n_bytes)

    def buffer(self, shape: tuple[int, ...], stack: ExitStack) -> Buffer:
        """Memory for one float32 tensor, freed when `stack` closes."""
        count = int(np.prod(shape))
        place = self._made("cuMemHostAlloc", "cuMemFreeHost", stack, 4 * count, 0)
        host = np.ctypeslib.as_array((ctypes.c_float * count).from_address(place)).reshape(shape)
        return Buffer(self.device_memory(host.nbytes, stack), host)

    def upload(self, buffer: Buffer, count: int, stream: int) -> None:
        """Enqueue the copy of the first `count` items of a buffer to the device."""
        given = buffer.host[:count]
        call(self.driver, "cuMemcpyHtoDAsync", buffer.address, given.ctypes.data, given.nbytes, stream)

    def download(self, buffer: Buffer, count: int, stream: int) -> None:
        """Enqueue the copy of the first `count` items of a buffer from the device."""
        taken = buffer.host[:count]
        call(self.driver, "cuMemcpyDtoHAsync", taken.ctypes.data, buffer.address, taken.nbytes, stream)

    def synchronise(self, stream: int) -> None:
        """Wait until everything on the stream is done."""
        call(self.driver, "cuStreamSynchronize", stream)

    def record(self, event: int, stream: int) -> None:
        """Note the time at which the stream gets here."""
        call(self.driver, "cuEventRecord", event, stream)

    def milliseconds(self, first: int, last: int) -> float:
        """Time between two events that have passed."""
        return float(cast("float", call(self.driver, "cuEventElapsedTime", first, last)))

    def capture(self, work: Callable[[], None], stream: int, stack: ExitStack) -> Callable[[], object]:
        """A call that enqueues on the stream what `work` does, as one CUDA graph, freed when `stack` closes."""
        mode = self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        call(self.driver, "cuStreamBeginCapture", stream, mode)
        try:
            work()
        except BaseException:  # the stream leaves the capture in any case
            with suppress(DriverError):
                call(self.driver, "cuGraphDestroy", call(self.driver, "cuStreamEndCapture", stream))
            raise
        graph = call(self.driver, "cuStreamEndCapture", stream)
        stack.callback(call, self.driver, "cuGraphDestroy", graph)
        ready = call(self.driver, "cuGraphInstantiate", graph, 0)
        stack.callback(call, self.driver, "cuGraphExecDestroy", ready)
        return lambda: call(self.driver, "cuGraphLaunch", ready, stream)

    def _made(self, make: str, destroy: str, stack: ExitStack, *arguments: object) -> int:
        """The handle or address that `make` gives; `destroy` takes it back."""
        made = call(self.driver, make, *arguments)
        stack.callback(call, self.driver, destroy, made)
        return int(cast("SupportsInt", made))


def open_cuda() -> Cuda:
    """The first GPU's primary context.

    Raises:
        InputError: there is no GPU, no driver or no cuda-bindings; the sentence says what to do.
    """
    driver = open_driver()
    if isinstance(driver, str):
        raise unusable(f"a plan needs a GPU, and {driver}")
    try:
        return Cuda(driver, _primary_context(driver))
    except DriverError as error:
        raise unusable(f"a plan needs a GPU, and it gives no context ({error})") from None


@functools.cache
def _primary_context(driver: ModuleType) -> object:
    """Kept until the process ends, as the CUDA runtime keeps it: what TensorRT holds in it outlives every engine."""
    return call(driver, "cuDevicePrimaryCtxRetain", call(driver, "cuDeviceGet", 0))
