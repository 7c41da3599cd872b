"""Random views of a photograph for training. Geometry is one matrix, so that labels and K can follow it."""

import math

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.config import AugmentConfig
from cliphand.data.crop import Box, crop_matrix, cut


def draw_view(
    image: ByteArray, box: Box, config: AugmentConfig, rng: np.random.Generator, *, side_px: int
) -> tuple[ByteArray, FloatArray]:
    """Draw one view: scaled, turned, shifted; then blurred, recoloured and made noisy.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: what the crop rule cuts.
        config: the bounds of each change.
        rng: the only source of chance; the same state gives the same view.
        side_px: side of the crop in pixels.

    Returns:
        (S, S, 3) uint8 RGB, and (3, 3) from source pixels to its pixels.
    """
    matrix = draw_matrix(box, config, rng, side_px=side_px)
    crop = cut(image, matrix, side_px=side_px)
    # A camera blurs before its sensor adds noise.
    blur_px = rng.uniform(0, config.blur_px)
    if blur_px > 0:
        crop = np.asarray(cv2.GaussianBlur(crop, (0, 0), blur_px), np.uint8)
    levels = _recolour(crop.astype(np.float32), config, rng)
    noise = rng.uniform(0, config.noise)
    if noise > 0:
        levels += np.float32(255 * noise) * rng.standard_normal(levels.shape, np.float32)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8), matrix


def draw_matrix(box: Box, config: AugmentConfig, rng: np.random.Generator, *, side_px: int) -> FloatArray:
    """(3, 3) from source pixels to the pixels of a crop that is scaled, turned and shifted within the bounds."""
    drawn_side_px = box.side_px * rng.uniform(1 - config.scale, 1 + config.scale)
    shift_x, shift_y = drawn_side_px * rng.uniform(-config.shift, config.shift, 2)
    bound_deg = config.rotation_deg
    if config.level_share > 0 and rng.uniform() < config.level_share:
        bound_deg = min(bound_deg, config.level_deg)
    angle_deg = rng.uniform(-bound_deg, bound_deg)
    drawn = Box(box.centre_x + shift_x, box.centre_y + shift_y, drawn_side_px, box.angle_rad)
    return crop_matrix(drawn, side_px, angle_rad=math.radians(angle_deg))


def _recolour(levels: FloatArray, config: AugmentConfig, rng: np.random.Generator) -> FloatArray:
    """Gain per channel, brightness, and contrast about the mean level; (S, S, 3) float32 in 0..255."""
    low, high = 1 - config.colour, 1 + config.colour
    gain = (rng.uniform(low, high, 3) * rng.uniform(low, high)).astype(np.float32)
    contrast = np.float32(rng.uniform(low, high))
    levels = levels * gain
    mean = levels.mean(dtype=np.float64).astype(np.float32)
    return np.asarray((levels - mean) * contrast + mean, np.float32)
