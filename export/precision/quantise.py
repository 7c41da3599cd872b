"""Explicit INT8: a QuantizeLinear and a DequantizeLinear before what shall run in INT8, and nothing implied.

Symmetric, zero point 0; one scale for each activation tensor, one for each output channel of a weight. ModelOpt places
them as TensorRT fuses them. Two steps: `calibrate` measures the ranges once, `write_quantised` makes the graph from
that, with any nodes taken out again, so that the search for the nodes to blame need not calibrate anew.
"""

import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import numpy_helper

from cliphand.arrays import FloatArray
from cliphand.config import require
from cliphand.files import whole_file
from engines.base import INPUT_NAME
from export.precision.half import in_modelopts_words, modelopt_ready, only, write_half

Method = Literal["max", "entropy"]
Rest = Literal["fp16", "fp32"]
QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
LARGEST_INT8 = 127.0


def calibrate(source: Path, out: Path, *, keep: Collection[str], images: FloatArray, method: Method) -> None:
    """Write the Q/DQ form of a float32 graph; all else, and the weights before their Q, stays float32.

    Args:
        source: the graph.
        out: file to write.
        keep: names of nodes that are not quantised.
        images: (N, 3, S, S) training images, normalised.
        method: `max`, or `entropy`, which clips rare large values.

    Raises:
        InputError: ModelOpt is not installed or fails, or nothing was quantised.
    """
    _, channels, height, width = images.shape
    with modelopt_ready(), tempfile.TemporaryDirectory() as scratch, in_modelopts_words(source):
        from modelopt.onnx.quantization import quantize

        model, result = Path(scratch) / "model.onnx", Path(scratch) / "quantised.onnx"
        model.write_bytes(source.read_bytes())  # intermediate files land beside it
        quantize(
            str(model),
            quantize_mode="int8",
            calibration_data={INPUT_NAME: images},
            calibration_method=method,
            calibration_eps=["cpu"],
            calibration_shapes=f"{INPUT_NAME}:1x{channels}x{height}x{width}",
            nodes_to_exclude=only(keep),
            high_precision_dtype="fp32",
            output_path=str(result),
            log_level="CRITICAL",
        )
        graph = onnx.load(result)
    bypass(graph.graph, keep)  # a tensor's Q and DQ serve all that read it, whether it is to be quantised or not
    require(len(quantised_nodes(graph.graph)) > 0, f"nothing in {source} can be quantised; keep fewer nodes out.")
    with whole_file(out, None) as temporary:
        onnx.save_model(graph, temporary)


def write_quantised(
    calibrated: Path,
    out: Path,
    *,
    unquantise: Collection[str],
    rest: Rest,
    keep_fp32: Collection[str],
    image: FloatArray,
) -> None:
    """Write the INT8 graph.

    Args:
        calibrated: from `calibrate`.
        out: file to write.
        unquantise: names of nodes whose Q and DQ are taken out again.
        rest: precision of what is not INT8.
        keep_fp32: names of nodes that stay FP32 where the rest is FP16.
        image: (1, 3, S, S) a real training image, normalised.
    """
    graph = onnx.load(calibrated)
    bypass(graph.graph, unquantise)
    with tempfile.TemporaryDirectory() as scratch:
        if rest == "fp16":
            whole, mixed = Path(scratch) / "whole.onnx", Path(scratch) / "mixed.onnx"
            onnx.save_model(graph, whole)
            write_half(whole, mixed, keep=keep_fp32, image=image)
            graph = onnx.load(mixed)
    store_weights(graph.graph)
    onnx.checker.check_model(graph, full_check=True)
    with whole_file(out, None) as temporary:
        onnx.save_model(graph, temporary)


def quantised_nodes(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Names of the nodes that read a dequantised tensor, in the graph's order."""
    dequantised = {node.output[0] for node in graph.node if node.op_type == DEQUANTISE}
    return tuple(
        node.name
        for node in graph.node
        if node.op_type not in (QUANTISE, DEQUANTISE) and any(name in dequantised for name in node.input)
    )


def bypass(graph: onnx.GraphProto, nodes: Collection[str]) -> None:
    """Let the named nodes read what lies before the Q and DQ of their inputs."""
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.name in nodes:
            for place, name in enumerate(node.input):
                node.input[place] = _before(name, producers)
    _remove_unused(graph)


def store_weights(graph: onnx.GraphProto) -> None:
    """Quantise constants once and for all, so that the file holds INT8 weights and only their DQ."""
    constants = {constant.name: constant for constant in graph.initializer}
    for node in graph.node:
        if node.op_type != QUANTISE or node.input[0] not in constants:
            continue
        weight, scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input)
        axis = scale_axis(node)
        if scale.ndim == 1:
            scale = scale.reshape([-1 if place == axis % weight.ndim else 1 for place in range(weight.ndim)])
        levels = np.rint(weight.astype(np.float32) / scale.astype(np.float32))
        stored = np.clip(levels, -LARGEST_INT8 - 1, LARGEST_INT8).astype(zero.dtype)
        graph.initializer.append(numpy_helper.from_array(stored, node.output[0]))
    stored_names = {constant.name for constant in graph.initializer}
    remaining = [node for node in graph.node if not (node.op_type == QUANTISE and node.output[0] in stored_names)]
    _replace(graph, remaining)
    _remove_unused(graph)


def scale_axis(quantise: onnx.NodeProto) -> int:
    """Along which a Q has a scale for each entry."""
    return next((attribute.i for attribute in quantise.attribute if attribute.name == "axis"), 1)


def activation_ranges(graph: onnx.GraphProto) -> dict[str, float]:
    """Largest magnitude that each quantised activation can hold: 127 of its scale."""
    constants = {constant.name: constant for constant in graph.initializer}
    return {
        node.input[0]: float(numpy_helper.to_array(constants[node.input[1]])) * LARGEST_INT8
        for node in graph.node
        if node.op_type == QUANTISE and node.input[0] not in constants and node.input[1] in constants
    }


def _before(name: str, producers: Mapping[str, onnx.NodeProto]) -> str:
    """The tensor before a Q and DQ, or the tensor itself."""
    dequantise = producers.get(name)
    if dequantise is None or dequantise.op_type != DEQUANTISE:
        return name
    quantise = producers.get(dequantise.input[0])
    return name if quantise is None or quantise.op_type != QUANTISE else quantise.input[0]


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Drop nodes and constants that no output depends on."""
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):  # sorted, so that a consumer comes before its producer here
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    _replace(graph, reversed(kept))
    constants = [constant for constant in graph.initializer if constant.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _replace(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
