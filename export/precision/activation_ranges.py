"""The range of each INT8 activation: its largest magnitude, or the range whose rounding and clipping err least.

ModelOpt and ONNX Runtime offer the largest magnitude, entropy and percentiles, but no mean squared error. It is found
here from histograms of magnitudes, of the whole tensor or, where it is large, of a seeded share of its numbers.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from cliphand.arrays import FloatArray, IntArray
from engines.base import INPUT_NAME
from export.graph.node_names import STAGES, stage_of
from export.precision.quantise import DEQUANTISE, LARGEST_INT8, QUANTISE, activation_ranges, bypass, quantised_nodes

BINS = 8192  # 64 for each of the 127 levels of the widest range, 6 for those of the narrowest
SHARES = np.linspace(1.0, 0.1, 91)  # of the largest magnitude, the widest first, so that it wins where nothing differs
SAMPLES = 65536  # of a tensor, for each image
BATCH = 4
SEED = 0
# Stages whose activations get the range of least squared error; the others' is their largest magnitude.
LEAST_ERROR_IN: Mapping[str, Collection[str]] = {"max": (), "mse-encoder": ("encoder",), "mse": STAGES}


def magnitudes(calibrated: onnx.ModelProto, images: FloatArray) -> dict[str, IntArray]:
    """Histograms (BINS,) of each quantised activation, from 0 to the range that it has in the graph.

    Args:
        calibrated: from `export.precision.quantise.calibrate` on these images and perhaps others.
        images: (N, 3, S, S) normalised.
    """
    largest = activation_ranges(calibrated.graph)
    inside = [name for name in largest if name != INPUT_NAME]
    session = onnxruntime.InferenceSession(_exact(calibrated, inside), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(SEED)
    counts: dict[str, IntArray] = {name: np.zeros(BINS, np.int64) for name in largest}
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        values = dict(zip(inside, session.run(inside, {INPUT_NAME: batch}), strict=True)) | {INPUT_NAME: batch}
        for name, count in counts.items():
            flat = np.abs(values[name]).ravel()
            highest = flat.max()
            if flat.size > SAMPLES * len(batch):
                flat = flat[rng.integers(0, flat.size, SAMPLES * len(batch))]
            seen = np.append(flat, highest)  # a share of the numbers may lack it
            bins = np.minimum(seen * (BINS / largest[name]), BINS - 1).astype(np.int64)
            count += np.bincount(bins, minlength=BINS)
    return counts


def set_ranges(calibrated: onnx.ModelProto, counts: Mapping[str, IntArray], method: str) -> onnx.ModelProto:
    """The graph with other ranges of its activations.

    Args:
        calibrated: whose ranges are the histograms' upper ends.
        counts: from `magnitudes`.
        method: one of `LEAST_ERROR_IN`.
    """
    least_error = _read_by(calibrated.graph, LEAST_ERROR_IN[method])
    changed = onnx.ModelProto.FromString(calibrated.SerializeToString())
    scales: dict[str, str] = {}
    for name, largest in activation_ranges(calibrated.graph).items():
        share = least_error_share(counts[name]) if name in least_error else _largest_share(counts[name])
        scales[name] = f"{name}:range"
        scale = np.array(share * largest / LARGEST_INT8, np.float32)
        changed.graph.initializer.append(numpy_helper.from_array(scale, scales[name]))
    rounded = {}
    for node in changed.graph.node:
        if node.op_type == QUANTISE and node.input[0] in scales:
            node.input[1] = rounded[node.output[0]] = scales[node.input[0]]
    for node in changed.graph.node:
        if node.op_type == DEQUANTISE and node.input[0] in rounded:
            node.input[1] = rounded[node.input[0]]
    return changed


def least_error_share(counts: IntArray) -> float:
    """Of a histogram's upper end, the range to which 127 levels of its numbers err least in the mean of squares."""
    centres = (np.arange(BINS) + 0.5) / BINS
    centres[0] = 0.0  # after ReLU most numbers are 0
    steps = SHARES[:, None] / LARGEST_INT8
    errors = centres - np.clip(np.rint(centres / steps), 0, LARGEST_INT8) * steps  # (shares, BINS)
    return float(SHARES[np.argmin(np.square(errors) @ counts)])


def _largest_share(counts: IntArray) -> float:
    """The upper edge of the last bin that holds anything; 1 where none does."""
    filled = np.flatnonzero(counts)
    return float(filled[-1] + 1) / BINS if len(filled) else 1.0


def _read_by(graph: onnx.GraphProto, stages: Collection[str]) -> frozenset[str]:
    """The quantised activations that nodes of these stages read."""
    before = {node.output[0]: node.input[0] for node in graph.node if node.op_type == QUANTISE}
    before = {node.output[0]: before.get(node.input[0], "") for node in graph.node if node.op_type == DEQUANTISE}
    return frozenset(
        before[name] for node in graph.node if stage_of(node.name) in stages for name in node.input if name in before
    )


def _exact(calibrated: onnx.ModelProto, tensors: Collection[str]) -> bytes:
    """The graph without its rounding, with these tensors as its outputs."""
    graph = onnx.ModelProto.FromString(calibrated.SerializeToString())
    bypass(graph.graph, quantised_nodes(graph.graph))
    del graph.graph.output[:]
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)
    return graph.SerializeToString()
