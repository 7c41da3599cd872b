"""What lies behind the hand: drawn clutter, plain walls and screens, or crops of the user's photographs.

Clutter follows the dead-leaves model, whose occlusions and scales give the statistics of natural images (Lee,
Mumford and Huang 2001), with skin-coloured leaves among the others: skin colour alone is no hand.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.palette import skin_tone, thing_colours, to_linear, to_srgb
from cliphand.data.synthetic.placement import RENDER_PX

SKIN_SHARE = 0.14
USER_SHARE = 0.8  # of images whose background is the user's, where a folder is named
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
GREEN_SCREEN = np.array([0.36, 0.58, 0.2])  # as FreiHAND's cameras see it
Drawer = Callable[[np.random.Generator], FloatArray]


def random_background(rng: np.random.Generator, photos: tuple[Path, ...]) -> FloatArray:
    """(RENDER_PX, RENDER_PX, 3) float32 sRGB in [0, 1]."""
    if photos and rng.random() < USER_SHARE:
        image = _photo_crop(rng, photos[rng.integers(len(photos))])
    else:
        image = _DRAWERS[rng.choice(len(_DRAWERS), p=_DRAWER_SHARES)](rng)
    blur = float(rng.choice([0.0, rng.uniform(0.4, 1.2), rng.uniform(1.2, 5.0)], p=[0.45, 0.35, 0.2]))
    if blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.float32)
    return np.clip(image, 0, 1).astype(np.float32)


def list_photos(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder and its subfolders, sorted by name."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file())
    return tuple(sorted(found))


def _photo_crop(rng: np.random.Generator, path: Path) -> FloatArray:
    """A random square of a photograph, mirrored in half of the cases."""
    photo = user_photo(path)
    height, width = photo.shape[:2]
    side = max(int(min(height, width) * rng.uniform(0.4, 1.0)), 2)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    smaller = cv2.INTER_AREA if side > RENDER_PX else cv2.INTER_LINEAR
    return cv2.resize(crop, (RENDER_PX, RENDER_PX), interpolation=smaller).astype(np.float32) / 255


@lru_cache(maxsize=64)
def user_photo(path: Path) -> np.ndarray:
    """RGB, its longer side at most 1024 px; a file that is no picture is grey."""
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None or min(photo.shape[:2]) < 8:
        return np.full((RENDER_PX, RENDER_PX, 3), 128, np.uint8)
    scale = 1024 / max(photo.shape[:2])
    if scale < 1:
        photo = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(photo[..., ::-1])


def _colours(rng: np.random.Generator, count: int) -> FloatArray:
    """(count, 3) sRGB of things, and, for one in seven, of skin."""
    linear = thing_colours(rng, count)
    for skin in np.flatnonzero(rng.random(count) < SKIN_SHARE):
        linear[skin] = skin_tone(float(rng.uniform(0, 1))) * rng.uniform(0.5, 1.3)
    return to_srgb(linear)


def _colour(rng: np.random.Generator) -> FloatArray:
    """(3,) one of `_colours`."""
    return np.asarray(_colours(rng, 1)[0])


def _plain(colour: FloatArray) -> FloatArray:
    """(RENDER_PX, RENDER_PX, 3) of one colour."""
    return np.ascontiguousarray(np.broadcast_to(colour, (RENDER_PX, RENDER_PX, 3)), np.float32)


def _noise(rng: np.random.Generator, cell_px: float, channels: int = 1) -> FloatArray:
    """Smooth noise, unit variance, (RENDER_PX, RENDER_PX, channels)."""
    cells = max(int(RENDER_PX / cell_px) + 2, 3)
    coarse = rng.standard_normal((cells, cells, channels), np.float32)
    fine = cv2.resize(coarse, (RENDER_PX, RENDER_PX), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32).reshape(RENDER_PX, RENDER_PX, -1)


def _ramp(rng: np.random.Generator) -> FloatArray:
    """A linear ramp in [-0.5, 0.5] in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, RENDER_PX, dtype=np.float32)
    return np.asarray((np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]) * 0.7)[..., None]


def _wall(rng: np.random.Generator) -> FloatArray:
    """An uneven wall, cloth or green screen with soft shadows and folds."""
    base = GREEN_SCREEN * rng.uniform(0.6, 1.3) if rng.random() < 0.3 else _colour(rng)
    shade = 1 + rng.uniform(0, 0.7) * _ramp(rng) + rng.uniform(0.02, 0.12) * _noise(rng, 90)
    grain = _texture(rng)
    return np.asarray((base * shade + grain).astype(np.float32))


