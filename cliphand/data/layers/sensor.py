"""From linear light to the picture that a camera keeps: blur, resolution, noise, white balance, tone, JPEG."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from cliphand.arrays import ByteArray, FloatArray
from cliphand.config import AugmentConfig
from cliphand.data.layers.backdrop import between

CODE_SPAN = 2.0  # linear light of the brightest code of the sensor, a square root
SHOULDER = 0.55
MIDDLE_LIGHT = 0.2  # mean linear light that a camera exposes for
MOST_EXPOSURE = 3.0  # of a dark scene, whose noise grows with it
METERING = (0.35, 0.9)  # how far it goes towards that
NOISE_SEED, NOISE_PX = 8, 512
LOW_RESOLUTION_SHARE, JPEG_SHARE, SHARPENED_SHARE = (0.05, 0.25), (0.3, 0.65), (0.3, 0.6)
SHARPENING = (0.3, 1.6)
MOST_GAIN = 7.0  # of one frequency: an amplitude near zero is not to explode
SMALLEST_PX = 40  # side of a crop taken at low resolution
JPEG_QUALITY = (35, 96)
_LINEAR = CODE_SPAN * np.square(np.linspace(0, 1, 256))


def _as_bytes(image: npt.ArrayLike) -> ByteArray:
    return np.asarray(image, np.uint8)


def develop(rng: np.random.Generator, light: FloatArray, config: AugmentConfig) -> ByteArray:
    """What a camera makes of linear light.

    Args:
        rng: the only source of chance.
        light: (S, S, 3) float32 linear RGB.
        config: its `colour`, `blur_px` and `noise` bound what they say; `difficulty` the rest.

    Returns:
        (S, S, 3) uint8 sRGB.
    """
    side_px, difficulty = len(light), config.difficulty
    codes = np.asarray(cv2.sqrt(light), np.float32)
    blur_px = config.blur_px * float(rng.random()) ** 2  # most pictures are sharp
    if blur_px > 0.25:
        codes = np.asarray(cv2.GaussianBlur(codes, (0, 0), blur_px), np.float32)
    low = rng.random() < between(LOW_RESOLUTION_SHARE, difficulty)
    if low:
        small = int(rng.uniform(min(SMALLEST_PX, 0.5 * side_px), 0.9 * side_px))
        codes = np.asarray(cv2.resize(codes, (small, small), interpolation=cv2.INTER_AREA), np.float32)
    codes = _noisy(rng, codes, config.noise * float(rng.random()) ** 2 * len(codes) / side_px)
    image = _as_bytes(cv2.convertScaleAbs(codes, alpha=255 / np.sqrt(CODE_SPAN)))
    image = _as_bytes(cv2.LUT(image, _tone(rng, image, config)))
    image = _saturated(rng, image, difficulty)
    if rng.random() < between(SHARPENED_SHARE, difficulty):
        amount = float(rng.uniform(*SHARPENING))
        image = _as_bytes(cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (3, 3), 1.0), -amount, 0))
    if rng.random() < between(JPEG_SHARE, difficulty):
        image = _compressed(image, int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))
    if low:
        image = _as_bytes(cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_LINEAR))
    return image


def _noisy(rng: np.random.Generator, codes: FloatArray, deviation: float) -> FloatArray:
    """Shot noise: in square roots of light it is as strong in the dark as in the bright."""
    if deviation <= 0:
        return codes
    side = len(codes)
    field = _noise_field(bool(rng.random() < 0.5))
    y, x = rng.integers(0, NOISE_PX - side + 1, 2) if side <= NOISE_PX else (0, 0)
    noise = field[y : y + side, x : x + side]
    if noise.shape != codes.shape:
        noise = np.asarray(cv2.resize(field, (side, side), interpolation=cv2.INTER_NEAREST), np.float32)
    return np.asarray(cv2.scaleAdd(np.ascontiguousarray(noise), deviation, codes))


@lru_cache(maxsize=2)
def _noise_field(coarse: bool) -> FloatArray:
    """(NOISE_PX, NOISE_PX, 3) of unit variance; coarse after a camera's own smoothing."""
    field = np.random.default_rng(NOISE_SEED).standard_normal((NOISE_PX, NOISE_PX, 3), np.float32)
    if coarse:
        field = np.asarray(cv2.GaussianBlur(field, (0, 0), 0.7))
        field /= field.std()
    return field


