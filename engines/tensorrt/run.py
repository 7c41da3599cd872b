"""Run a TensorRT plan, of either flavour: numpy in, numpy out, no PyTorch. Needs a GPU.

One stream and one set of buffers. Every batch size is captured once as a CUDA graph, in an execution context of its
own, since a graph is void as soon as its context changes its shape; all contexts share one scratch memory. TensorRT for
RTX captures graphs itself. TensorRT reports failure by what it returns: each is checked where the call is made.
"""

import functools
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.config import require
from cliphand.errors import InputError, UnavailableError
from cliphand.files import sha256_of, whole_file
from engines.artefact.graph_file import read_graph
from engines.base import INPUT_NAME, NATIVE_CODE, OUTPUT_SHAPES, Engine, HandOutput, check_images, input_shape
from engines.host.cuda_device import find_gpu
from engines.tensorrt.cuda import Buffer, open_cuda
from engines.tensorrt.flavour import FLAVOURS, TENSORRT, TENSORRT_RTX, WORDS, cache_folder, load_tensorrt
from engines.tensorrt.plan import check_runs_here, choose_profile, read_record, split_batch

if TYPE_CHECKING:
    import tensorrt

NS_PER_MS = 1e6
MAX_GRAPHS = 16  # batch sizes with a graph and a context of their own; others share a context and enqueue every kernel


class PlanTiming(NamedTuple):
    """Milliseconds of N calls, (N,) each: CUDA events around the work, and the wall clock around the call.

    Attributes:
        device_ms: the inference between two events.
        device_with_transfers_ms: the copies to and from the device as well.
        wall_ms: from enqueuing the inference to its end.
        wall_with_transfers_ms: a whole call, from the caller's array to the caller's arrays.
    """

    device_ms: FloatArray
    device_with_transfers_ms: FloatArray
    wall_ms: FloatArray
    wall_with_transfers_ms: FloatArray


