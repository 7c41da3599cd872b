"""What every engine takes and gives: one batch of crops in, hand joints and mesh in uvd out.

The names, shapes and types below are the exported graph's as well; uvd is defined in `cliphand.camera`.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.errors import InputError
from cliphand.hand import N_JOINTS, N_VERTICES

INPUT_NAME = "image"
NATIVE_CODE = (  # why some files are only opened where the user says so
    "it brings native code, which opening it runs with all of your rights; if you made it, or know who did, give "
    "--trust (trust=True)."
)
DYNAMIC = -1  # stands for the batch in a shape, as in TensorRT
OUTPUT_SHAPES: dict[str, tuple[int, ...]] = {
    "joints_uvd": (DYNAMIC, N_JOINTS, 3),
    "verts_uvd": (DYNAMIC, N_VERTICES, 3),
}


@dataclass(frozen=True, slots=True)
class HandOutput:
    """One batch of hands, owned by the caller.

    Attributes:
        joints_uvd: (B, 21, 3) float32 uvd, the joint regressor's own.
        verts_uvd: (B, 778, 3) float32 uvd.
    """

    joints_uvd: FloatArray
    verts_uvd: FloatArray


class Closing(Protocol):
    """Something that holds what must be given back. Use it as a context manager."""

    def close(self) -> None:
        """Give it back; a second call does nothing."""

    def __enter__(self) -> Self:
        """The thing itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class Engine(Closing, Protocol):
    """A loaded model. Use it as a context manager so that its memory is freed.

    Attributes:
        name: the run-time, as reports print it: `pytorch`, `onnxruntime`, ...
        precision: the arithmetic of the graph, as reports print it: `fp32`, `fp16`, `int8`, or `unstated`.
        input_size: side of the square crops in pixels.
    """

    name: str
    precision: str
    input_size: int

    def __call__(self, images: FloatArray) -> HandOutput:
        """Run one batch.

        Args:
            images: (B, 3, S, S) float32 RGB crops, normalised, C-contiguous, S = `input_size`.

        Raises:
            InputError: the array fails `check_images`.
        """


def input_shape(input_size: int) -> tuple[int, ...]:
    """Shape of `image`: (batch, 3, S, S)."""
    return (DYNAMIC, 3, input_size, input_size)


def check_images(images: FloatArray, input_size: int) -> None:
    """Refuse a batch that an engine would misread.

    Args:
        images: must be (B, 3, S, S) float32, C-contiguous, with at least one image.
        input_size: S.

    Raises:
        InputError: type, shape, dtype or memory layout differ; the sentence says which.
    """
    side = input_size
    # One comparison decides the common case: this runs before every inference.
    if (
        isinstance(images, np.ndarray)
        and images.dtype == np.float32
        and images.ndim == 4
        and images.shape[0] > 0
        and images.shape[1:] == (3, side, side)
        and images.flags.c_contiguous
    ):
        return
    if not isinstance(images, np.ndarray):
        raise InputError(f"images are a {type(images).__name__}; give a numpy array (B, 3, {side}, {side}) float32.")
    if images.ndim != 4 or images.shape[0] == 0 or images.shape[1:] != (3, side, side):
        raise InputError(f"images have shape {images.shape}; this engine takes (B, 3, {side}, {side}), B at least 1.")
    if images.dtype != np.float32:
        raise InputError(f"images are {images.dtype}; engines take float32 as cliphand.data.crop.normalise returns it.")
    raise InputError("images are not C-contiguous; pass them through numpy.ascontiguousarray first.")
