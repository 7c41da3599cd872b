"""A recording stand-in for cuda-bindings and the few calls of TensorRT that running a plan makes.

An inference adds up each image, so that results can be followed from the caller to the caller. Any one call can be told
to fail as the real one does: the driver returns a status, TensorRT returns False, None or, from a constructor, pybind's
TypeError. What a GPU refuses is refused: see `fake_driver`, and a batch outside the profile, a capture before the first
run and scratch memory that is too small here. `alive` holds what was acquired and not yet released.
"""

import sys
import weakref
from collections.abc import Sequence
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from fake_driver import NAME, CUresult, FakeDriver

from engines.base import INPUT_NAME, OUTPUT_SHAPES, input_shape

SCRATCH_BYTES = 96
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
        self.driver = FakeDriver(self)
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
        bindings, package = ModuleType("cuda.bindings"), ModuleType("cuda")
        bindings.__version__, bindings.driver, package.bindings = "13.4.4", self.driver.module(), bindings
        package.__spec__ = ModuleSpec("cuda", None)
        modules = {module: self.trt, "cuda": package, "cuda.bindings": bindings, NAME: bindings.driver}
        for name, value in modules.items():
            patch.setitem(sys.modules, name, value)
        return self.trt


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

    class ExecutionContextAllocationStrategy(IntEnum):
        STATIC = 0
        ON_PROFILE_CHANGE = 1
        USER_MANAGED = 2

    class IRuntimeConfig:
        cuda_graph_strategy = CudaGraphStrategy.DISABLED

        def __init__(self) -> None:
            self.allocation = ExecutionContextAllocationStrategy.STATIC
            gpu.acquire("config", self)

        def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
            self.allocation = strategy

        def create_runtime_cache(self) -> IRuntimeCache | None:
            return None if gpu.fails("create_runtime_cache") else IRuntimeCache()

        def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
            return not gpu.fails("set_runtime_cache")

    class IExecutionContext:
        def __init__(self, config: IRuntimeConfig | None) -> None:
            self.graphs = is_rtx and config.cuda_graph_strategy is CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            managed = config is not None and config.allocation is ExecutionContextAllocationStrategy.USER_MANAGED
            self.scratch_bytes = 0 if managed else SCRATCH_BYTES
            self.addresses: dict[str, int] = {}
            self.batch, self.profile = -1, 0
            self.state = 0  # a graph holds for one
            self.has_run_in = -1
            gpu.acquire("context", self)

        def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
            self.profile, self.state = profile_index, self.state + 1
            return not gpu.fails(f"set_optimization_profile_async {profile_index}")

        def set_device_memory(self, memory: int, size: int) -> None:
            self.state += 1
            self.scratch_bytes = min(size, gpu.driver.device[memory].nbytes)

        def set_tensor_address(self, tensor: str, memory: int) -> bool:
            self.addresses[tensor] = memory
            self.state += 1
            return not gpu.fails(f"set_tensor_address {tensor}")

        def get_tensor_shape(self, tensor: str) -> tuple[int, ...]:
            return (self.batch, 3, gpu.side, gpu.side)

        def set_input_shape(self, tensor: str, shape: tuple[int, ...]) -> bool:
            least, _, most = gpu.profiles[self.profile]
            assert (tensor, shape[1:]) == ("image", (3, gpu.side, gpu.side))
            if gpu.fails(f"set_input_shape {shape[0]}") or not least <= shape[0] <= most:
                return False
            self.batch, self.state = shape[0], self.state + 1
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            failed, batch, addresses, state = (
                gpu.fails("execute_async_v3"),
                self.batch,
                dict(self.addresses),
                self.state,
            )
            first_run = self.has_run_in != state
            if failed or batch < 0 or self.scratch_bytes < SCRATCH_BYTES:
                return False
            if gpu.driver.capturing is not None and first_run:  # it allocates then
                gpu.driver.spoilt = True
            self.has_run_in = state
            living = weakref.ref(self)

            def work() -> CUresult:
                if living() is None or living().state != state:  # what was captured stands no more
                    return CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
                n_numbers, memory = batch * 3 * gpu.side**2, gpu.driver.device
                images = memory[addresses["image"]].view(np.float32)[:n_numbers]
                images = images.reshape(batch, 3, gpu.side, gpu.side)
                for output in OUTPUTS:
                    value = answer(images, output).reshape(-1)
                    memory[addresses[output]].view(np.float32)[: value.size] = value
                return CUresult.CUDA_SUCCESS

            return gpu.driver.on(stream_handle, work) is None

    class EngineInspector:
        execution_context: IExecutionContext | None = None
        information = '{"Layers": [{"Name": "a", "LayerType": "conv", "Inputs": [{"Format/Datatype": "Half"}]}]}'

        def get_engine_information(self, form: object) -> str:
            shaped = self.execution_context is not None and self.execution_context.batch
            gpu.calls.append(f"get_engine_information {form!s} at batch {shaped}")
            return self.information

    class ICudaEngine:
        device_memory_size_v2 = SCRATCH_BYTES

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
    both = (
        ILogger,
        ExecutionContextAllocationStrategy,
        IRuntimeConfig,
        IExecutionContext,
        ICudaEngine,
        EngineInspector,
        Runtime,
    )
    both += (Refitter, OnnxParserRefitter)
    only_rtx = (CudaGraphStrategy, EngineValidity, EngineInvalidityDiagnostics, IRuntimeCache)
    for item in both + (only_rtx if is_rtx else ()):
        setattr(module, item.__name__, item)
    if not is_rtx:  # what TensorRT does not have must not be called there
        del Runtime.get_engine_validity, IRuntimeConfig.cuda_graph_strategy
        del IRuntimeConfig.create_runtime_cache, IRuntimeConfig.set_runtime_cache
    return module
