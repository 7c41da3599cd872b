"""TensorRT's objects for one plan: the runtime, the engine, and an execution context for each profile. Needs a GPU."""

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import whole_file
from engines.base import INPUT_NAME, OUTPUT_SHAPES, input_shape
from engines.trt_flavour import FLAVOURS, TENSORRT_RTX, cache_folder, load_tensorrt
from engines.trt_plan import PlanRecord
from engines.trt_rules import WORDS


class _Listener(Protocol):
    """TensorRT's ILogger, keeping the errors."""

    heard: list[str]


class _ExecutionContext(Protocol):
    """The part of TensorRT's IExecutionContext that is used here."""

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool: ...
    def set_tensor_address(self, name: str, address: int) -> bool: ...
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...
    def infer_shapes(self) -> list[str]: ...
    def get_tensor_shape(self, name: str) -> Sequence[int]: ...
    def execute_async_v3(self, stream: int) -> bool: ...


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
        self._listener = listener(self._trt)
        self._release = ExitStack()
        try:
            self._load()
            self._check_tensors()
            self._make_contexts(cuda_graphs=cuda_graphs)
        except BaseException:
            self.close()
            raise

    # An error's traceback keeps every local variable of its frames alive. So no method that may raise holds one of
    # TensorRT's objects in a local variable: it would outlive what it stands on.

    def bind(self, addresses: Mapping[str, int]) -> None:
        """Tell every context where the tensors lie on the device."""
        for place in range(len(self._contexts)):
            for name, address in addresses.items():
                self._done(self._contexts[place].set_tensor_address(name, address), "set_tensor_address")

    def set_batch(self, place: int, batch: int) -> None:
        """Give the context of profile `place` its next batch size."""
        shape = (batch, 3, self._record.input_size, self._record.input_size)
        self._done(self._contexts[place].set_input_shape(INPUT_NAME, shape), f"set_input_shape to batch {batch}")
        unknown = self._contexts[place].infer_shapes()
        self._done(not unknown, f"infer_shapes for {unknown}")
        for name, any_batch in OUTPUT_SHAPES.items():
            given = tuple(self._contexts[place].get_tensor_shape(name))
            self._done(given == (batch, *any_batch[1:]), f"get_tensor_shape: {name} is {given} at batch {batch}, which")

    def enqueue(self, place: int) -> None:
        """Enqueue one inference of profile `place` at the batch size that was set last."""
        self._done(self._contexts[place].execute_async_v3(self._stream), "execute_async_v3")

    def close(self) -> None:
        """Free contexts, engine and runtime, in this order; a second call does nothing."""
        self._release.close()

    def _load(self) -> None:
        """Runtime and engine; a stripped plan gets its weights back."""
        trt, settings, content = self._trt, self._record.key.settings, self._plan.read_bytes()
        where = f"{self._flavour.title} {trt.__version__}"
        try:
            self._runtime = trt.Runtime(self._listener)
        except TypeError as error:  # pybind's word for a library that created nothing
            raise InputError(f"{where} gives no runtime here ({error}); is its driver installed?") from None
        self._release.callback(vars(self).pop, "_runtime")
        if self._flavour is TENSORRT_RTX:
            self._check_validity(content)
        self._runtime.engine_host_code_allowed = settings.version_compatible
        self._engine = self._runtime.deserialize_cuda_engine(content)
        self._release.callback(vars(self).pop, "_engine")
        require(self._engine is not None, f"{where} does not load {self._plan}: {self._words()}")
        if settings.stripped:
            onnx = self._plan.with_name(self._record.onnx)
            require(onnx.is_file(), f"{self._plan} has no weights and {onnx} is not there to take them from.")
            require(self._refit(onnx), f"the weights of {onnx} do not fit {self._plan}: {self._words()}")

    def _check_validity(self, content: bytes) -> None:
        """Ask TensorRT for RTX whether it can run the plan here, before it tries."""
        validity, diagnostics = self._runtime.get_engine_validity(content)
        reasons = [
            name for name, bit in self._trt.EngineInvalidityDiagnostics.__members__.items() if diagnostics & int(bit)
        ]
        require(
            validity != self._trt.EngineValidity.INVALID,
            f"{self._plan} cannot run here: {', '.join(reasons) or self._words()}; build it for this GPU: "
            f"cliphand build {self._plan.parent} --flavour {self._flavour.name}.",
        )

    def _refit(self, onnx: Path) -> bool:
        """Put the graph's weights into a stripped engine; False where they do not fit."""
        refitter = self._trt.Refitter(self._engine, self._listener)
        parser = self._trt.OnnxParserRefitter(refitter, self._listener)
        return bool(parser.refit_from_file(str(onnx)) and refitter.refit_cuda_engine())

    def _check_tensors(self) -> None:
        """Compare names, shapes, types and profiles with the protocol's and the sidecar's."""
        shapes = {INPUT_NAME: input_shape(self._record.input_size), **OUTPUT_SHAPES}
        names = {self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)}
        require(names == set(shapes), f"{self._plan} has tensors {sorted(names)}; an engine needs {sorted(shapes)}.")
        for name, shape in shapes.items():
            given, kind = tuple(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name)
            require(
                given == shape and kind == self._trt.DataType.FLOAT,
                f"{self._plan}: '{name}' is {kind} {given}; it must be FLOAT {shape}, -1 being any batch.",
            )
        stated = [(span.min, span.opt, span.max) for span in self._record.key.settings.profiles]
        built = [
            tuple(next(iter(shape)) for shape in self._engine.get_tensor_profile_shape(INPUT_NAME, place))
            for place in range(self._engine.num_optimization_profiles)
        ]
        require(built == stated, f"{self._plan} has profiles {built}, but its sidecar says {stated}; build it again.")

    def _make_contexts(self, *, cuda_graphs: bool) -> None:
        """One execution context for each profile."""
        if self._flavour is TENSORRT_RTX:
            self._configure_rtx(cuda_graphs=cuda_graphs)
        self._contexts: list[_ExecutionContext] = []
        self._release.callback(self._contexts.clear)
        for place in range(self._engine.num_optimization_profiles):
            if not self._add_context():
                raise InputError(f"{self._flavour.title} has no room to run {self._plan}: {self._words()}")
            done = self._contexts[place].set_optimization_profile_async(place, self._stream)
            self._done(done, "set_optimization_profile_async")

    def _add_context(self) -> bool:
        """Make one more execution context; False where TensorRT makes none."""
        if self._flavour is TENSORRT_RTX:
            context = self._engine.create_execution_context(self._runtime_config)
        else:
            context = self._engine.create_execution_context()
        if context is not None:
            self._contexts.append(context)
        return context is not None

    def _configure_rtx(self, *, cuda_graphs: bool) -> None:
        """Let TensorRT for RTX capture graphs itself, and keep its just-in-time kernels for the next time."""
        trt = self._trt
        self._runtime_config = self._engine.create_runtime_config()
        self._release.callback(vars(self).pop, "_runtime_config")
        strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE if cuda_graphs else trt.CudaGraphStrategy.DISABLED
        self._runtime_config.cuda_graph_strategy = strategy
        self._cache = self._runtime_config.create_runtime_cache()
        self._release.callback(vars(self).pop, "_cache")
        file = cache_folder() / f"{self._record.plan_sha256[:16]}.jit"
        if file.is_file():
            # False where another version or another GPU made them: then the cache starts empty, and replaces the file.
            self._cache.deserialize(file.read_bytes())
        self._done(self._runtime_config.set_runtime_cache(self._cache), "set_runtime_cache")
        self._release.callback(self._save_cache, file)

    def _save_cache(self, file: Path) -> None:
        kernels = self._cache.serialize()
        with suppress(OSError), whole_file(file) as temporary:  # a read-only home costs time, not results
            temporary.write_bytes(bytes(kernels))

    def _done(self, succeeded: bool, call: str) -> None:
        """Raise RuntimeError unless a call of TensorRT succeeded."""
        if not succeeded:
            raise RuntimeError(f"{call} failed in {self._flavour.title} on {self._plan}: {self._words()}")

    def _words(self) -> str:
        """What TensorRT said about the failure."""
        heard = "; ".join(self._listener.heard)[:WORDS] or "it says nothing."
        self._listener.heard.clear()
        return heard


@functools.cache
def listener(trt: ModuleType) -> _Listener:
    """The process's logger for TensorRT, which knows one at a time: it keeps the errors for the sentence about them."""

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.heard: list[str] = []

        def log(self, severity: object, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.heard.append(" ".join(msg.split()))

    return cast("_Listener", Listener())
