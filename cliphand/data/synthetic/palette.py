"""Colours of skin, light and things, as linear RGB."""

import numpy as np

from cliphand.arrays import FloatArray

_TONES_SRGB = (  # from the lightest to the darkest human skin
    (242, 211, 199),
    (232, 191, 174),
    (219, 168, 148),
    (201, 146, 124),
    (177, 120, 98),
    (146, 95, 75),
    (112, 72, 56),
    (82, 54, 44),
    (58, 41, 36),
)


def to_linear(srgb: FloatArray) -> FloatArray:
    """From sRGB in [0, 1] to linear light."""
    return np.asarray(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4))


TONES = to_linear(np.array(_TONES_SRGB) / 255)
NAIL = to_linear(np.array([236, 184, 172]) / 255)
GAMMA_STEPS = 4096
_CODES = np.linspace(0, 1, GAMMA_STEPS)
_ENCODED = np.where(_CODES <= 0.0031308, 12.92 * _CODES, 1.055 * _CODES ** (1 / 2.4) - 0.055).astype(np.float32)


def to_srgb(linear: FloatArray) -> FloatArray:
    """Linear light to sRGB in [0, 1], by table."""
    index = (np.clip(linear, 0, 1) * (GAMMA_STEPS - 1) + 0.5).astype(np.int32)
    return _ENCODED[index]


def skin_tone(tone: float) -> FloatArray:
    """(3,) linear albedo for a tone in [0 light, 1 dark]."""
    position = np.clip(tone, 0, 1) * (len(TONES) - 1)
    low = min(int(position), len(TONES) - 2)
    return np.asarray(TONES[low] ** (1 - position + low) * TONES[low + 1] ** (position - low))


def light_colour(kelvin: float) -> FloatArray:
    """(3,) linear colour of a black body, luminance 1.

    Source: Tanner Helland's fit to the CIE black-body colours, 1000 to 40000 K.
    """
    t = kelvin / 100
    red = 255 if t <= 66 else 329.7 * (t - 60) ** -0.1332
    green = 99.47 * np.log(t) - 161.1 if t <= 66 else 288.1 * (t - 60) ** -0.0755
    blue = 255 if t >= 66 else (0 if t <= 19 else 138.5 * np.log(t - 10) - 305.0)
    rgb = to_linear(np.clip(np.array([red, green, blue]) / 255, 0, 1))
    return np.asarray(rgb / (rgb @ [0.2126, 0.7152, 0.0722]))


_HUES_SRGB = (  # what rooms, clothes and goods are made of, before light
    (244, 242, 238),
    (205, 203, 200),
    (120, 122, 126),
    (36, 37, 40),
    (150, 118, 88),
    (104, 72, 48),
    (205, 184, 150),
    (52, 66, 96),
    (84, 118, 160),
    (66, 100, 72),
    (128, 142, 92),
    (168, 48, 44),
    (206, 110, 52),
    (222, 186, 76),
    (120, 84, 120),
    (64, 130, 136),
)
_HUES = np.array(_HUES_SRGB) / 255
_HUE_LIMITS = np.cumsum([4, 4, 4, 4, 3, 2, 3, 3, 2, 2, 2, 1.5, 1, 1, 0.6])
_HUE_LIMITS /= _HUE_LIMITS[-1] + 1
VIVID_SHARE = 0.06


def thing_colours(rng: np.random.Generator, count: int) -> FloatArray:
    """(count, 3) linear albedo of cloth, wood, plastic or paint: mostly dull, sometimes vivid."""
    position = np.searchsorted(_HUE_LIMITS, rng.random(count), side="right")
    dull = _HUES[position] * np.exp(rng.normal(0, 1, (count, 3)) * [0.09, 0.07, 0.09])
    vivid = rng.uniform(0.03, 0.97, (count, 3))
    return to_linear(np.where(rng.random((count, 1)) < VIVID_SHARE, vivid, np.clip(dull, 0, 1)))
