"""OpenVINO on the CPU: the fastest engine measured there, INT8 above all. Never needs PyTorch.

One ONNX file runs in several precisions: FP32 in FP32, which OpenVINO must be told to keep to; FP32 in what the
processor is fastest in (bfloat16 or float16), under the name that OpenVINO reports; a Q/DQ graph in INT8, its rest in
either. The graph stays dynamic in its batch: fixing it saved 2 % of a bfloat16 call with one image, 1 % of an FP32 call
and nothing with four (resnet50, 256 px), too little for a compilation of every batch size.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.config import require
from cliphand.errors import InputError, UnavailableError
from cliphand.extras import install_extra
from engines.artefact.graph_file import read_graph
from engines.base import DYNAMIC, INPUT_NAME, OUTPUT_SHAPES, Engine, HandOutput, check_images, input_shape

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest

FLOAT32 = "f32"
NAMES = {FLOAT32: "fp32", "bf16": "bf16", "f16": "fp16"}  # OpenVINO's names as reports print them
QUANTISED = "int8"
Mode = Literal["latency", "throughput"]


@dataclass(frozen=True, slots=True)
class OpenVinoOptions:
    """How OpenVINO computes.

    Attributes:
        reduced: compute what is not INT8 in the processor's own reduced precision instead of FP32.
        mode: `latency` gives one call all threads; `throughput` runs calls from several threads side by side.
        threads: in all; None leaves the choice to OpenVINO.
        streams: calls side by side; None leaves the choice to the mode.
        profiled: take the time of every node.
        cache: folder in which compiled models are kept, so that opening again is quick; None keeps none.
    """

    reduced: bool = False
    mode: Mode = "latency"
    threads: int | None = None
    streams: int | None = None
    cache: Path | None = None
    profiled: bool = False

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value in (("threads", self.threads), ("streams", self.streams)):
            require(value is None or value >= 1, f"{name} is {value}; it must be at least 1.")

    def settings(self) -> dict[str, object]:
        """OpenVINO's own names for all this."""
        chosen = {
            # Without the hint OpenVINO computes FP32 graphs in bfloat16 where the processor can.
            "INFERENCE_PRECISION_HINT": None if self.reduced else FLOAT32,
            "PERFORMANCE_HINT": self.mode.upper(),
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.streams,
            "PERF_COUNT": self.profiled or None,
            "CACHE_DIR": None if self.cache is None else str(self.cache),
        }
        return {name: value for name, value in chosen.items() if value is not None}


class OpenVinoEngine(Engine):
    """An ONNX graph in OpenVINO's CPU plug-in. Calls from several threads run side by side, as many as the mode has.

    Args:
        path: the ONNX file.
        precision: what the graph is stored in; with `options.reduced` the engine's own says what it computes in.
        threads: short for the same field of `options`.
        options: everything else.

    Raises:
        InputError: OpenVINO is not installed or does not take the graph, its tensors differ from the protocol's, or the
            processor has no reduced precision although that was asked for.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "unstated",
        threads: int | None = None,
        options: OpenVinoOptions | None = None,
    ) -> None:
        options = options or OpenVinoOptions(threads=threads)
        self._compiled: CompiledModel | None = compile_graph(path, options)
        self.input_size = _input_size(self._compiled, path)
        computed = computed_in(self._compiled)
        if options.reduced and computed == FLOAT32:
            raise UnavailableError(
                "OpenVINO knows no reduced precision of this processor; run the graph in FP32 (engine openvino)."
            )
        reduced = f"{QUANTISED}-{NAMES[computed]}" if precision == QUANTISED else NAMES[computed]
        self.precision = reduced if options.reduced else precision
        # In latency mode a second request would only wait for the first one's threads.
        n_requests = 1
        if options.mode == "throughput":
            n_requests = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.parallel_calls = n_requests
        self._requests: SimpleQueue[InferRequest] = SimpleQueue()
        for _ in range(n_requests):
            self._requests.put(self._compiled.create_infer_request())
        if options.reduced:
            self._check_reduced()

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`."""
        check_images(images, self.input_size)
        if self._compiled is None:
            raise RuntimeError("this engine is closed; open it again")
        request = self._requests.get()
        try:
            # The caller's array is the input tensor; the outputs are the request's until the next call, hence copies.
            found = request.infer(images, share_inputs=True, share_outputs=True)
            joints, verts = (np.array(found[name]) for name in OUTPUT_SHAPES)
        finally:
            self._requests.put(request)
        return HandOutput(joints_uvd=joints, verts_uvd=verts)

    def _check_reduced(self) -> None:
        """Run one image: where oneDNN is kept to an instruction set without the precision, outputs have no rows."""
        found = self(np.zeros((1, 3, self.input_size, self.input_size), np.float32))
        require(
            len(found.joints_uvd) == 1,
            f"OpenVINO computes nothing in {self.precision} here (does ONEDNN_MAX_CPU_ISA forbid it?); run the graph "
            "in FP32 (engine openvino).",
        )

    def bare_call(self, images: FloatArray) -> Callable[[], object]:
        """The run-time's own call on these images, input in place and outputs left where they are."""
        import openvino

        if self._compiled is None:
            raise RuntimeError("this engine is closed; open it again")
        request = self._compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
        # Waiting for a started request is one binding call less than `infer`, which also gathers the outputs.
        return lambda: (request.start_async(), request.wait())

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._compiled = None
        self._requests = SimpleQueue()


