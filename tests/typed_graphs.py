"""Small convolutional graphs in the forms that TensorRT must take or refuse: FP32, FP16, explicit Q/DQ, and faulty."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from linear_hand import POINTS, make_manifest
from onnx import TensorProto, helper, numpy_helper

from engines.artefact.manifest import write_manifest

SIDE = 32
CHANNELS = 8


class Maker:
    """Collects nodes and constants; every method returns the name of its output."""

    def __init__(self, kind: np.dtype) -> None:
        self.kind = kind
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def node(self, kind: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        domain = "nobody.knows" if kind == "NoSuchOp" else ""
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def normal(self, *shape: int) -> str:
        return self.constant((self.rng.normal(size=shape) * 0.1).astype(self.kind))

    def cast(self, data: str, kind: int, output: str | None = None) -> str:
        return self.node("Cast", [data], output, to=kind)

    def quantised(self, data: str) -> str:
        """Activation through Q/DQ: one scale, zero point 0."""
        scale, zero = self.constant(np.array(0.05, self.kind)), self.constant(np.array(0, np.int8))
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [data, scale, zero]), scale, zero])

    def quantised_weight(self, *shape: int) -> str:
        """INT8 weight through DequantizeLinear: a scale for each output channel."""
        weight = self.constant(self.rng.integers(-127, 128, shape, np.int8))
        scale = self.constant(np.full(shape[0], 0.01, self.kind))
        zero = self.constant(np.zeros(shape[0], np.int8))
        return self.node("DequantizeLinear", [weight, scale, zero], axis=0)

    def int32_bias(self) -> str:
        """Bias as `quantize_static` writes it: INT32 through DequantizeLinear."""
        bias, scale = self.constant(np.ones(CHANNELS, np.int32)), self.constant(np.array(0.01, self.kind))
        return self.node("DequantizeLinear", [bias, scale, self.constant(np.array(0, np.int32))])


def save_graph(
    path: Path,
    *,
    half: bool = False,
    quantised: bool = False,
    int32_bias: bool = False,
    fault: Callable[[Maker, str], str] | None = None,
    batch: int | str = "B",
) -> Path:
    """Write two convolutions and a matrix product for each output.

    Args:
        path: of the file.
        half: FP16 inside, float32 at both ends.
        quantised: convolutions with Q/DQ on data and weights.
        int32_bias: the second convolution's bias is INT32 through DequantizeLinear.
        fault: changes the image before anything else; gets and returns a tensor's name.
        batch: a name for any batch, or a number.
    """
    make = Maker(np.dtype(np.float16 if half else np.float32))
    data = "image" if fault is None else fault(make, "image")
    if half:
        data = make.cast(data, TensorProto.FLOAT16)
    for width in (3, CHANNELS):
        inputs = [make.quantised(data) if quantised else data]
        shape = (CHANNELS, width, 3, 3)
        inputs.append(make.quantised_weight(*shape) if quantised else make.normal(*shape))
        if int32_bias and width == CHANNELS:
            inputs.append(make.int32_bias())
        data = make.node("Relu", [make.node("Conv", inputs, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])])
    data = make.node("Flatten", [make.node("GlobalAveragePool", [data])])
    outputs = []
    for name, count in POINTS.items():
        flat = make.node("MatMul", [data, make.normal(CHANNELS, count * 3)])
        shape = make.constant(np.array([-1, count, 3], np.int64))
        points = make.node("Reshape", [flat, shape], None if half else name)
        if half:
            make.cast(points, TensorProto.FLOAT, name)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, count, 3]))
    inputs_info = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])]
    graph = helper.make_graph(make.nodes, "typed", inputs_info, outputs, make.constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def double(make: Maker, image: str) -> str:
    """A fault: the image goes through float64."""
    return make.cast(make.cast(image, TensorProto.DOUBLE), TensorProto.FLOAT)


def unknown_op(make: Maker, image: str) -> str:
    """A fault: an operation that nobody knows."""
    return make.node("NoSuchOp", [image])


def nan(make: Maker, image: str) -> str:
    """A fault: logarithms of negative numbers."""
    return make.node("Log", [make.node("Neg", [make.node("Abs", [image])])])


def lacking_op(make: Maker, image: str) -> str:
    """A fault: an operation of ONNX that TensorRT lacks."""
    determinant = make.node("Det", [image])
    return make.node("Mul", [image, make.node("Unsqueeze", [determinant, make.constant(np.array([2, 3]))])])


def save_typed_export(folder: Path, **precisions: dict[str, object]) -> Path:
    """An export folder with `model.onnx` for fp32 and `model.<precision>.onnx`, each with options of `save_graph`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for precision, options in precisions.items():
        path = folder / ("model.onnx" if precision == "fp32" else f"model.{precision}.onnx")
        save_graph(path, **options)
        names[path.name] = precision
    write_manifest(make_manifest(folder, names, input_size=SIDE), folder)
    return folder
