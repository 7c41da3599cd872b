"""A recording stand-in for the few calls of pycuda, cuda-python and TensorRT that running a plan makes.

Memory is numpy's; an inference adds up each image, so that results can be followed from the caller to the caller. Any
one call can be told to fail as the real one does: pycuda raises, cuda-python returns a status, TensorRT returns False,
None or, from a constructor, pybind's TypeError. `alive` holds what was acquired and not yet released.
"""

import sys
import weakref
from collections.abc import Sequence
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from engines.base import INPUT_NAME, OUTPUT_SHAPES, input_shape

SUCCESS = SimpleNamespace(name="cudaSuccess")
FAILURE = SimpleNamespace(name="cudaErrorUnknown")
OUTPUTS = tuple(OUTPUT_SHAPES)
VERSIONS = {"tensorrt": "11.4.0", "tensorrt_rtx": "1.7.1"}


def answer(images: np.ndarray, name: str) -> np.ndarray:
    """What the stand-in computes for (B, 3, S, S) images: their sums plus a number for each coordinate."""
    shape = OUTPUT_SHAPES[name][1:]
    offset = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return images.sum(axis=(1, 2, 3), dtype=np.float32)[:, None, None] + offset + OUTPUTS.index(name)


class FakeGpu:
    """The recorder behind all fakes; `fail_at` is the index in `calls` of the one that fails."""

    def __init__(self, *, side: int = 8, profiles: Sequence[tuple[int, int, int]] = ((1, 1, 4),)) -> None:
        self.side = side
        self.profiles = profiles
        self.capability = (8, 9)
        self.fail_at: int | None = None
        self.calls: list[str] = []
        self.alive: list[str] = []
        self.memory: dict[int, np.ndarray] = {}
        self.capturing: list[object] | None = None
        self.trt: ModuleType | None = None
        self.shapes = {INPUT_NAME: input_shape(side), **OUTPUT_SHAPES}
        self.types = dict.fromkeys(self.shapes, "FLOAT")

    def fails(self, call: str) -> bool:
        self.calls.append(call)
        return len(self.calls) - 1 == self.fail_at

    def acquire(self, what: str, owner: object | None = None) -> None:
        """Note a resource; with an owner, it is released when the last reference to that goes."""
        self.alive.append(what)
        if owner is not None:
            weakref.finalize(owner, self.drop, what)

    def drop(self, what: str) -> None:
        self.calls.append(f"del {what}")
        self.alive.remove(what)

    def install(self, patch: pytest.MonkeyPatch, module: str = "tensorrt") -> ModuleType:
        """Put the stand-ins where the engine imports them from; returns the TensorRT one."""
        self.trt = fake_tensorrt(self, module)
        driver, runtime = fake_driver(self), fake_runtime(self)
        context = ModuleType("pycuda.autoprimaryctx")
        context.context = SimpleNamespace(
            push=lambda: self.alive.append("current"), pop=lambda: self.alive.remove("current")
        )
        modules = {module: self.trt, "pycuda.driver": driver, "pycuda.autoprimaryctx": context}
        for name, value in {"pycuda": ModuleType("pycuda"), "cuda.bindings.runtime": runtime, **modules}.items():
            patch.setitem(sys.modules, name, value)
        return self.trt


def fake_driver(gpu: FakeGpu) -> ModuleType:
    """pycuda.driver."""

    class Stream:
        def __init__(self) -> None:
            if gpu.fails("Stream"):
                raise RuntimeError("Stream")
            self.handle = 77
            gpu.acquire("stream", self)

        def synchronize(self) -> None:
            if gpu.fails("synchronize"):
                raise RuntimeError("synchronize")

    class Event:
        clock = 0.0

        def record(self, stream: Stream) -> "Event":
            gpu.fails("record")
            Event.clock += 0.5
            self.time = Event.clock
            return self

        def time_till(self, later: "Event") -> float:
            return later.time - self.time

    class DeviceAllocation:
        def __init__(self, n_bytes: int) -> None:
            self.address = 4096 * (len(gpu.memory) + 1)
            gpu.memory[self.address] = np.zeros(n_bytes, np.uint8)
            gpu.alive.append(f"device {self.address}")

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            gpu.calls.append("free device")
            gpu.alive.remove(f"device {self.address}")

    class PagelockedHostAllocation:
        def __init__(self, shape: tuple[int, ...], dtype: type) -> None:
            self.memory = np.full(shape, np.nan, dtype)
            self.__array_interface__ = self.memory.__array_interface__
            gpu.alive.append("pinned")

        def free(self) -> None:
            gpu.calls.append("free pinned")
            gpu.alive.remove("pinned")

    def mem_alloc(n_bytes: int) -> DeviceAllocation:
        if gpu.fails("mem_alloc"):
            raise RuntimeError("mem_alloc")
        return DeviceAllocation(n_bytes)

    def pagelocked_empty(shape: tuple[int, ...], dtype: type) -> np.ndarray:
        if gpu.fails("pagelocked_empty"):
            raise RuntimeError("pagelocked_empty")
        return np.asarray(PagelockedHostAllocation(shape, dtype))  # an array whose base is the allocation

    def memcpy_htod_async(device: int, host: np.ndarray, stream: Stream) -> None:
        if gpu.fails("memcpy_htod_async"):
            raise RuntimeError("memcpy_htod_async")
        assert host.flags.c_contiguous
        gpu.memory[device][: host.nbytes] = host.reshape(-1).view(np.uint8)

    def memcpy_dtoh_async(host: np.ndarray, device: int, stream: Stream) -> None:
        if gpu.fails("memcpy_dtoh_async"):
            raise RuntimeError("memcpy_dtoh_async")
        assert host.flags.c_contiguous
        host[...] = gpu.memory[device][: host.nbytes].view(np.float32).reshape(host.shape)

    module = ModuleType("pycuda.driver")
    for item in (Stream, Event, DeviceAllocation, mem_alloc, pagelocked_empty, memcpy_htod_async, memcpy_dtoh_async):
        setattr(module, item.__name__, item)
    return module


