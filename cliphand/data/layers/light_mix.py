"""Light of a composition: the strength and colour of the sky and of each lamp, after what the background shows."""

from collections.abc import Sequence

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.data.layers.store import LIGHT_SPAN, N_LIGHTS

CODES = np.linspace(0, 1, 256, dtype=np.float32)
TO_LINEAR = np.where(CODES <= 0.04045, CODES / 12.92, ((CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_TO_LINEAR_RGB = np.ascontiguousarray(np.repeat(TO_LINEAR[:, None, None], 3, axis=2))
TIED_SHARE = 0.75  # of compositions whose light takes after their background
MIDDLE_LIGHT = 0.18  # linear light that a camera exposes for
DIRECTNESS = (1.7, 1.2)  # of the beta distribution
LAMP_SHARES = (4.0, 1.0, 0.5)  # of Dirichlet's distribution
FAINT = 0.03  # a lamp below this share of the light is left out, which saves time
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def mix_lights(lights: Sequence[ByteArray], gains: FloatArray) -> FloatArray:
    """Linear light under a mixture: linear in `gains`.

    Args:
        lights: N of (H, W, 3) uint8, square roots as in `Layers`.
        gains: (N, 3) of each light's red, green and blue.

    Returns:
        (H, W, 3) float32.
    """
    tables = LIGHT_SPAN * np.square(CODES)[:, None, None] * np.asarray(gains, np.float32)[:, None, None]
    total = np.zeros(lights[0].shape, np.float32)
    for light, table in zip(lights, tables, strict=True):
        total += cv2.LUT(light, table)
    return total


def to_linear(image: ByteArray) -> FloatArray:
    """Linear light of (H, W, 3) uint8 sRGB."""
    return np.asarray(cv2.LUT(image, _TO_LINEAR_RGB), np.float32)


def draw_gains(rng: np.random.Generator, around: FloatArray, difficulty: float) -> FloatArray:
    """Draw a mixture of lights.

    Args:
        rng: the only source of chance.
        around: (3,) mean linear light of the background.
        difficulty: 0 for soft white light, 1 for any: coloured, hard, dim or bright.

    Returns:
        (N_LIGHTS, 3) float32.
    """
    direct = rng.beta(*DIRECTNESS) * (0.5 + 0.5 * difficulty)
    order = rng.permutation(N_LIGHTS - 1)
    lamps = np.zeros(N_LIGHTS - 1)
    lamps[order] = rng.dirichlet(LAMP_SHARES)
    lamps[direct * lamps < FAINT] = 0
    warmth = difficulty * rng.normal(0, 0.13, N_LIGHTS)  # along the black body's colours
    tint = difficulty * rng.normal(0, 0.03, (N_LIGHTS, 3))
    gains = np.exp(warmth[:, None] * [1.0, 0.0, -1.2] + tint)
    gains *= np.concatenate([[1 - 0.92 * direct], 1.7 * direct * lamps])[:, None]
    brightness = float(np.clip(around @ LUMINANCE, 0.01, 1.0))
    level = np.exp(rng.normal(0, 0.12 + 0.12 * difficulty))
    if rng.random() < TIED_SHARE:
        level *= (brightness / MIDDLE_LIGHT) ** rng.uniform(0.0, 0.45)
        cast = (around + 0.02) / (brightness + 0.02)
        gains *= cast ** (rng.uniform(0.0, 0.3, (N_LIGHTS, 1)) * difficulty)
    return np.asarray(gains * np.clip(level, 0.35, 1.9), np.float32)
