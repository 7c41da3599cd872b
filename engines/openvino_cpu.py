"""OpenVINO on the CPU: the fastest engine for INT8 graphs there. Needs numpy and openvino, never PyTorch."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.errors import InputError
from engines.base import DYNAMIC, INPUT_NAME, OUTPUT_SHAPES, HandOutput, check_images, input_shape

INSTALL = "pip install 'cliphand[openvino]'"
FLOAT32 = "f32"


class OpenVinoEngine:
    """An ONNX graph in OpenVINO's CPU plug-in.

    Args:
        path: the ONNX file.
        precision: what the graph computes in, for reports.
        threads: of one call; None leaves the choice to OpenVINO.

    Raises:
        InputError: OpenVINO is not installed or does not take the graph, or its tensors differ from the protocol's.
    """

    name = "openvino"

    def __init__(self, path: Path, *, precision: str = "unstated", threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise InputError(f"OpenVINO is not installed ({error}): {INSTALL}.") from None
        if not path.is_file():
            raise InputError(f"{path} does not exist; give an ONNX file or a folder that `cliphand export` wrote.")
        # Without the hint OpenVINO computes FP32 graphs in bfloat16 where the CPU can: 1.8 times faster, but not FP32.
        settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": FLOAT32, "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self.precision = precision
        try:
            model = openvino.Core().read_model(path)
            self.input_size = _input_size(model, path)
            compiled = openvino.Core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            message = " ".join(str(error).split())
            raise InputError(
                f"{path} cannot be run by OpenVINO {openvino.__version__} ({message[:400]}); export it again."
            ) from None
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`."""
        check_images(images, self.input_size)
        if self._request is None:
            raise RuntimeError("this engine is closed; open it again")
        self._request.infer({INPUT_NAME: images})
        # Copies: the request's own memory is overwritten by the next call.
        joints, verts = (np.array(self._request.get_tensor(name).data) for name in OUTPUT_SHAPES)
        return HandOutput(joints_uvd=joints, verts_uvd=verts)

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._request = None

    def __enter__(self) -> Self:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def load(path: Path, *, precision: str, threads: int | None) -> OpenVinoEngine:
    """Open an ONNX file; the form that `engines.open` calls."""
    return OpenVinoEngine(path, precision=precision, threads=threads)


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
    inputs: list[_Port]
    outputs: list[_Port]


def _shape(port: _Port) -> tuple[int, ...]:
    """A port's shape, -1 for what may vary."""
    return tuple(extent.get_length() if extent.is_static else DYNAMIC for extent in port.get_partial_shape())


def _input_size(model: _Model, path: Path) -> int:
    """Check names, shapes and types against the protocol and return the crop's side."""
    inputs = {port.get_any_name(): port for port in model.inputs}
    outputs = {port.get_any_name(): port for port in model.outputs}
    for role, given, valid in (("inputs", inputs, {INPUT_NAME}), ("outputs", outputs, set(OUTPUT_SHAPES))):
        if set(given) != valid:
            raise InputError(f"{path} has {role} {sorted(given)}; an engine needs {sorted(valid)}: export it again.")
    side = _shape(inputs[INPUT_NAME])[-1]
    shapes = {INPUT_NAME: input_shape(side), **OUTPUT_SHAPES}
    for name, port in (inputs | outputs).items():
        kind = port.get_element_type().get_type_name()
        if _shape(port) != shapes[name] or kind != FLOAT32:
            raise InputError(
                f"{path}: '{name}' is {kind} {_shape(port)}; it must be {FLOAT32} {shapes[name]}, -1 being any batch."
            )
    return side