def fake_runtime(gpu: FakeGpu) -> ModuleType:
    """cuda.bindings.runtime: the device's facts, and graphs."""

    def status(call: str, *values: object) -> tuple[object, ...]:
        return (FAILURE, *(None for _ in values)) if gpu.fails(call) else (SUCCESS, *values)

    def begin(stream: int, mode: object) -> tuple[object, ...]:
        result = status("cudaStreamBeginCapture")
        if result[0] is SUCCESS:
            gpu.capturing = []
        return result

    def end(stream: int) -> tuple[object, ...]:
        graph, gpu.capturing = gpu.capturing, None
        result = status("cudaStreamEndCapture", graph)
        if result[0] is SUCCESS:
            gpu.alive.append("graph")
        return result

    def instantiate(graph: object, flags: int) -> tuple[object, ...]:
        result = status("cudaGraphInstantiate", graph)
        if result[0] is SUCCESS:
            gpu.alive.append("graph exec")
        return result

    def destroy(graph: object) -> tuple[object, ...]:
        gpu.alive.remove("graph")
        return status("cudaGraphDestroy")

    def destroy_exec(graph: object) -> tuple[object, ...]:
        gpu.alive.remove("graph exec")
        return status("cudaGraphExecDestroy")

    def launch(graph: list[object], stream: int) -> tuple[object, ...]:
        result = status("cudaGraphLaunch")
        if result[0] is SUCCESS:
            for work in graph:
                work()
        return result

    facts = SimpleNamespace(name=b"NVIDIA L4\0\0", major=gpu.capability[0], minor=gpu.capability[1])
    module = ModuleType("cuda.bindings.runtime")
    values = {
        "cudaError_t": SimpleNamespace(cudaSuccess=SUCCESS),
        "cudaStreamCaptureMode": SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
        "cudaGetDeviceCount": lambda: (SUCCESS, 1),
        "cudaGetDeviceProperties": lambda index: (SUCCESS, facts),
        "cudaRuntimeGetVersion": lambda: (SUCCESS, 13020),
        "cudaDriverGetVersion": lambda: (SUCCESS, 13030),
        "cudaStreamBeginCapture": begin,
        "cudaStreamEndCapture": end,
        "cudaGraphInstantiate": instantiate,
        "cudaGraphDestroy": destroy,
        "cudaGraphExecDestroy": destroy_exec,
        "cudaGraphLaunch": launch,
    }
    for name, value in values.items():
        setattr(module, name, value)
    return module


