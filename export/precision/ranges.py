"""The largest magnitude of every tensor on calibration data, against what FP16 can hold."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from cliphand.arrays import FloatArray
from engines.base import INPUT_NAME
from export.precision.half import LARGEST_HALF

WARN_SHARE = 0.25  # of FP16's range: one image in a few hundred may be four times as bright as those seen
BATCH = 4


@dataclass(frozen=True, slots=True)
class TensorRange:
    """One tensor.

    Attributes:
        tensor: its name.
        node: that makes it.
        largest: magnitude over all images.
    """

    tensor: str
    node: str
    largest: float

    @property
    def share_of_half(self) -> float:
        """Of FP16's largest number, 65504."""
        return self.largest / LARGEST_HALF

    @property
    def risky(self) -> bool:
        """Whether it is above a quarter of FP16's range."""
        return self.share_of_half > WARN_SHARE


def measure_ranges(source: Path, images: FloatArray) -> tuple[TensorRange, ...]:
    """Run a float32 graph over images and keep each tensor's largest magnitude, largest first.

    Args:
        source: the graph.
        images: (N, 3, S, S) normalised.
    """
    graph = onnx.load(source)
    makers = _float_tensors(graph)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "ranges.onnx"
        onnx.save_model(_with_extremes(graph, list(makers)), path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Fused nodes have no tensors between them.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        largest = np.zeros(2 * len(makers))
        for start in range(0, len(images), BATCH):
            extremes = session.run(None, {INPUT_NAME: images[start : start + BATCH]})
            largest = np.maximum(largest, np.abs(np.array(extremes, np.float64)))
    by_tensor = largest.reshape(-1, 2).max(axis=1)
    found = [TensorRange(name, makers[name], float(value)) for name, value in zip(makers, by_tensor, strict=True)]
    return tuple(sorted(found, key=lambda entry: -entry.largest))


def _float_tensors(graph: onnx.ModelProto) -> dict[str, str]:
    """Float tensors that nodes make, to the node's name."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    floats = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    return {output: node.name for node in graph.graph.node for output in node.output if output in floats}


def _with_extremes(graph: onnx.ModelProto, tensors: list[str]) -> onnx.ModelProto:
    """The graph with each tensor's least and largest number as its outputs, so that no tensor outlives its use."""
    changed = onnx.ModelProto.FromString(graph.SerializeToString())
    del changed.graph.output[:]
    for tensor in tensors:
        for kind in ("ReduceMin", "ReduceMax"):
            name = f"{tensor}:{kind}"
            changed.graph.node.append(helper.make_node(kind, [tensor], [name], name=name, keepdims=0))
            changed.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, []))
    return changed