def _tone(rng: np.random.Generator, codes: ByteArray, config: AugmentConfig) -> ByteArray:
    """(256, 1, 3) table from codes to sRGB: white balance, exposure, shoulder, contrast about the mean."""
    difficulty = config.difficulty
    means = cv2.mean(codes)[:3]
    brightness = max(float(np.mean(means) / 255) ** 2 * CODE_SPAN, 0.01)
    exposure = min((MIDDLE_LIGHT / brightness) ** rng.uniform(*METERING), MOST_EXPOSURE)
    exposure *= np.exp(rng.normal(0, 0.06 + 0.14 * difficulty))
    balance = np.exp(difficulty * rng.normal(0, [0.07, 0.02, 0.07]))
    linear = _LINEAR[:, None] * balance * exposure
    over = np.maximum(linear - SHOULDER, 0)
    linear = np.minimum(linear, SHOULDER) + over / (1 + over / (1 - SHOULDER))  # bright light never quite clips
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    low, high = 1 - config.colour, 1 + config.colour
    encoded = encoded * rng.uniform(low, high, 3) * rng.uniform(low, high)
    middle = np.mean([encoded[int(code), channel] for channel, code in enumerate(means)])
    encoded = middle + (encoded - middle) * rng.uniform(low, high)
    return _as_bytes(np.clip(np.rint(255 * encoded), 0, 255)[:, None])


def _saturated(rng: np.random.Generator, image: ByteArray, difficulty: float) -> ByteArray:
    """Colours weaker or stronger, now and then none."""
    share = 0.0 if rng.random() < 0.04 * difficulty else 1 + difficulty * rng.uniform(-0.35, 0.2)
    grey = np.array([0.299, 0.587, 0.114])
    matrix = share * np.eye(3) + (1 - share) * grey
    return np.asarray(cv2.transform(image, matrix.astype(np.float32)))


def _compressed(image: ByteArray, quality: int) -> ByteArray:
    """Through JPEG and back."""
    sampling = "420" if quality < 85 else "444"
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorsubsampling=sampling)
    return np.asarray(simplejpeg.decode_jpeg(data))


def streak(rng: np.random.Generator, longest_px: float) -> FloatArray:
    """A normalised kernel along a short line: motion during the exposure."""
    length = float(rng.uniform(1.5, longest_px))
    angle = rng.uniform(0, np.pi)
    size = 2 * int(length / 2 + 1) + 1
    kernel = np.zeros((size, size), np.float32)
    half = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    start, end = (np.round((size // 2 + sign * half) * 16).astype(int) for sign in (-1, 1))
    cv2.line(kernel, tuple(start.tolist()), tuple(end.tolist()), 1.0, 1, cv2.LINE_AA, 4)
    return np.asarray(kernel / kernel.sum())


def mix_spectrum(image: ByteArray, other: ByteArray, share: float) -> ByteArray:
    """The image with its brightness's amplitude spectrum moved towards another picture's, its phase kept.

    Source: Xu et al. 2021, A Fourier-based framework for domain generalization.

    Args:
        image: (S, S, 3) uint8.
        other: (S, S, 3) uint8.
        share: of the other's amplitude.
    """
    from scipy import fft  # ten times as fast as numpy's; who only draws labels has neither to install nor to load it

    own, foreign = (fft.rfft2(np.asarray(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), np.float32)) for x in (image, other))
    gain = share * (np.abs(foreign) / np.maximum(np.abs(own), 1e-3) - 1)
    change = fft.irfft2(own * np.minimum(gain, MOST_GAIN), s=image.shape[:2])
    return _as_bytes(np.clip(np.rint(image + change[..., None]), 0, 255))