def fake_tensorrt(gpu: FakeGpu, name: str) -> ModuleType:
    """tensorrt or tensorrt_rtx: classes and members under the names of the real ones."""
    is_rtx = name == "tensorrt_rtx"

    class CudaGraphStrategy(IntEnum):
        DISABLED = 0
        WHOLE_GRAPH_CAPTURE = 1

    class EngineValidity(IntEnum):
        VALID = 0
        SUBOPTIMAL = 1
        INVALID = 2

    class EngineInvalidityDiagnostics(IntEnum):
        VERSION_MISMATCH = 1
        UNSUPPORTED_CC = 2

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = "error", "internal error", "warning"

        def log(self, severity: object, msg: str) -> None:
            raise AssertionError("a logger overrides this")

    class IRuntimeCache:
        def __init__(self) -> None:
            self.content = b"fresh"
            gpu.acquire("cache", self)

        def deserialize(self, blob: bytes) -> bool:
            if gpu.fails("cache.deserialize"):
                return False
            self.content = blob + b"+"
            return True

        def serialize(self) -> bytes | None:
            return None if gpu.fails("cache.serialize") else self.content

    class IRuntimeConfig:
        cuda_graph_strategy = CudaGraphStrategy.DISABLED

        def __init__(self) -> None:
            gpu.acquire("config", self)

        def create_runtime_cache(self) -> IRuntimeCache | None:
            return None if gpu.fails("create_runtime_cache") else IRuntimeCache()

        def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
            return not gpu.fails("set_runtime_cache")

    class IExecutionContext:
        def __init__(self, config: IRuntimeConfig | None) -> None:
            self.graphs = is_rtx and config.cuda_graph_strategy is CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self.addresses: dict[str, int] = {}
            self.batch = -1
            gpu.acquire("context", self)

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            return not gpu.fails(f"set_optimization_profile_async {profile_index}")

        def set_tensor_address(self, tensor: str, memory: int) -> bool:
            self.addresses[tensor] = memory
            return not gpu.fails(f"set_tensor_address {tensor}")

        def get_tensor_shape(self, tensor: str) -> tuple[int, ...]:
            return (self.batch, 3, gpu.side, gpu.side)

        def set_input_shape(self, tensor: str, shape: tuple[int, ...]) -> bool:
            self.batch = shape[0]
            assert (tensor, shape[1:]) == ("image", (3, gpu.side, gpu.side))
            return not gpu.fails(f"set_input_shape {shape[0]}")

        def execute_async_v3(self, stream_handle: int) -> bool:
            failed, batch, addresses = gpu.fails("execute_async_v3"), self.batch, dict(self.addresses)
            assert stream_handle == 77

            def work() -> None:
                n_numbers = batch * 3 * gpu.side**2
                images = gpu.memory[addresses["image"]].view(np.float32)[:n_numbers]
                images = images.reshape(batch, 3, gpu.side, gpu.side)
                for output in OUTPUTS:
                    value = answer(images, output).reshape(-1)
                    gpu.memory[addresses[output]].view(np.float32)[: value.size] = value

            if not failed:
                work() if gpu.capturing is None else gpu.capturing.append(work)
            return not failed

    class EngineInspector:
        execution_context: IExecutionContext | None = None
        information = '{"Layers": [{"Name": "a", "Outputs": [{"Name": "x", "Format/Datatype": "Half"}]}]}'

        def get_engine_information(self, form: object) -> str:
            shaped = self.execution_context is not None and self.execution_context.batch
            gpu.calls.append(f"get_engine_information {form!s} at batch {shaped}")
            return self.information

    class ICudaEngine:
        def __init__(self) -> None:
            gpu.acquire("engine", self)

        def create_runtime_config(self) -> IRuntimeConfig | None:
            return None if gpu.fails("create_runtime_config") else IRuntimeConfig()

        def create_execution_context(self, config: IRuntimeConfig | None = None) -> IExecutionContext | None:
            if gpu.fails("create_execution_context"):
                return None
            return IExecutionContext(config)

        def create_engine_inspector(self) -> EngineInspector | None:
            return None if gpu.fails("create_engine_inspector") else EngineInspector()

        def get_tensor_dtype(self, tensor: str) -> SimpleNamespace:
            return SimpleNamespace(name=gpu.types[tensor])

        def get_tensor_shape(self, tensor: str) -> tuple[int, ...]:
            return gpu.shapes[tensor]

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: ILogger) -> None:
            if gpu.fails("Runtime"):
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self.logger = logger
            gpu.acquire("runtime", self)

        def get_engine_validity(self, content: bytes) -> tuple[EngineValidity, int]:
            failed = gpu.fails("get_engine_validity")
            return (EngineValidity.INVALID, 2) if failed else (EngineValidity.SUBOPTIMAL, 0)

        def deserialize_cuda_engine(self, content: bytes) -> ICudaEngine | None:
            if gpu.fails(f"deserialize_cuda_engine, host code {self.engine_host_code_allowed}"):
                self.logger.log(ILogger.ERROR, "the plan is\n  of no use")
                self.logger.log(ILogger.WARNING, "never mind")
                return None
            return ICudaEngine()

    class Refitter:
        def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
            pass

        def refit_cuda_engine(self) -> bool:
            return not gpu.fails("refit_cuda_engine")

    class OnnxParserRefitter:
        def __init__(self, refitter: Refitter, logger: ILogger) -> None:
            pass

        def refit_from_file(self, model: str) -> bool:
            return not gpu.fails(f"refit_from_file {model.rpartition('/')[2]}")

    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    module.__version__ = VERSIONS[name]
    both = (ILogger, IRuntimeConfig, IExecutionContext, ICudaEngine, EngineInspector, Runtime)
    both += (Refitter, OnnxParserRefitter)
    only_rtx = (CudaGraphStrategy, EngineValidity, EngineInvalidityDiagnostics, IRuntimeCache)
    for item in both + (only_rtx if is_rtx else ()):
        setattr(module, item.__name__, item)
    if not is_rtx:  # what TensorRT does not have must not be called there
        del Runtime.get_engine_validity, IRuntimeConfig.cuda_graph_strategy
        del IRuntimeConfig.create_runtime_cache, IRuntimeConfig.set_runtime_cache
    return module
