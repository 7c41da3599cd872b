"""Small float32 graphs from images to a hand, with and without a planted fault, and a workshop around them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from linear_hand import POINTS, make_manifest
from onnx import TensorProto, helper, numpy_helper

from cliphand.config import CropConfig
from cliphand.hand import HandTopology, save_hand
from engines.artefact.manifest import GRAPH_NAME, write_manifest
from engines.runtimes.ort import OrtEngine
from export.gate.images import GateRequest, read_gate_images
from export.gate.parity import TOLERANCES, Tolerance
from export.precision.calibration import CalibrationRequest, read_calibration
from export.precision.judge import Judge
from export.precision.maker import Maker
from export.precision.request import TypedRequest
from export.precision.workshop import Workshop

SIDE = 32
CHANNELS = 64
RANK = 8
# Names of the nodes that a fault needs in higher precision.
OVERFLOW = ("heatmap/up/Mul", "heatmap/down/Mul")
OUTLIER = ("encoder/second/Conv",)


class GraphMaker:
    """Collects named nodes and constants; `node` returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(0)

    def node(self, name: str, inputs: list[str | np.ndarray], output: str | None = None, **attributes: object) -> str:
        names = [
            value if isinstance(value, str) else self.constant(f"{name}.{i}", value) for i, value in enumerate(inputs)
        ]
        self.nodes.append(helper.make_node(name.rpartition("/")[2], names, [output or name], name=name, **attributes))
        return output or name

    def constant(self, name: str, value: np.ndarray) -> str:
        kept = value if value.dtype == np.int64 else value.astype(np.float32)
        self.constants.append(numpy_helper.from_array(kept, name))
        return name

    def conv(self, name: str, data: str, weight: np.ndarray, bias: float = 0.0) -> str:
        bias = bias * self.rng.normal(size=CHANNELS)
        return self.node(f"{name}/Conv", [data, weight, bias], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])

    def weight(self, width: int) -> np.ndarray:
        return self.rng.normal(size=(CHANNELS, width, 3, 3)) / np.sqrt(9 * width)


def save_planted(path: Path, *, overflow: bool = False, outlier: bool = False) -> Path:
    """Three convolutions, their mean, and matrices to each output.

    Args:
        path: of the file.
        overflow: feature maps with values of about 50 are multiplied by 20000 and, in the next node, divided by it:
            nothing in FP32, infinity in FP16.
        outlier: one channel that the second convolution reads is 3000 times the others, and weighs as much less:
            nothing in FP32, and all other channels' end in INT8.
    """
    make = GraphMaker()
    first, second, third = make.weight(3), 50 * make.weight(CHANNELS), make.weight(CHANNELS) / 50
    if outlier:
        first[0] *= 3000
        second[:, 0] /= 3000
    data = make.node("encoder/first/Relu", [make.conv("encoder/first", "image", first)])
    data = make.node("encoder/second/Relu", [make.conv("encoder/second", data, second)])
    if overflow:
        data = make.node(OVERFLOW[0], [data, np.array(2e4)])
        data = make.node(OVERFLOW[1], [data, np.array(1 / 2e4)])
    data = make.node("heatmap/third/Relu", [make.conv("heatmap/third", data, third, bias=0.1)])
    data = make.node("joint_regressor/Flatten", [make.node("joint_regressor/GlobalAveragePool", [data])])
    data = make.node("mesh_regressor/MatMul", [data, make.rng.normal(size=(CHANNELS, RANK))])
    outputs = []
    for name, count in POINTS.items():
        offset = np.array([0.5, 0.5, 0.0]) + make.rng.normal(size=(count, 3)) * 0.1
        flat = make.node(f"mesh_regressor/{name}/MatMul", [data, make.rng.normal(size=(RANK, count * 3)) * 0.05])
        flat = make.node(f"mesh_regressor/{name}/Add", [flat, offset.ravel()])
        make.node(f"mesh_regressor/{name}/Reshape", [flat, np.array([-1, count, 3])], name)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", count, 3]))
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])]
    graph = helper.make_graph(make.nodes, "planted", inputs, outputs, make.constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def images(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3, S, S) float32 noise in the range of normalised photographs."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, SIDE, SIDE)).astype(np.float32)


def save_planted_export(folder: Path, topology: HandTopology, **fault: bool) -> Path:
    """An export folder with such a graph."""
    folder.mkdir(parents=True)
    save_planted(folder / GRAPH_NAME, **fault)
    save_hand(topology, folder / "hand.npz")
    write_manifest(make_manifest(folder, {GRAPH_NAME: "fp32"}), folder)
    return folder


@contextmanager
def planted_workshop(folder: Path, topology: HandTopology, request: TypedRequest) -> Iterator[Workshop]:
    """A workshop whose reference is the FP32 graph in ONNX Runtime instead of a checkpoint in PyTorch."""
    gate = read_gate_images(request.gate, CropConfig(rule="whole"), SIDE)
    with OrtEngine(folder / GRAPH_NAME, precision="fp32") as engine:
        reference = gate.predict(engine, topology.joint_regressor)
    calibration = read_calibration(request.calibration, CropConfig(rule="whole"), SIDE)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        exact, scratch = folder / GRAPH_NAME, Path(name)
        yield Workshop(
            request,
            Maker(exact, scratch, onnx.load(exact), request.keep, request.calibration, calibration),
            Judge(
                scratch,
                gate,
                topology.joint_regressor,
                reference,
                request.tolerances,
                request.threads,
                lambda *_: None,
            ),
        )


def request_on(data: Path, **changes: object) -> TypedRequest:
    """A request that calibrates on a folder's training split and judges on its evaluation split.

    A processor whose INT8 sums saturate at 16 bits (x86 without VNNI) moves these noisy networks by 3.6 mm where others
    move them by 2.2, and a planted fault by 110: the bound lies well off both.
    """
    given = {
        "precisions": (),
        "calibration": CalibrationRequest(data, images=4),
        "gate": GateRequest(data),
        "threads": 1,
        "tolerances": dict(TOLERANCES) | {"int8": Tolerance(TOLERANCES["int8"].delta_mm, 15.0)},
    }
    return TypedRequest(**(given | changes))