def load(path: Path, *, precision: str, threads: int | None, cache: Path | None = None) -> OpenVinoEngine:
    """Open an ONNX file, FP32 in FP32; the form that `engines.open` calls."""
    return OpenVinoEngine(path, precision=precision, options=OpenVinoOptions(threads=threads, cache=cache))


def load_reduced(path: Path, *, precision: str, threads: int | None, cache: Path | None = None) -> OpenVinoEngine:
    """Open an ONNX file in the processor's own reduced precision; the form that `engines.open` calls."""
    options = OpenVinoOptions(reduced=True, threads=threads, cache=cache)
    return OpenVinoEngine(path, precision=precision, options=options)


def computed_in(compiled: "CompiledModel") -> str:
    """OpenVINO's name of the type that a graph's floating-point numbers are computed in; `NAMES` has reports' names."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


@cache
def shared_core() -> "Core":
    """The process's one core.

    Each core gives the thread that loads its CPU plug-in a signal stack, and frees it at its own end without asking
    whether a later core will restore it: a second one would leave a stack behind that the next signal crashes on.
    """
    import openvino

    return openvino.Core()


def compile_graph(path: Path, options: OpenVinoOptions) -> "CompiledModel":
    """Have OpenVINO read and compile a graph, or take it from its cache.

    Raises:
        InputError: OpenVINO is not installed, the file is refused by `read_graph`, or OpenVINO does not run it; in its
            words.
    """
    try:
        import openvino
    except ImportError as error:
        raise UnavailableError(f"OpenVINO is not installed ({error}): {install_extra('openvino')}.") from None
    read_graph(path)  # for its checks
    try:
        return shared_core().compile_model(path, "CPU", options.settings())
    except RuntimeError as error:
        message = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be run by OpenVINO {openvino.__version__} ({message[:400]}); export it again."
        ) from None


class _Kind(Protocol):
    def get_type_name(self) -> str: ...


class _Extent(Protocol):
    is_static: bool

    def get_length(self) -> int: ...


class _Port(Protocol):
    """The part of an OpenVINO port that is read here."""

    def get_any_name(self) -> str: ...
    def get_element_type(self) -> _Kind: ...
    def get_partial_shape(self) -> Iterable[_Extent]: ...


class _Model(Protocol):
    @property
    def inputs(self) -> list[_Port]: ...
    @property
    def outputs(self) -> list[_Port]: ...


def _shape(port: _Port) -> tuple[int, ...]:
    """A port's shape, -1 for what may vary."""
    return tuple(extent.get_length() if extent.is_static else DYNAMIC for extent in port.get_partial_shape())


def _input_size(model: _Model, path: Path) -> int:
    """Check names, shapes and types against the protocol and return the crop's side."""
    inputs = {port.get_any_name(): port for port in model.inputs}
    outputs = {port.get_any_name(): port for port in model.outputs}
    for role, given, valid in (("inputs", inputs, {INPUT_NAME}), ("outputs", outputs, set(OUTPUT_SHAPES))):
        if set(given) != valid:
            has, needs = (", ".join(sorted(names)) or "no names" for names in (given, valid))
            raise InputError(f"{path} has {role} {has}; an engine needs {needs}: export it again.")
    side = _shape(inputs[INPUT_NAME])[-1]
    shapes = {INPUT_NAME: input_shape(side), **OUTPUT_SHAPES}
    for name, port in (inputs | outputs).items():
        kind = port.get_element_type().get_type_name()
        if _shape(port) != shapes[name] or kind != FLOAT32:
            raise InputError(
                f"{path}: '{name}' is {kind} {_shape(port)}; it must be {FLOAT32} {shapes[name]}, -1 being any batch."
            )
    return side
