"""The one way from a photograph to the square that the model sees: box, matrix, cut, normalise.

Pixel coordinates are those of `cv2.warpAffine` and of K: an integer is the centre of a pixel, x to the right, y
down. An image of W columns reaches from -0.5 to W - 0.5.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import BoolArray, ByteArray, FloatArray
from cliphand.config import CropConfig
from cliphand.errors import InputError
from cliphand.hand import MIDDLE_MCP, WRIST


@dataclass(frozen=True, slots=True)
class Box:
    """A square in the source image, in source pixels; `angle_rad` turns what is seen in it, clockwise on the screen."""

    centre_x: float
    centre_y: float
    side_px: float
    angle_rad: float = 0.0


def crop_box(
    config: CropConfig,
    image_shape: tuple[int, int],
    *,
    mask: BoolArray | None = None,
    joints_uv: FloatArray | None = None,
) -> Box:
    """The square that the rule of `config` cuts.

    Args:
        config: names the rule and holds its numbers.
        image_shape: height and width of the source image.
        mask: (H, W), true on the hand; only the rule `mask` needs it.
        joints_uv: (21, 2) source pixels; only the rule `joints` needs them.

    Raises:
        InputError: the rule needs something that is missing, empty or of the wrong shape.
    """
    return _RULES[config.rule](config, image_shape, mask, joints_uv)


def _whole_box(
    config: CropConfig, image_shape: tuple[int, int], mask: BoolArray | None, joints_uv: FloatArray | None
) -> Box:
    height, width = image_shape
    return Box((width - 1) / 2, (height - 1) / 2, min(height, width))


def _centre_box(
    config: CropConfig, image_shape: tuple[int, int], mask: BoolArray | None, joints_uv: FloatArray | None
) -> Box:
    height, width = image_shape
    return Box((width - 1) / 2, (height - 1) / 2, config.side_px)


def _mask_box(
    config: CropConfig, image_shape: tuple[int, int], mask: BoolArray | None, joints_uv: FloatArray | None
) -> Box:
    if mask is None:
        raise InputError("crop rule 'mask' needs a mask of the hand, but there is none; choose another crop rule.")
    if mask.shape != image_shape:
        raise InputError(f"the mask is {mask.shape} but its image is {image_shape}; both must have the same size.")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise InputError("crop rule 'mask' found no hand in the mask; choose another crop rule.")
    low = np.array([columns[0], rows[0]]) - 0.5  # the outer edges of the outermost pixels
    high = np.array([columns[-1], rows[-1]]) + 0.5
    return _box_around(low, high, margin=config.margin)


def _joints_box(
    config: CropConfig, image_shape: tuple[int, int], mask: BoolArray | None, joints_uv: FloatArray | None
) -> Box:
    if joints_uv is None:
        raise InputError("crop rule 'joints' needs joint labels, but there are none; choose another crop rule.")
    if not np.isfinite(joints_uv).all() or np.ptp(joints_uv, axis=0).max() <= 0:
        raise InputError("crop rule 'joints' needs finite joints that do not all fall on one pixel; check the labels.")
    return _box_around(joints_uv.min(axis=0), joints_uv.max(axis=0), margin=config.margin)


def _box_around(low: FloatArray, high: FloatArray, *, margin: float) -> Box:
    centre = (low + high) / 2
    return Box(float(centre[0]), float(centre[1]), float((high - low).max()) * margin)


_Rule = Callable[[CropConfig, tuple[int, int], BoolArray | None, FloatArray | None], Box]
_RULES: dict[str, _Rule] = {"whole": _whole_box, "centre": _centre_box, "mask": _mask_box, "joints": _joints_box}
FROM_LABELS = ("mask", "joints")  # rules that need more than the photograph


def crop_matrix(box: Box, side_px: int, *, angle_rad: float = 0.0) -> FloatArray:
    """The similarity from source pixels to crop pixels.

    Args:
        box: what to cut.
        side_px: side of the crop in pixels.
        angle_rad: turns what is seen about the box's centre, clockwise on the screen, beside the box's own angle.

    Returns:
        (3, 3) float64; `matrix @ K` is the camera matrix of the crop.
    """
    zoom = side_px / box.side_px
    angle_rad += box.angle_rad
    cosine, sine = zoom * math.cos(angle_rad), zoom * math.sin(angle_rad)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = (side_px - 1) / 2 - linear @ (box.centre_x, box.centre_y)
    return matrix


def upright_rad(joints_uv: FloatArray) -> FloatArray:
    """The angle that turns hands until bone 0-9 points up, clockwise on the screen.

    Args:
        joints_uv: (..., 21, 2 or more), u to the right and v down.

    Returns:
        (...) radians; 0 where a joint is not finite.
    """
    right, down = np.moveaxis(joints_uv[..., MIDDLE_MCP, :2] - joints_uv[..., WRIST, :2], -1, 0)
    return np.asarray(np.nan_to_num(-math.pi / 2 - np.arctan2(down, right)))


def second_look_rad(joints_uv: FloatArray) -> FloatArray:
    """`upright_rad` in whole degrees, so that engines whose first looks agree to a hair cut the same second crop."""
    return np.asarray(np.radians(np.rint(np.degrees(upright_rad(joints_uv)))))


def turn_matrix(angle_rad: float, side_px: int) -> FloatArray:
    """(3, 3) pixels of a crop to pixels of the same crop turned about its middle, clockwise on the screen."""
    middle = (side_px - 1) / 2
    return crop_matrix(Box(middle, middle, side_px), side_px, angle_rad=angle_rad)


def resize_matrix(from_px: int, to_px: int) -> FloatArray:
    """(3, 3) pixels of a crop to pixels of the same crop at another size; pixels' centres are whole numbers."""
    zoom = to_px / from_px
    return np.array([[zoom, 0, (zoom - 1) / 2], [0, zoom, (zoom - 1) / 2], [0, 0, 1]])


def cut(image_rgb: ByteArray, matrix: FloatArray, *, side_px: int) -> ByteArray:
    """Cut a crop; black where the crop leaves the image.

    Args:
        image_rgb: (H, W, 3) uint8.
        matrix: (3, 3) source pixels to crop pixels, from `crop_matrix`.
        side_px: side of the crop in pixels.

    Returns:
        (side_px, side_px, 3) uint8.
    """
    shrink = 1 / math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    # Bilinear sampling skips source pixels when it shrinks: cut a finer crop, then average its blocks.
    blocks = max(1, round(shrink))
    fine = np.diag([blocks, blocks, 1.0]) @ matrix
    fine[:2, 2] += (blocks - 1) / 2
    crop = cv2.warpAffine(image_rgb, fine[:2], (side_px * blocks, side_px * blocks), flags=cv2.INTER_LINEAR)
    if blocks > 1:
        crop = cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)


def normalise(crops: ByteArray, config: CropConfig) -> FloatArray:
    """Crops as the network takes them.

    Args:
        crops: (..., S, S, 3) uint8 RGB.
        config: mean and std of RGB in [0, 1].

    Returns:
        (..., 3, S, S) float32, contiguous.

    Raises:
        ValueError: the crops are not uint8 or have no three channels.
    """
    if crops.dtype != np.uint8 or crops.shape[-1] != 3:
        raise ValueError(f"crops are {crops.dtype} {crops.shape}; they must be uint8 (..., S, S, 3).")
    std = np.asarray(config.std, np.float32)
    gain = 1 / (255 * std)
    offset = np.asarray(config.mean, np.float32) / std
    return np.ascontiguousarray(np.moveaxis(crops * gain - offset, -1, -3))