def _clouds(rng: np.random.Generator) -> FloatArray:
    """Coloured 1/f noise: foliage, carpets, out-of-focus rooms."""
    image = _plain(_colour(rng))
    for cell in (90, 40, 18, 8, 4):
        image += (cell / 90) ** 0.75 * 0.16 * (0.9 * _noise(rng, cell) + 0.2 * _noise(rng, cell, 3))
    return image


def _leaves(rng: np.random.Generator) -> FloatArray:
    """Things over things: shaded polygons, discs and bars of all sizes."""
    image = _plain(_colour(rng))
    upright = rng.random() < 0.6
    count = int(rng.integers(40, 140))
    sizes = 120 * rng.uniform(0.03, 1, count) ** 1.6 + 3
    colours = np.clip(_colours(rng, count) * rng.uniform(0.5, 1.1, (count, 1)), 0, 1).tolist()
    centres = rng.uniform(-20, RENDER_PX + 20, (count, 2)).tolist()
    sides = (sizes[:, None] * np.exp(rng.normal(0, 0.6, (count, 2)))).tolist()
    angles = (rng.normal(0, 5, count) if upright else rng.uniform(0, 180, count)).tolist()
    uneven = rng.normal(0, 0.05, (count, 4, 2)) * sizes[:, None, None]
    for leaf in range(count):
        outline = (centres[leaf], sides[leaf], angles[leaf])
        if leaf % 10 < 3:
            cv2.ellipse(image, outline, colours[leaf], -1, cv2.LINE_AA)
        else:
            corners = cv2.boxPoints(outline) + uneven[leaf]
            cv2.fillConvexPoly(image, np.round(corners * 16).astype(np.int32), colours[leaf], cv2.LINE_AA, 4)
    return _lived_in(rng, image)


def _shelves(rng: np.random.Generator) -> FloatArray:
    """Rows of upright things, like books, bottles or cans."""
    image = _plain(_colour(rng) * 0.5)
    rows = int(rng.integers(2, 7))
    pitch = RENDER_PX * 1.5 / rows
    few = _colours(rng, int(rng.integers(2, 9)))
    board = _colour(rng).tolist()
    for row in range(rows):
        x, floor = -70.0, -60 + (row + 1) * pitch
        while x < RENDER_PX + 70:
            width, height = pitch * rng.uniform((0.1, 0.5), (0.55, 0.9))
            shade = few[int(rng.integers(len(few)))] * rng.uniform(0.6, 1.1)
            for part, gain in ((1.0, 0.75), (0.55, 1.0), (0.2, 1.25)):  # rounder than a flat rectangle
                half = part * width / 2
                top_left = (int(x + width / 2 - half), int(floor - height))
                bottom_right = (int(x + width / 2 + half), int(floor))
                cv2.rectangle(image, top_left, bottom_right, np.clip(shade * gain, 0, 1).tolist(), -1)
            x += width * rng.uniform(1, 1.3)
        cv2.line(image, (-9, int(floor)), (999, int(floor)), board, int(rng.integers(1, 8)))
    middle = (RENDER_PX / 2, RENDER_PX / 2)
    turn = cv2.getRotationMatrix2D(middle, float(rng.normal(0, 12)), float(rng.uniform(1.2, 2)))
    turned = cv2.warpAffine(image, turn, (RENDER_PX, RENDER_PX), borderMode=cv2.BORDER_REFLECT)
    return _lived_in(rng, np.asarray(turned, np.float32))


def _texture(rng: np.random.Generator) -> FloatArray:
    """Weave, grain or dirt: weak noise, often drawn out in one direction."""
    image = _noise(rng, float(rng.uniform(1.5, 12)))
    if rng.random() < 0.4:
        drawn_out = cv2.blur(image, (1, 31) if rng.random() < 0.5 else (31, 1))
        image = np.asarray(3 * drawn_out, np.float32)[..., None]
    return np.asarray(image * rng.gamma(1.0, 0.012))


def _lived_in(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Uneven light and a little texture over flat drawing."""
    light = 1 + rng.uniform(0.1, 0.8) * _ramp(rng) + 0.08 * _noise(rng, 60)
    return np.asarray(image * light + _texture(rng))


_DRAWERS: tuple[Drawer, ...] = (_wall, _clouds, _leaves, _shelves)
_DRAWER_SHARES = (0.2, 0.15, 0.4, 0.25)


def plain_background(rng: np.random.Generator) -> FloatArray:
    """One colour, as linear light."""
    return np.full((RENDER_PX, RENDER_PX, 3), to_linear(rng.uniform(0.08, 0.92, 3)), np.float32)


def linear_background(rng: np.random.Generator, photos: tuple[Path, ...]) -> FloatArray:
    """`random_background` as linear light, darker or brighter than the hand's by chance."""
    return np.asarray(to_linear(random_background(rng, photos)) * np.exp(rng.normal(0, 0.25)), np.float32)
