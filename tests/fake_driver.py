"""A recording stand-in for `cuda.bindings.driver`: it refuses what the driver refuses.

Memory is numpy's, on the host at its true address. A call without a current context, a wait or an allocation during a
capture, work on a stream that is gone and the launch of a graph whose execution context has changed since are errors,
as on a GPU. Any one call can be told to fail besides.
"""

# ruff: noqa: N802 - the names are the driver's
import ctypes
import itertools
from collections.abc import Callable
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fake_gpu import FakeGpu

NAME = "cuda.bindings.driver"
GPU_NAME = b"NVIDIA L4\0\0"


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_OPERATING_SYSTEM = 304
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901
    CUDA_ERROR_UNKNOWN = 999


class Handle(int):
    """A handle or a device address: not a plain int, but made into one, as those of cuda-bindings."""


Captured = list[Callable[[], CUresult]]


class FakeDriver:
    """The driver's functions; every one that is recorded asks the GPU whether it is told to fail."""

    def __init__(self, gpu: "FakeGpu") -> None:
        self.gpu = gpu
        self.current = 0
        self.capturing: Captured | None = None
        self.spoilt = False
        self.device: dict[int, np.ndarray] = {}
        self.host: dict[int, np.ndarray] = {}
        self.freed: list[np.ndarray] = []  # so that a stray access reads NaN, not another's memory
        self.handles: dict[int, str] = {}
        self.graphs: dict[int, Captured] = {}
        self.times: dict[int, float] = {}
        self.clock = 0.0
        self.numbers = itertools.count(77)

    def module(self) -> ModuleType:
        """What `import cuda.bindings.driver` finds."""
        module = ModuleType(NAME)
        module.__spec__ = ModuleSpec(NAME, None)
        kinds = {"CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": 0, "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": 1}
        module.CUresult, module.CUdevice_attribute = CUresult, SimpleNamespace(**kinds)
        module.CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=1)
        module.CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
        for name in [name for name in dir(self) if name.startswith("cu") and name[2].isupper()]:
            setattr(module, name, getattr(self, name))
        return module

    # Asked before there is a context.

    def cuInit(self, flags: int) -> tuple[CUresult]:
        return (CUresult.CUDA_SUCCESS,)

    def cuDriverGetVersion(self) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, 13030

    def cuDeviceGetCount(self) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, 1

    def cuDeviceGet(self, ordinal: int) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, ordinal

    def cuDeviceGetName(self, length: int, device: int) -> tuple[CUresult, bytes]:
        return CUresult.CUDA_SUCCESS, GPU_NAME

    def cuDeviceGetAttribute(self, attribute: int, device: int) -> tuple[CUresult, int]:
        return CUresult.CUDA_SUCCESS, self.gpu.capability[attribute]

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple[CUresult, Handle]:
        return CUresult.CUDA_SUCCESS, Handle(1)

    def cuCtxPushCurrent(self, context: Handle) -> tuple[CUresult]:
        self.current += 1
        self.gpu.alive.append("current")
        return (CUresult.CUDA_SUCCESS,)

    def cuCtxPopCurrent(self) -> tuple[CUresult, Handle]:
        self.current -= 1
        self.gpu.alive.remove("current")
        return CUresult.CUDA_SUCCESS, Handle(1)

    # Recorded.

    def _answer(self, name: str, body: Callable[[], object], *, waits: bool = False) -> tuple[object, ...]:
        """The tuple that cuda-bindings gives."""
        failed = self.gpu.fails(name)
        if self.current == 0:
            return CUresult.CUDA_ERROR_INVALID_CONTEXT, None
        if waits and self.capturing is not None:
            self.spoilt = True
            return CUresult.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, None
        if failed:
            return CUresult.CUDA_ERROR_UNKNOWN, None
        value = body()
        if isinstance(value, CUresult):
            return value, None
        return (CUresult.CUDA_SUCCESS,) if value is None else (CUresult.CUDA_SUCCESS, value)

    def _make(self, what: str) -> Handle:
        handle = Handle(next(self.numbers))
        self.handles[handle] = what
        self.gpu.alive.append(what)
        return handle

    def _destroy(self, name: str, handle: int, what: str) -> tuple[object, ...]:
        """What it stands for is gone even where the driver reports an earlier error."""
        known = self.handles.pop(handle, None) == what
        if known:
            self.gpu.alive.remove(what)
        return self._answer(name, lambda: None if known else CUresult.CUDA_ERROR_INVALID_HANDLE)

    def on(self, stream: int, work: Callable[[], CUresult]) -> CUresult | None:
        """Do the work, or note it where the stream is captured."""
        if self.handles.get(stream) != "stream":
            return CUresult.CUDA_ERROR_INVALID_HANDLE
        if self.capturing is not None:
            self.capturing.append(work)
            return None
        status = work()
        return status if status is not CUresult.CUDA_SUCCESS else None

    def cuStreamCreate(self, flags: int) -> tuple[object, ...]:
        return self._answer("cuStreamCreate", lambda: self._make("stream"))

    def cuStreamDestroy(self, stream: int) -> tuple[object, ...]:
        return self._destroy("cuStreamDestroy", stream, "stream")

    def cuStreamSynchronize(self, stream: int) -> tuple[object, ...]:
        known = self.handles.get(stream) == "stream"
        return self._answer(
            "cuStreamSynchronize", lambda: None if known else CUresult.CUDA_ERROR_INVALID_HANDLE, waits=True
        )

    def cuEventCreate(self, flags: int) -> tuple[object, ...]:
        return self._answer("cuEventCreate", lambda: self._make("event"))

    def cuEventDestroy(self, event: int) -> tuple[object, ...]:
        return self._destroy("cuEventDestroy", event, "event")

    def cuEventRecord(self, event: int, stream: int) -> tuple[object, ...]:
        def record() -> None:
            self.clock += 0.5
            self.times[event] = self.clock

        return self._answer("cuEventRecord", record)

    def cuEventElapsedTime(self, first: int, last: int) -> tuple[object, ...]:
        return self._answer("cuEventElapsedTime", lambda: self.times[last] - self.times[first])

    def cuMemAlloc(self, n_bytes: int) -> tuple[object, ...]:
        def allocate() -> Handle | CUresult:
            if n_bytes == 0:
                return CUresult.CUDA_ERROR_INVALID_VALUE
            address = Handle(4096 * next(self.numbers))
            self.device[address] = np.zeros(n_bytes, np.uint8)
            self.gpu.alive.append("device memory")
            return address

        return self._answer("cuMemAlloc", allocate, waits=True)

    def cuMemFree(self, address: int) -> tuple[object, ...]:
        self.freed.append(self.device.pop(address))
        self.gpu.alive.remove("device memory")
        return self._answer("cuMemFree", lambda: None, waits=True)

    def cuMemHostAlloc(self, n_bytes: int, flags: int) -> tuple[object, ...]:
        def allocate() -> int:
            memory = np.full(n_bytes, 0xFF, np.uint8)  # NaN as float32
            self.host[memory.ctypes.data] = memory
            self.gpu.alive.append("pinned memory")
            return memory.ctypes.data

        return self._answer("cuMemHostAlloc", allocate, waits=True)

    def cuMemFreeHost(self, address: int) -> tuple[object, ...]:
        memory = self.host.pop(address)
        memory.fill(0xFF)
        self.freed.append(memory)
        self.gpu.alive.remove("pinned memory")
        return self._answer("cuMemFreeHost", lambda: None, waits=True)

    def cuMemcpyHtoDAsync(self, device: int, host: int, n_bytes: int, stream: int) -> tuple[object, ...]:
        def copy() -> CUresult:
            self.device[device][:n_bytes] = np.frombuffer(ctypes.string_at(host, n_bytes), np.uint8)
            return CUresult.CUDA_SUCCESS

        return self._answer("cuMemcpyHtoDAsync", lambda: self.on(stream, copy))

    def cuMemcpyDtoHAsync(self, host: int, device: int, n_bytes: int, stream: int) -> tuple[object, ...]:
        def copy() -> CUresult:
            ctypes.memmove(host, self.device[device].ctypes.data, n_bytes)
            return CUresult.CUDA_SUCCESS

        return self._answer("cuMemcpyDtoHAsync", lambda: self.on(stream, copy))

    def cuStreamBeginCapture(self, stream: int, mode: int) -> tuple[object, ...]:
        def begin() -> CUresult | None:
            if self.capturing is not None or self.handles.get(stream) != "stream":
                return CUresult.CUDA_ERROR_INVALID_HANDLE
            self.capturing, self.spoilt = [], False
            return None

        return self._answer("cuStreamBeginCapture", begin)

    def cuStreamEndCapture(self, stream: int) -> tuple[object, ...]:
        captured, self.capturing = self.capturing, None

        def end() -> Handle | CUresult:
            if captured is None or self.spoilt:
                return CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
            graph = self._make("graph")
            self.graphs[graph] = captured
            return graph

        return self._answer("cuStreamEndCapture", end)

    def cuGraphInstantiate(self, graph: int, flags: int) -> tuple[object, ...]:
        def instantiate() -> Handle:
            ready = self._make("graph exec")
            self.graphs[ready] = self.graphs[graph]
            return ready

        return self._answer("cuGraphInstantiate", instantiate, waits=True)

    def cuGraphDestroy(self, graph: int) -> tuple[object, ...]:
        return self._destroy("cuGraphDestroy", graph, "graph")

    def cuGraphExecDestroy(self, ready: int) -> tuple[object, ...]:
        return self._destroy("cuGraphExecDestroy", ready, "graph exec")

    def cuGraphLaunch(self, ready: int, stream: int) -> tuple[object, ...]:
        def launch() -> CUresult | None:
            if self.handles.get(ready) != "graph exec":
                return CUresult.CUDA_ERROR_INVALID_HANDLE
            statuses = [work() for work in self.graphs[ready]]
            return next((status for status in statuses if status is not CUresult.CUDA_SUCCESS), None)

        return self._answer("cuGraphLaunch", launch)
