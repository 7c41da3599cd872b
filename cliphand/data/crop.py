"""The one way from a photograph to the square that the model sees: box, matrix, cut, normalise.

Pixel coordinates are those of `cv2.warpAffine` and of K: an integer is the centre of a pixel, x to the right, y
down. An image of W columns reaches from -0.5 to W - 0.5.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cliphand.arrays import BoolArray, ByteArray, FloatArray
from cliphand.config import CropConfig
from cliphand.errors import InputError

MASK_THRESHOLD = 128  # masks are JPEG files: 0 and 255 with ringing in between
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class Box:
    """A square in the source image, in source pixels."""

    centre_x: float
    centre_y: float
    side_px: float


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


def crop_matrix(box: Box, side_px: int, *, angle_rad: float = 0.0) -> FloatArray:
    """The similarity from source pixels to crop pixels.

    Args:
        box: what to cut.
        side_px: side of the crop in pixels.
        angle_rad: turns what is seen about the box's centre, clockwise on the screen.

    Returns:
        (3, 3) float64; `matrix @ K` is the camera matrix of the crop.
    """
    zoom = side_px / box.side_px
    cosine, sine = zoom * math.cos(angle_rad), zoom * math.sin(angle_rad)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = (side_px - 1) / 2 - linear @ (box.centre_x, box.centre_y)
    return matrix


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


def read_image(path: Path) -> ByteArray:
    """Read a photograph.

    Returns:
        (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Raises:
        InputError: the file is missing, cut short or not an image; the sentence names it.
    """
    return np.asarray(cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def read_mask(path: Path) -> BoolArray:
    """Read a hand mask: (H, W), true where the file is bright.

    Raises:
        InputError: as `read_image`.
    """
    return np.asarray(_decode(path, cv2.IMREAD_GRAYSCALE) >= MASK_THRESHOLD)


def _decode(path: Path, flags: int) -> ByteArray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the path of an image file.") from None
    # The decoder fills the missing part of a truncated file with grey and reports nothing.
    if not _is_complete(data):
        raise InputError(f"{path} is a truncated image ({len(data)} bytes, no end marker); copy it again.")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise InputError(f"{path} cannot be decoded ({error.err}); give a JPEG or PNG file.") from None
    if image is None:
        raise InputError(f"{path} is not an image that OpenCV reads; give a JPEG or PNG file.")
    return np.asarray(image, np.uint8)


def _is_complete(data: bytes) -> bool:
    """Whether a JPEG or PNG file has its end marker; other formats are left to the decoder."""
    if data.startswith(_PNG_START):
        return _PNG_END in data
    if not data.startswith(_JPEG_START):
        return True
    position = len(_JPEG_START)
    # An EXIF thumbnail has an end marker of its own: walk over the header's segments to the scan.
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != _JPEG_SCAN:
        padding = data[position + 1] == 0xFF  # any number of 0xFF may stand before a marker
        position += 1 if padding else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return data.find(_JPEG_END, position) >= 0
