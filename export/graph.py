"""A deployed model as an ONNX graph, checked against PyTorch before anyone sees it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch

from cliphand.arrays import FloatArray
from cliphand.camera import uvd_to_camera
from cliphand.errors import InputError
from cliphand.model.hand_model import HandModel
from engines.base import INPUT_NAME, OUTPUT_SHAPES
from export.deploy_model import example_images

OPSET = 18  # from 20 on, TensorRT's parser reads GridSample and others differently
BATCHES = (1, 2, 7)
EXAMPLE_BATCH = 2  # an example of one image would make the exporter take the batch for a constant
MAX_DIFFERENCE_UVD = 1e-3  # of float32 rounding; a wrong graph is off by orders of magnitude more

# A FreiHAND-like view, only to say what a difference in uvd means in millimetres.
REFERENCE_DEPTH_M = 0.7
REFERENCE_BONE_M = 0.095
REFERENCE_FOCAL = 1.75  # over the crop's side


@dataclass(frozen=True, slots=True)
class GraphCheck:
    """The graph against PyTorch on noise images, over all batch sizes tried.

    Attributes:
        batches: batch sizes that were run.
        max_difference_uvd: largest absolute difference of any output number.
        max_difference_mm: largest distance of any joint or vertex, seen by the reference camera.
    """

    batches: tuple[int, ...]
    max_difference_uvd: float
    max_difference_mm: float


def export_graph(model: HandModel, path: Path, *, input_size: int) -> GraphCheck:
    """Write a deployed model as a float32 ONNX graph with a dynamic batch, and check it.

    Args:
        model: from `deploy_model`.
        path: of the file to write.
        input_size: side S of the square crops.

    Raises:
        InputError: the graph cannot be made, is not valid, or does not compute what the model computes.
    """
    graph = simplify(trace(model, input_size))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save_model(graph, path)
    return check_graph(model, path, input_size=input_size)


def trace(model: HandModel, input_size: int) -> onnx.ModelProto:
    """The model as an ONNX graph, straight from the exporter."""
    images = example_images(EXAMPLE_BATCH, input_size)
    with _silence():
        program = torch.onnx.export(
            model,
            (images,),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_SHAPES),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise InputError("the exporter returned no graph; this torch version cannot export the model.")
    return program.model_proto


def simplify(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Fold what is constant; the graph's own checker decides whether the result is kept."""
    simplified, same = onnxsim.simplify(graph)
    if not same:
        raise InputError("onnxsim changed what the graph computes; export with another onnxsim version.")
    return simplified


def check_graph(
    model: HandModel, path: Path, *, input_size: int, batches: Sequence[int] = BATCHES
) -> GraphCheck:
    """Run the graph in ONNX Runtime beside the model at several batch sizes.

    Raises:
        InputError: an output is not finite or differs by more than `MAX_DIFFERENCE_UVD`.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    uvd, millimetres = 0.0, 0.0
    for batch in batches:
        images = example_images(batch, input_size, seed=batch)
        with torch.inference_mode():
            expected = [output.numpy() for output in model(images)]
        for ours, theirs in zip(session.run(None, {INPUT_NAME: images.numpy()}), expected, strict=True):
            uvd = max(uvd, float(np.abs(ours - theirs).max()))  # NaN survives neither max nor the test below
            millimetres = max(millimetres, _distance_mm(ours, theirs))
            if not np.isfinite(ours).all() or uvd > MAX_DIFFERENCE_UVD:
                raise InputError(
                    f"the exported graph differs from PyTorch by {uvd:.3g} in uvd at batch {batch}; at most "
                    f"{MAX_DIFFERENCE_UVD} is float32 rounding, so the graph is not written."
                )
    return GraphCheck(tuple(batches), uvd, millimetres)


def _distance_mm(first: FloatArray, second: FloatArray) -> float:
    """Largest distance of matching points, both (B, N, 3) uvd, seen by the reference camera."""
    K = np.array([[REFERENCE_FOCAL, 0, 0.5], [0, REFERENCE_FOCAL, 0.5], [0, 0, 1]])
    depth, bone = np.array(REFERENCE_DEPTH_M), np.array(REFERENCE_BONE_M)
    ours, theirs = (
        uvd_to_camera(points.astype(np.float64), K, side_px=1, root_depth_m=depth, bone_m=bone)
        for points in (first, second)
    )
    return float(np.linalg.norm(ours - theirs, axis=-1).max() * 1000)


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter reports its progress on stdout, which belongs to results."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
