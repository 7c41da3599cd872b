"""ONNX Runtime, on the CPU unless the GPU is asked for: the portable engine. Needs numpy and onnx, never PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from cliphand.arrays import FloatArray
from cliphand.errors import InputError, UnavailableError
from engines.artefact.graph_file import read_graph
from engines.base import DYNAMIC, INPUT_NAME, OUTPUT_SHAPES, Engine, HandOutput, check_images, input_shape

FLOAT32 = "tensor(float)"
EXACT_SUMS = "session.x64quantprecision"
Device = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtEngine(Engine):
    """An ONNX graph in ONNX Runtime.

    Args:
        path: the ONNX file.
        precision: what the graph computes in, for reports.
        threads: of one call; None leaves the choice to ONNX Runtime (the physical cores).
        device: `cuda` runs on the GPU or not at all.

    Raises:
        InputError: the file is refused by `read_graph` or by ONNX Runtime, its tensors differ from the protocol's, or
            the GPU cannot be used.
    """

    def __init__(
        self, path: Path, *, precision: str = "unstated", threads: int | None = None, device: Device = "cpu"
    ) -> None:
        self.name = "onnxruntime" if device == "cpu" else f"onnxruntime-{device}"
        self.precision = precision
        self._outputs = list(OUTPUT_SHAPES)
        self._session: ort.InferenceSession | None = _load(path, threads, device)
        try:
            self.input_size = _input_size(self._session, path)
        except InputError:
            self.close()
            raise

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`."""
        check_images(images, self.input_size)
        if self._session is None:
            raise RuntimeError("this engine is closed; open it again")
        # Plain `run`: with host memory on both sides I/O binding saves nothing and would hand out shared buffers.
        joints, verts = self._session.run(self._outputs, {INPUT_NAME: images})
        return HandOutput(joints_uvd=joints, verts_uvd=verts)

    def bare_call(self, images: FloatArray) -> Callable[[], object]:
        """The run-time's own call on these images, input and outputs bound to memory beforehand."""
        if self._session is None:
            raise RuntimeError("this engine is closed; open it again")
        session, binding = self._session, self._session.io_binding()
        binding.bind_cpu_input(INPUT_NAME, images)
        for name in self._outputs:
            binding.bind_output(name)
        return lambda: session.run_with_iobinding(binding)

    def close(self) -> None:
        """Free the session; a second call does nothing."""
        self._session = None


def load(path: Path, *, precision: str, threads: int | None) -> OrtEngine:
    """Open an ONNX file; the form that `engines.open` calls."""
    return OrtEngine(path, precision=precision, threads=threads)


def load_cuda(path: Path, *, precision: str, threads: int | None) -> OrtEngine:
    """Open an ONNX file on the GPU; the form that `engines.open` calls."""
    return OrtEngine(path, precision=precision, threads=threads, device="cuda")


def _load(path: Path, threads: int | None, device: Device) -> ort.InferenceSession:
    """A session on one device, without a way back to another."""
    available = ort.get_available_providers()
    if PROVIDERS[device] not in available:
        raise UnavailableError(
            f"this ONNX Runtime {ort.__version__} has no {PROVIDERS[device]} (it has {', '.join(available)}); install "
            "onnxruntime-gpu in place of onnxruntime."
        )
    quantised = any(node.op_type == "DequantizeLinear" for node in read_graph(path).graph.node)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    if quantised:
        # On x86 without VNNI two products of 8 bits are summed in 16, where they saturate: vertices of an INT8 graph
        # were off by 1 % of their range on average, and with this by 1e-7. It changes nothing on other processors.
        options.add_session_config_entry(EXACT_SUMS, "1")
    options.log_severity_level = 3  # errors; they also arrive as exceptions
    # Idle workers otherwise spin on after a call and take the cores from whatever runs next: another engine timed
    # in turn with this one ran 2.4 times slower. Back-to-back calls are as fast either way.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=[PROVIDERS[device]])
    except Exception as error:  # its exception classes are private and share no base but this
        message = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be run by ONNX Runtime {ort.__version__} ({message}); export it again."
        ) from None
    # Where a provider fails to start, ONNX Runtime goes on without it and only says so in its log.
    if session.get_providers()[0] != PROVIDERS[device]:
        raise UnavailableError(
            f"{path} would run on {session.get_providers()[0]}: {PROVIDERS[device]} does not start here; check "
            "CUDA and cuDNN against ONNX Runtime's requirements."
        )
    return session


def _input_size(session: ort.InferenceSession, path: Path) -> int:
    """Check names, shapes and types of a graph against the protocol and return its crop's side."""
    inputs = {node.name: node for node in session.get_inputs()}
    outputs = {node.name: node for node in session.get_outputs()}
    for role, given, valid in (("inputs", inputs, {INPUT_NAME}), ("outputs", outputs, set(OUTPUT_SHAPES))):
        if set(given) != valid:
            has, needs = (", ".join(sorted(names)) or "no names" for names in (given, valid))
            raise InputError(f"{path} has {role} {has}; an engine needs {needs}: export it again.")
    side = inputs[INPUT_NAME].shape[-1] if inputs[INPUT_NAME].shape else None
    if not isinstance(side, int):
        raise InputError(f"{path} takes '{INPUT_NAME}' {inputs[INPUT_NAME].shape}; the crop's side must be fixed.")
    shapes = {INPUT_NAME: input_shape(side), **OUTPUT_SHAPES}
    for name, node in (inputs | outputs).items():
        # A symbolic dimension is a string or None: the batch must be one.
        shape = tuple(extent if isinstance(extent, int) else DYNAMIC for extent in node.shape)
        if shape != shapes[name] or node.type != FLOAT32:
            raise InputError(
                f"{path}: '{name}' is {node.type} {shape}; it must be {FLOAT32} {shapes[name]}, -1 being any batch."
            )
    return side
