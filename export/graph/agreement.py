"""A written graph in ONNX Runtime: does it compute what the model computes, for every image whatever its batch?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cliphand.arrays import FloatArray
from cliphand.errors import InputError
from cliphand.model.hand_model import HandModel
from engines.base import OUTPUT_SHAPES
from engines.runtimes.ort import OrtEngine
from export.graph.deploy_model import example_images
from export.graph.reference_view import distances_mm

BATCHES = (1, 2, 7)
# Of an output's largest magnitude. Rounding in float32 stays near 1e-6; a wrong graph is off by orders of magnitude.
MAX_DIFFERENCE = 1e-4


@dataclass(frozen=True, slots=True)
class Agreement:
    """The graph beside PyTorch on noise images, worst over all batch sizes.

    Attributes:
        batches: batch sizes that were run.
        max_difference_uvd: largest absolute difference of any number.
        max_difference_relative: the same over the largest magnitude of its output.
        max_difference_mm: largest distance of any joint or vertex, seen by the reference camera.
        max_neighbour_effect: largest relative change of an image's result between alone and any of the batches.
    """

    batches: tuple[int, ...]
    max_difference_uvd: float
    max_difference_relative: float
    max_difference_mm: float
    max_neighbour_effect: float


def check_agreement(model: HandModel, path: Path, *, input_size: int) -> Agreement:
    """Run a graph beside the model at several batch sizes, and each image beside other neighbours.

    Args:
        model: what the graph was made from.
        path: the ONNX file.
        input_size: side S of the crops.

    Raises:
        InputError: an output is not finite or differs by more than `MAX_DIFFERENCE`.
    """
    uvd = relative = millimetres = effect = 0.0
    with OrtEngine(path) as engine:
        alone = _run(engine, _images(1, input_size))
        for batch in BATCHES:
            images = _images(batch, input_size)
            with torch.inference_mode():
                expected = [output.numpy() for output in model(images)]
            found = alone if batch == 1 else _run(engine, images)
            for name, ours, theirs, single in zip(OUTPUT_SHAPES, found, expected, alone, strict=True):
                difference, change = _relative(ours, theirs), _relative(ours[:1], single)
                _require_small(difference, f"'{name}' differs from PyTorch's at batch {batch}")
                _require_small(change, f"'{name}' of an image alone differs from that in a batch of {batch}")
                relative, effect = max(relative, difference), max(effect, change)
                uvd = max(uvd, float(np.abs(ours - theirs).max()))
                millimetres = max(millimetres, float(distances_mm(ours, theirs).max()))
    return Agreement(BATCHES, uvd, relative, millimetres, effect)


def _images(batch: int, input_size: int) -> torch.Tensor:
    """The same first image in every batch; its neighbours differ, ever less like photographs in larger batches."""
    images = example_images(batch, input_size, seed=batch) * batch
    images[0] = example_images(1, input_size)[0]
    return images


def _run(engine: OrtEngine, images: torch.Tensor) -> tuple[FloatArray, FloatArray]:
    output = engine(images.numpy())
    return output.joints_uvd, output.verts_uvd


def _relative(ours: FloatArray, theirs: FloatArray) -> float:
    """Largest difference over the reference's largest magnitude; infinite where ours is not finite."""
    if not np.isfinite(ours).all():
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-30))


def _require_small(relative: float, what: str) -> None:
    if not relative <= MAX_DIFFERENCE:
        raise InputError(
            f"the graph is not kept: {what}, by {relative:.2g} of its largest value; at most {MAX_DIFFERENCE} is "
            "rounding."
        )