class TrtEngine(Engine):
    """A plan on the GPU. Not for several threads at once: they would share its buffers.

    Args:
        plan: a `.plan` file beside its sidecar.
        cuda_graphs: replay captured graphs; False enqueues every kernel of every call.
        trust: let a version-compatible plan bring and run its own host code.

    Raises:
        InputError: the plan or its sidecar cannot be read, or this machine cannot run it; the sentence says why.
    """

    def __init__(self, plan: Path, *, cuda_graphs: bool = True, trust: bool = False) -> None:
        record = read_record(plan)
        native = record.key.settings.version_compatible
        require(not native or trust, f"{plan} is version-compatible: {NATIVE_CODE}")
        key, flavour = record.key, FLAVOURS[record.key.flavour]
        self.name, self.precision, self.input_size = key.flavour, key.precision, record.input_size
        self.profiles = key.settings.profiles
        self._plan, self._record, self._flavour, self._cuda_graphs = plan, record, flavour, cuda_graphs
        self._trt = load_tensorrt(flavour, lean=key.settings.version_compatible)
        check_runs_here(record, plan, version=self._trt.__version__, gpu=find_gpu())
        self._shapes = {INPUT_NAME: input_shape(self.input_size), **OUTPUT_SHAPES}
        self._buffers: dict[str, Buffer] = {}
        # By profile, and by batch where one is captured in the context; a context appears when it is first needed.
        self._contexts: dict[tuple[int, int | None], tensorrt.IExecutionContext] = {}
        self._graphs: dict[int, Callable[[], object]] = {}  # by batch
        self._kernels = cache_folder() / f"{record.plan_sha256[:16]}.jit"  # just-in-time, of TensorRT for RTX
        self._logger = listener(self._trt)
        self._logger.heard.clear()  # what an earlier plan was told
        self._cuda = open_cuda()
        self._release = ExitStack()  # what is acquired last is released first
        try:
            with self._cuda.current():
                self._allocate()
                self._load(plan.read_bytes())
                self._configure()
        except BaseException:
            self.close()
            raise

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`; more images than the largest profile takes are run in several calls."""
        check_images(images, self.input_size)
        if not self._buffers:
            raise RuntimeError("this engine is closed; open it again")
        outputs = {name: np.empty((len(images), *shape[1:]), np.float32) for name, shape in OUTPUT_SHAPES.items()}
        start = 0
        with self._cuda.current():
            for size in split_batch(self.profiles, len(images)):
                part = slice(start, start + size)
                self._upload(images[part])
                self._infer(size)
                self._download(size)
                self._cuda.synchronise(self._stream)
                for name, output in outputs.items():
                    output[part] = self._buffers[name].host[:size]
                start += size
        return HandOutput(**outputs)

    def time_calls(self, images: FloatArray, *, calls: int) -> PlanTiming:
        """Time so many calls with a batch that one profile takes whole, after an untimed one."""
        require(len(split_batch(self.profiles, len(images))) == 1, "a batch that is run in parts cannot be timed.")
        self(images)
        size, stream, times = len(images), self._stream, np.empty((4, calls))
        with self._cuda.current(), ExitStack() as stack:
            marks = [self._cuda.event(stack) for _ in range(4)]
            for index in range(calls):
                self._cuda.record(marks[0], stream)
                self._upload(images)
                self._cuda.record(marks[1], stream)
                self._infer(size)
                self._cuda.record(marks[2], stream)
                self._download(size)
                self._cuda.record(marks[3], stream)
                self._cuda.synchronise(stream)
                times[0, index] = self._cuda.milliseconds(marks[1], marks[2])
                times[1, index] = self._cuda.milliseconds(marks[0], marks[3])
                clock = [time.perf_counter_ns()]
                self._infer(size)
                self._cuda.synchronise(stream)
                clock.append(time.perf_counter_ns())
                self(images)
                clock.append(time.perf_counter_ns())
                times[2:, index] = np.diff(clock) / NS_PER_MS
        return PlanTiming(*times)

    def close(self) -> None:
        """Free graphs, contexts, engine and buffers, in this order; a second call does nothing."""
        with self._cuda.current():
            self._release.close()

    # An error's traceback keeps every local variable of its frames alive. So no method that may raise holds one of
    # TensorRT's objects in a local variable: it would outlive what it stands on.

    def _allocate(self) -> None:
        """The stream that all work goes to, and buffers for the largest batch."""
        self._stream = self._cuda.stream(self._release)
        largest = max(span.max for span in self.profiles)
        self._release.callback(self._buffers.clear)
        for name, shape in self._shapes.items():
            self._buffers[name] = self._cuda.buffer((largest, *shape[1:]), self._release)

    def _load(self, content: bytes) -> None:
        """Runtime and engine; a stripped plan gets its weights back."""
        try:
            self._runtime = self._trt.Runtime(self._logger)
        except TypeError as error:  # pybind's word for a library that created nothing
            raise UnavailableError(
                f"{self._flavour.title} has no runtime here ({error}); is a driver installed?"
            ) from None
        self._release.callback(delattr, self, "_runtime")
        if self._flavour is TENSORRT_RTX:  # it says whether it can run the plan here before it tries
            validity, diagnostics = self._runtime.get_engine_validity(content)
            known = self._trt.EngineInvalidityDiagnostics.__members__.items()
            reasons = [name for name, bit in known if diagnostics & int(bit)]
            self._check(validity != self._trt.EngineValidity.INVALID, " ".join(["get_engine_validity", *reasons]))
        settings, onnx = self._record.key.settings, self._plan.with_name(self._record.onnx)
        self._runtime.engine_host_code_allowed = settings.version_compatible
        self._engine = self._runtime.deserialize_cuda_engine(content)
        self._release.callback(delattr, self, "_engine")
        self._check(self._engine is not None, "deserialize_cuda_engine")
        for name, shape in self._shapes.items():  # the buffers are raw memory; batches are the profiles' matter
            kind, found = self._engine.get_tensor_dtype(name).name, tuple(self._engine.get_tensor_shape(name))
            told = f"{self._plan}: '{name}' is {kind} {found}; it must be FLOAT {shape}, -1 being any batch."
            require((kind, found[1:]) == ("FLOAT", shape[1:]), told)
        if settings.stripped:
            require(onnx.is_file(), f"{self._plan} has no weights and {onnx} is not there to take them from.")
            same = sha256_of(onnx) == self._record.key.onnx_sha256
            require(same, f"{self._plan} was built from another {onnx.name} than lies beside it; build it again.")
            read_graph(onnx)  # for its checks
            self._check(self._refit(onnx), f"refitting with the weights of {onnx}")

    def _refit(self, onnx: Path) -> bool:
        """Put the graph's weights into a stripped engine; False where they do not fit."""
        refitter = self._trt.Refitter(self._engine, self._logger)
        parser = self._trt.OnnxParserRefitter(refitter, self._logger)
        return bool(parser.refit_from_file(str(onnx)) and refitter.refit_cuda_engine())

    def _configure(self) -> None:
        """What every context of the engine has in common."""
        self._runtime_config = self._engine.create_runtime_config()
        self._release.callback(delattr, self, "_runtime_config")
        self._check(self._runtime_config is not None, "create_runtime_config")
        if self._flavour is TENSORRT_RTX:
            self._configure_rtx()
        else:  # else each context would take what the largest profile needs
            shared = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            self._runtime_config.set_execution_context_allocation_strategy(shared)
            self._scratch_bytes = self._engine.device_memory_size_v2
            self._scratch = self._cuda.device_memory(max(self._scratch_bytes, 1), self._release)
        self._release.callback(self._contexts.clear)

    def _configure_rtx(self) -> None:
        """Let TensorRT for RTX capture graphs itself, and keep its just-in-time kernels for the next time."""
        whole, none = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE, self._trt.CudaGraphStrategy.DISABLED
        self._runtime_config.cuda_graph_strategy = whole if self._cuda_graphs else none
        self._cache = self._runtime_config.create_runtime_cache()
        self._release.callback(delattr, self, "_cache")
        self._check(self._cache is not None, "create_runtime_cache")
        self._release.callback(self._save_kernels)
        if self._kernels.is_file():
            # False where another version or another GPU made them: then the cache starts empty, and replaces the file.
            self._cache.deserialize(self._kernels.read_bytes())
        self._check(self._runtime_config.set_runtime_cache(self._cache), "set_runtime_cache")

    def _save_kernels(self) -> None:
        """Write the just-in-time kernels; where they are not given or not written, they are only made again."""
        with suppress(OSError, TypeError), whole_file(self._kernels, None) as temporary:
            temporary.write_bytes(bytes(self._cache.serialize()))

    def _upload(self, images: FloatArray) -> None:
        """Copy images to the device, by way of pinned memory."""
        buffer = self._buffers[INPUT_NAME]
        buffer.host[: len(images)] = images
        self._cuda.upload(buffer, len(images), self._stream)

    def _infer(self, batch: int) -> None:
        """Enqueue the inference of what is on the device, as a graph where TensorRT leaves that to its caller."""
        place = choose_profile(self.profiles, batch)
        captures = self._cuda_graphs and self._flavour is TENSORRT
        if captures and batch not in self._graphs and len(self._graphs) < MAX_GRAPHS:
            self._enqueue(batch, (place, batch))  # what TensorRT does at the first run must not be in the graph
            self._cuda.synchronise(self._stream)
            self._graphs[batch] = self._cuda.capture(
                lambda: self._enqueue(batch, (place, batch)), self._stream, self._release
            )
        if batch in self._graphs:
            self._graphs[batch]()
        else:
            self._enqueue(batch, (place, None))

    def _enqueue(self, batch: int, key: tuple[int, int | None]) -> None:
        """Enqueue every kernel, in the context of this key."""
        if key not in self._contexts:
            self._make_context(key)
        shape = (batch, *self._shapes[INPUT_NAME][1:])
        if tuple(self._contexts[key].get_tensor_shape(INPUT_NAME)) != shape:
            self._check(self._contexts[key].set_input_shape(INPUT_NAME, shape), f"set_input_shape to batch {batch}")
        self._check(self._contexts[key].execute_async_v3(self._stream), "execute_async_v3")

    def _make_context(self, key: tuple[int, int | None]) -> None:
        """An execution context for a profile, told where the tensors and the scratch memory lie."""
        try:
            self._contexts[key] = self._engine.create_execution_context(self._runtime_config)
            self._check(self._contexts[key] is not None, "create_execution_context")
            chosen = self._contexts[key].set_optimization_profile_async(key[0], self._stream)
            self._check(chosen, "set_optimization_profile_async")
            if self._flavour is TENSORRT:
                self._contexts[key].set_device_memory(self._scratch, self._scratch_bytes)
            for name, buffer in self._buffers.items():
                bound = self._contexts[key].set_tensor_address(name, buffer.address)
                self._check(bound, f"set_tensor_address of {name}")
            self._cuda.synchronise(self._stream)  # the context has switched to its profile
        except BaseException:
            self._contexts.pop(key, None)
            raise

    def _download(self, batch: int) -> None:
        """Copy the outputs into pinned memory."""
        for name in OUTPUT_SHAPES:
            self._cuda.download(self._buffers[name], batch, self._stream)

    def _check(self, succeeded: bool, call: str) -> None:
        """Raise InputError unless a call of TensorRT succeeded, in TensorRT's words."""
        if not succeeded:
            words = "; ".join(self._logger.heard)[:WORDS] or "it says nothing"
            self._logger.heard.clear()
            raise InputError(f"{self._flavour.title} {self._trt.__version__} fails at {call} on {self._plan}: {words}")


@functools.cache
def listener(trt: ModuleType) -> "tensorrt.ILogger":
    """The process's logger for TensorRT, which knows one at a time; `heard` are the errors."""

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
        heard: ClassVar[list[str]] = []

        def log(self, severity: object, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.heard.append(" ".join(msg.split()))

    return Listener()


def load(path: Path, *, precision: str, threads: int | None, trust: bool = False) -> TrtEngine:
    """Open a plan; the form that `engines.open` calls. Its sidecar states the precision, and threads are the CPU's."""
    return TrtEngine(path, trust=trust)
