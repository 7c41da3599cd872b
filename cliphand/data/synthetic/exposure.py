"""From light to a JPEG: motion blur, lens blur, white balance, tone, noise, the edge of the sensor, compression."""

import cv2
import numpy as np

from cliphand.arrays import BoolArray, ByteArray, FloatArray
from cliphand.data.synthetic.palette import to_srgb
from cliphand.data.synthetic.placement import SIDE_PX

MOTION_SHARE, FRAME_SHARE, SHARPENED_SHARE = 0.15, 0.08, 0.5
SHOULDER = 0.55
JPEG_QUALITY = (55, 98)
MASK_QUALITY = 95


def expose(rng: np.random.Generator, colour: FloatArray, coverage: FloatArray, background: FloatArray) -> FloatArray:
    """Put the rendered foreground over the background and blur what moves or is out of focus.

    Args:
        rng: source of randomness.
        colour: (RENDER_PX, RENDER_PX, 3) linear, times coverage.
        coverage: (RENDER_PX, RENDER_PX).
        background: (RENDER_PX, RENDER_PX, 3) linear.

    Returns:
        (RENDER_PX, RENDER_PX, 3) linear.
    """
    front = np.dstack([colour, coverage])
    if rng.random() < MOTION_SHARE:  # the hand moves before a still scene
        front = np.asarray(cv2.filter2D(front, -1, _streak(rng), borderType=cv2.BORDER_REPLICATE), np.float32)
    image = front[..., :3] + (1 - front[..., 3:]) * background
    softness = float(abs(rng.normal(0, 0.4)))
    return np.asarray(cv2.GaussianBlur(image, (0, 0), softness) if softness > 0.25 else image, np.float32)


def _streak(rng: np.random.Generator) -> FloatArray:
    """A normalised kernel along a short line."""
    length = float(rng.uniform(3, 11))
    angle = rng.uniform(0, np.pi)
    size = 2 * int(length / 2 + 1) + 1
    kernel = np.zeros((size, size), np.float32)
    middle = np.array([size // 2, size // 2])
    half = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    start, end = (np.round((middle + sign * half) * 16).astype(int) for sign in (-1, 1))
    cv2.line(kernel, tuple(start.tolist()), tuple(end.tolist()), 1.0, 1, cv2.LINE_AA, 4)
    return np.asarray(kernel / kernel.sum())


def develop(rng: np.random.Generator, light: FloatArray) -> ByteArray:
    """Linear light to the (SIDE_PX, SIDE_PX, 3) RGB image of a camera."""
    small = cv2.resize(light, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    balance = np.exp(rng.normal(0, [0.05, 0.015, 0.05])).astype(np.float32)
    level = np.float32(np.exp(rng.normal(0, 0.16)))
    image = small * (balance * level)
    over = np.maximum(image - SHOULDER, 0)
    image = np.minimum(image, SHOULDER) + over / (1 + over / (1 - SHOULDER))  # bright light never quite clips
    shot, read = float(rng.gamma(1.2, 0.006)), float(rng.gamma(1.5, 0.003))
    noise = rng.standard_normal(image.shape, np.float32)
    if rng.random() < 0.6:  # noise after a camera's own smoothing is coarser
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.7) * 1.8, np.float32)
    encoded = to_srgb(image)
    encoded = encoded + noise * (read + shot * np.sqrt(np.maximum(encoded, 0)))
    contrast, saturation = float(rng.uniform(0.88, 1.18)), float(rng.uniform(0.72, 1.15))
    grey = encoded @ np.array([0.299, 0.587, 0.114], np.float32)
    encoded = grey[..., None] + saturation * (encoded - grey[..., None])
    encoded = 0.45 + contrast * (encoded - 0.45)
    if rng.random() < SHARPENED_SHARE:
        encoded = encoded + rng.uniform(0.2, 0.9) * (encoded - cv2.GaussianBlur(encoded, (0, 0), 1.0))
    return (np.clip(encoded, 0, 1) * 255 + 0.5).astype(np.uint8)


def frame(rng: np.random.Generator, image: ByteArray, keep_px: FloatArray) -> ByteArray:
    """Blacken what lies outside a turned sensor, as FreiHAND's rectified images show, never over the hand.

    Args:
        rng: source of randomness.
        image: (SIDE_PX, SIDE_PX, 3) RGB.
        keep_px: (N, 2) pixels that stay visible.
    """
    if rng.random() >= FRAME_SHARE:
        return image
    centre = (rng.uniform(0.35, 0.65, 2) * SIDE_PX).tolist()
    size = (rng.uniform(0.85, 1.3, 2) * SIDE_PX).tolist()
    corners = cv2.boxPoints((centre, size, float(rng.normal(0, 4)))) + rng.normal(0, 3, (4, 2))
    inside = np.zeros(image.shape[:2], np.uint8)
    cv2.fillConvexPoly(inside, np.round(corners).astype(np.int32), 1)
    seen = np.clip(np.round(keep_px), 0, SIDE_PX - 1).astype(int)
    return image if not inside[seen[:, 1], seen[:, 0]].all() else image * inside[..., None]


def encode_photo(rng: np.random.Generator, image: ByteArray) -> bytes:
    """JPEG bytes of an RGB image."""
    return _jpeg(np.ascontiguousarray(image[..., ::-1]), int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))


def encode_mask(hand: FloatArray) -> bytes:
    """JPEG bytes of a (RENDER_PX, RENDER_PX) coverage: white where the hand is seen."""
    return encode_mask_image(cv2.resize(hand, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) >= 0.5)


def encode_mask_image(hand: BoolArray) -> bytes:
    """JPEG bytes of a (SIDE_PX, SIDE_PX) mask: white where it is true."""
    return _jpeg(hand.astype(np.uint8) * 255, MASK_QUALITY)


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a JPEG of shape {image.shape}")
    return data.tobytes()
