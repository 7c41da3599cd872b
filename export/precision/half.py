"""Mixed precision: FP16 where it is safe, FP32 where the precision table or the data say so, float32 at both ends.

ModelOpt's AutoCast writes the Casts. It decides by the ranges that it sees on one image, so that what overflows only on
others gets past it; `export.precision.ranges` looks at all calibration images and the gate at the result.
"""

import importlib
import logging
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from cliphand.arrays import FloatArray
from cliphand.errors import InputError
from cliphand.extras import install_extra
from cliphand.files import whole_file
from engines.tensorrt.flavour import TENSORRT_RTX, load_polygraphy

LARGEST_HALF = float(np.finfo(np.float16).max)  # 65504
# A node with larger inputs or outputs stays in FP32: above, FP16 rounds to more than a half.
DATA_MAX = 512.0


def write_half(source: Path, out: Path, *, keep: Collection[str], image: FloatArray) -> None:
    """Write the mixed-precision form of a float32 graph.

    Args:
        source: the graph; it may hold QuantizeLinear and DequantizeLinear.
        out: file to write.
        keep: names of nodes that stay FP32.
        image: (1, 3, S, S) a real training image, normalised.

    Raises:
        InputError: ModelOpt is not installed or fails, or the result is not a valid graph.
    """
    with modelopt_ready(), tempfile.TemporaryDirectory() as scratch, in_modelopts_words(source):
        from modelopt.onnx.autocast import convert_to_mixed_precision

        seen = Path(scratch) / "image.npz"
        np.savez(seen, image=image)  # by the input's name
        graph = convert_to_mixed_precision(
            str(source),
            low_precision_type="fp16",
            keep_io_types=True,
            nodes_to_exclude=only(keep),
            calibration_data=str(seen),
            data_max=DATA_MAX,
            providers=["cpu"],
        )
        onnx.checker.check_model(graph, full_check=True)
    with whole_file(out, None) as temporary:
        onnx.save_model(graph, temporary)


def half_nodes(graph: onnx.ModelProto) -> frozenset[str]:
    """Names of the nodes whose first output is FP16."""
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    return frozenset(
        node.name
        for node in inferred.node
        if node.op_type != "Cast" and kinds.get(node.output[0]) == TensorProto.FLOAT16
    )


def only(names: Collection[str]) -> list[str]:
    """Patterns that match these nodes and no others: ModelOpt takes names for the beginnings of regular expressions."""
    return [rf"{re.escape(name)}\Z" for name in sorted(names)]


@contextmanager
def modelopt_ready() -> Iterator[None]:
    """Import ModelOpt and keep its reports, which it prints for developers, to itself.

    Raises:
        InputError: it is not installed.
    """
    # ModelOpt imports Polygraphy, which serves one TensorRT flavour per process: the one that reads typed graphs here.
    with suppress(InputError):
        load_polygraphy(TENSORRT_RTX)
    try:
        for name in ("modelopt.onnx.autocast", "modelopt.onnx.quantization"):
            importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"FP16 and INT8 graphs need ModelOpt ({error}): {install_extra('train')}.") from None
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("modelopt")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def in_modelopts_words(source: Path) -> Iterator[None]:
    """Turn a failure inside ModelOpt into one sentence.

    Raises:
        InputError: something in the block failed.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # ModelOpt raises whatever the library beneath it raised
        words = " ".join(str(error).split())
        raise InputError(f"ModelOpt cannot convert {source} ({type(error).__name__}: {words[:400]}).") from error
