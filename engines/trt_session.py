"""TensorRT's objects for one plan: the runtime, the engine, and an execution context for each profile. Needs a GPU."""

import functools
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import whole_file
from engines.base import INPUT_NAME, OUTPUT_SHAPES, input_shape
from engines.trt_flavour import FLAVOURS, TENSORRT_RTX, WORDS, cache_folder, load_tensorrt
from engines.trt_plan import PlanRecord, choose_profile

if TYPE_CHECKING:
    import tensorrt
    import tensorrt_rtx


class PlanSession:
    """A loaded plan. TensorRT reports failure by what it returns: each is checked here, where the call is made.

    Args:
        plan: the file.
        record: its sidecar.
        stream: handle of the CUDA stream that all work goes to.
        cuda_graphs: whether TensorRT for RTX captures graphs of its own; TensorRT leaves that to its caller.

    Raises:
        InputError: this machine does not load the plan, or it has other tensors than the protocol.
    """

    def __init__(self, plan: Path, record: PlanRecord, *, stream: int, cuda_graphs: bool) -> None:
        self._plan, self._record, self._stream = plan, record, stream
        self._flavour = FLAVOURS[record.key.flavour]
        self._trt = load_tensorrt(self._flavour, lean=record.key.settings.version_compatible)
        self._logger, self._heard = listener(self._trt)
        self._runtime: tensorrt.Runtime = None
        self._engine: tensorrt.ICudaEngine = None
        self._runtime_config: tensorrt_rtx.IRuntimeConfig = None
        self._cache: tensorrt_rtx.IRuntimeCache = None
        self._contexts: list[tensorrt.IExecutionContext] = []
        self._batches: dict[int, int] = {}  # what each context is set to
        try:
            self._load(plan.read_bytes())
            self._make_contexts(cuda_graphs=cuda_graphs)
        except BaseException:
            self.close()
            raise

    # An error's traceback keeps every local variable of its frames alive. So no method that may raise holds one of
    # TensorRT's objects in a local variable: it would outlive what it stands on.

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Tell every context where the tensors lie on the device, after checking that they are the protocol's."""
        for name, shape in {INPUT_NAME: input_shape(self._record.input_size), **OUTPUT_SHAPES}.items():
            given, kind = tuple(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name)
            require(
                given == shape and kind == self._trt.DataType.FLOAT,
                f"{self._plan}: '{name}' is {kind} {given}; it must be FLOAT {shape}, -1 being any batch.",
            )
            for place in range(len(self._contexts)):
                bound = self._contexts[place].set_tensor_address(name, addresses[name])
                self._done(bound, f"set_tensor_address of {name}")

    def enqueue(self, batch: int) -> None:
        """Enqueue one inference of `batch` images, in the context of the profile that serves them best."""
        place = choose_profile(self._record.key.settings.profiles, batch)
        if self._batches.get(place) != batch:
            shape = (batch, *input_shape(self._record.input_size)[1:])
            self._done(self._contexts[place].set_input_shape(INPUT_NAME, shape), f"set_input_shape to batch {batch}")
            self._batches[place] = batch
        self._done(self._contexts[place].execute_async_v3(self._stream), "execute_async_v3")

    def close(self) -> None:
        """Free contexts, engine and runtime, in this order; a second call does nothing."""
        self._contexts.clear()
        try:
            if self._cache is not None:
                with suppress(OSError), whole_file(self._cache_file()) as temporary:  # a read-only home costs time only
                    temporary.write_bytes(bytes(self._cache.serialize()))
        finally:
            self._cache = None
            self._runtime_config = None
            self._engine = None
            self._runtime = None

    def _load(self, content: bytes) -> None:
        """Runtime and engine; a stripped plan gets its weights back."""
        trt, settings = self._trt, self._record.key.settings
        where = f"{self._flavour.title} {trt.__version__}"
        try:
            self._runtime = trt.Runtime(self._logger)
        except TypeError as error:  # pybind's word for a library that created nothing
            raise InputError(f"{where} gives no runtime here ({error}); is its driver installed?") from None
        if self._flavour is TENSORRT_RTX:
            self._check_validity(content)
        self._runtime.engine_host_code_allowed = settings.version_compatible
        self._engine = self._runtime.deserialize_cuda_engine(content)
        require(self._engine is not None, f"{where} does not load {self._plan}: {self._words()}")
        if settings.stripped:
            onnx = self._plan.with_name(self._record.onnx)
            require(onnx.is_file(), f"{self._plan} has no weights and {onnx} is not there to take them from.")
            require(self._refit(onnx), f"the weights of {onnx} do not fit {self._plan}: {self._words()}")

    def _check_validity(self, content: bytes) -> None:
        """Ask TensorRT for RTX whether it can run the plan here, before it tries."""
        validity, diagnostics = self._runtime.get_engine_validity(content)
        known = self._trt.EngineInvalidityDiagnostics.__members__.items()
        reasons = ", ".join(name for name, bit in known if diagnostics & int(bit)) or self._words()
        require(
            validity != self._trt.EngineValidity.INVALID,
            f"{self._plan} cannot run here: {reasons}; build it for this GPU: cliphand build {self._plan.parent} "
            f"--flavour {self._flavour.name}.",
        )

    def _refit(self, onnx: Path) -> bool:
        """Put the graph's weights into a stripped engine; False where they do not fit."""
        refitter = self._trt.Refitter(self._engine, self._logger)
        parser = self._trt.OnnxParserRefitter(refitter, self._logger)
        return bool(parser.refit_from_file(str(onnx)) and refitter.refit_cuda_engine())

    def _make_contexts(self, *, cuda_graphs: bool) -> None:
        """One execution context for each profile."""
        if self._flavour is TENSORRT_RTX:
            self._configure_rtx(cuda_graphs=cuda_graphs)
        for place in range(len(self._record.key.settings.profiles)):
            self._contexts.append(self._new_context())
            made = self._contexts[place] is not None
            require(made, f"{self._flavour.title} has no room to run {self._plan}: {self._words()}")
            done = self._contexts[place].set_optimization_profile_async(place, self._stream)
            self._done(done, "set_optimization_profile_async")

    def _new_context(self) -> "tensorrt.IExecutionContext":
        if self._flavour is TENSORRT_RTX:
            return self._engine.create_execution_context(self._runtime_config)
        return self._engine.create_execution_context()

    def _configure_rtx(self, *, cuda_graphs: bool) -> None:
        """Let TensorRT for RTX capture graphs itself, and keep its just-in-time kernels for the next time."""
        trt = self._trt
        strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE if cuda_graphs else trt.CudaGraphStrategy.DISABLED
        self._runtime_config = self._engine.create_runtime_config()
        self._runtime_config.cuda_graph_strategy = strategy
        self._cache = self._runtime_config.create_runtime_cache()
        if self._cache_file().is_file():
            # False where another version or another GPU made them: then the cache starts empty, and replaces the file.
            self._cache.deserialize(self._cache_file().read_bytes())
        self._done(self._runtime_config.set_runtime_cache(self._cache), "set_runtime_cache")

    def _cache_file(self) -> Path:
        return cache_folder() / f"{self._record.plan_sha256[:16]}.jit"

    def _done(self, succeeded: bool, call: str) -> None:
        """Raise RuntimeError unless a call of TensorRT succeeded."""
        if not succeeded:
            raise RuntimeError(f"{call} failed in {self._flavour.title} on {self._plan}: {self._words()}")

    def _words(self) -> str:
        """What TensorRT said about the failure."""
        heard = "; ".join(self._heard)[:WORDS] or "it says nothing."
        self._heard.clear()
        return heard


@functools.cache
def listener(trt: ModuleType) -> "tuple[tensorrt.ILogger, list[str]]":
    """The process's logger for TensorRT, which knows one at a time, and the errors that it has heard."""
    heard: list[str] = []

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                heard.append(" ".join(msg.split()))

    return Listener(), heard
