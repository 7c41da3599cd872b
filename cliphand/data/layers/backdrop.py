"""The background of one view: a random part of a picture, or a plain wall."""

import math

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.data.layers.scenery import Scenery

PLAIN_SHARE = (0.85, 0.06)  # at difficulty 0 and 1
SOFT_SHARE = (1.0, 0.25)  # of pictures that are out of focus
SMALLEST_PART = 0.4  # of a picture's shorter side


def between(ends: tuple[float, float], difficulty: float) -> float:
    """The value at `difficulty` in [0, 1] on the way from the first of `ends` to the second."""
    return ends[0] + difficulty * (ends[1] - ends[0])


def draw_backdrop(rng: np.random.Generator, scenery: Scenery, *, side_px: int, difficulty: float) -> ByteArray:
    """(side_px, side_px, 3) uint8 RGB to put a hand before."""
    if rng.random() < between(PLAIN_SHARE, difficulty):
        return _wall(rng, scenery.picture(rng), side_px)
    part = picture_part(rng, scenery.picture(rng), side_px=side_px)
    if rng.random() < between(SOFT_SHARE, difficulty):
        sigma = float(rng.uniform(0.4, between((8.0, 4.0), difficulty))) * side_px / 128
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), sigma), np.uint8)
    return part


def picture_part(rng: np.random.Generator, picture: ByteArray, *, side_px: int) -> ByteArray:
    """A random square of a picture, turned a little, mirrored in half of the draws, recoloured."""
    height, width = picture.shape[:2]
    side = min(height, width) * float(rng.uniform(SMALLEST_PART, 1.0))
    angle = float(rng.normal(0, 0.15)) + math.pi / 2 * int(rng.choice(4, p=[0.7, 0.12, 0.06, 0.12]))
    room = np.array([width, height]) / 2 - side / 2
    centre = np.array([width, height]) / 2 + room * rng.uniform(-1, 1, 2) - 0.5
    zoom = side_px / side
    cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    offset = (side_px - 1) / 2 - linear @ centre
    smaller = cv2.INTER_LINEAR if zoom > 0.6 else cv2.INTER_AREA
    part = cv2.warpAffine(
        picture,
        np.column_stack([linear, offset]),
        (side_px, side_px),
        flags=smaller,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return _recoloured(rng, np.asarray(part, np.uint8))


def _recoloured(rng: np.random.Generator, image: ByteArray) -> ByteArray:
    """Another exposure, contrast and saturation."""
    gain = np.exp(rng.normal(0, 0.22) + rng.normal(0, 0.05, 3))
    mix = (np.eye(3) + rng.uniform(-0.35, 0.2) * (1 / 3 - np.eye(3))) * gain[:, None]
    matrix = np.column_stack([mix, np.full(3, rng.normal(0, 10))]).astype(np.float32)
    return np.asarray(cv2.transform(image, matrix), np.uint8)


def _wall(rng: np.random.Generator, picture: ByteArray, side_px: int) -> ByteArray:
    """One colour, lighter towards one side: a picture's, or any."""
    if rng.random() < 0.5:
        colour = picture[rng.integers(len(picture)), rng.integers(picture.shape[1])].astype(np.float64)
    else:
        colour = rng.uniform(10, 245) + rng.normal(0, 18, 3)
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.linspace(-0.5, 0.5, side_px, dtype=np.float32)
    ramp = np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]
    shade = 1 + np.float32(rng.uniform(0, 0.5)) * ramp
    return np.asarray(np.clip(shade[..., None] * colour.astype(np.float32), 0, 255), np.uint8)


def mean_light(backdrop: ByteArray, table: FloatArray) -> FloatArray:
    """(3,) mean linear light of a background, from a few of its pixels."""
    few = cv2.resize(backdrop, (8, 8), interpolation=cv2.INTER_AREA)
    return np.asarray(table[few].mean(axis=(0, 1)))
