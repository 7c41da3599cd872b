"""Layers on disk: a hand's light in four parts, what covers what, and where on the hand's surface each pixel lies.

Three files a sample, which any viewer opens: `light/%08d.jpg` holds four pictures of the same view, lit by the sky and
by three lamps one at a time, tiled two by two, as the square root of linear light; `cover/%08d.webp` has the coverage
of everything rendered in red, of the hand in green, of cloth and things in blue; `surface/%08d.webp` has the canonical
coordinates in its colours and the depth in its alpha, at half the size. Both are lossless: WebP is read here in a
quarter of the time that PNG takes.

A layer's frame is the box around the projected joints, LAYER_MARGIN times their extent: the labels alone place it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from cliphand.arrays import ByteArray, FloatArray
from cliphand.config import CropConfig
from cliphand.data.crop import crop_box, crop_matrix
from cliphand.errors import InputError

FOLDER = "layers"
LAYER_PX = 224
SURFACE_PX = LAYER_PX // 2
LAYER_MARGIN = 2.1  # a turned crop of 1.5 times the extent reaches 1.06 extents from its middle
N_LIGHTS = 4  # the sky, then three lamps
SUFFIXES = {"light": ".jpg", "cover": ".webp", "surface": ".webp"}
LIGHT_QUALITY = 94
LOSSLESS = 101  # of OpenCV's WebP qualities
MADE_AGAIN = "the `cliphand synth` command that made the set makes it again"
LIGHT_SPAN = 2.0  # linear light of the brightest code


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """One rendered hand.

    Attributes:
        lights: N_LIGHTS of (LAYER_PX, LAYER_PX, 3) uint8 RGB, 255 sqrt(linear / LIGHT_SPAN); not weighed by coverage,
            and drawn on beyond the outline.
        cover: (LAYER_PX, LAYER_PX, 3) uint8, coverage by anything, by the hand, and by cloth and things.
        surface: (SURFACE_PX, SURFACE_PX, 4) uint8, see `dense`; drawn on beyond the hand's outline.
    """

    lights: tuple[ByteArray, ...]
    cover: ByteArray
    surface: ByteArray


def layer_matrix(joints_uv: FloatArray) -> FloatArray:
    """(3, 3) from pixels of the whole image to pixels of the layers, for joints (21, 2) in the former."""
    box = crop_box(_frame(), (LAYER_PX, LAYER_PX), joints_uv=joints_uv)
    return crop_matrix(box, LAYER_PX)


@cache
def _frame() -> CropConfig:
    """Made once: checking a config takes longer than the crop does."""
    return CropConfig(rule="joints", margin=LAYER_MARGIN)


def layer_paths(folder: Path, index: int) -> dict[str, Path]:
    """The files of one sample, by what they hold."""
    return {name: folder / name / f"{index:08d}{suffix}" for name, suffix in SUFFIXES.items()}


def encode_layers(layers: Layers) -> dict[str, bytes]:
    """The content of a sample's files, by what they hold."""
    rows = [np.hstack(layers.lights[:2]), np.hstack(layers.lights[2:])]
    tiled = np.ascontiguousarray(np.vstack(rows))
    return {
        "light": simplejpeg.encode_jpeg(tiled, quality=LIGHT_QUALITY, colorsubsampling="420"),
        "cover": lossless(layers.cover[..., ::-1]),
        "surface": lossless(layers.surface[..., [2, 1, 0, 3]]),
    }


def read_layers(paths: Mapping[str, Path]) -> Layers:
    """Read a sample's files.

    Raises:
        InputError: one is missing or damaged; the sentence names it.
    """
    try:
        tiled = simplejpeg.decode_jpeg(_content(paths["light"]), strict=True)
    except ValueError:
        raise damaged(paths["light"]) from None
    cover = _read_lossless(paths["cover"], (LAYER_PX, LAYER_PX, 3))
    surface = _read_lossless(paths["surface"], (SURFACE_PX, SURFACE_PX, 4))
    if tiled.shape != (2 * LAYER_PX, 2 * LAYER_PX, 3):
        raise damaged(paths["light"])
    quarters = [tiled[y : y + LAYER_PX, x : x + LAYER_PX] for y in (0, LAYER_PX) for x in (0, LAYER_PX)]
    return Layers(
        tuple(np.ascontiguousarray(quarter) for quarter in quarters),
        np.asarray(cv2.cvtColor(cover, cv2.COLOR_BGR2RGB), np.uint8),
        np.asarray(cv2.cvtColor(surface, cv2.COLOR_BGRA2RGBA), np.uint8),
    )


def lossless(image: ByteArray) -> bytes:
    """WebP of an image whose channels are in OpenCV's order."""
    done, data = cv2.imencode(".webp", np.ascontiguousarray(image), [cv2.IMWRITE_WEBP_QUALITY, LOSSLESS])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a WebP of shape {image.shape}")
    return data.tobytes()


def _read_lossless(path: Path, shape: tuple[int, ...]) -> ByteArray:
    image = cv2.imdecode(np.frombuffer(_content(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.shape != shape or image.dtype != np.uint8:
        raise damaged(path)
    return np.asarray(image)


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {MADE_AGAIN}.") from None
    if not data:
        raise damaged(path)
    return data


def damaged(path: Path) -> InputError:
    """The sentence about a file of the set that cannot be what was written."""
    return InputError(f"{path} is damaged; {MADE_AGAIN}.")
