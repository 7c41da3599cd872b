"""One view of a rendered hand that never was before: its light, its background, what lies around it, the camera.

Geometry first: layers are warped to the crop, and everything else happens at the crop's size.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cliphand.arrays import ByteArray, FloatArray
from cliphand.config import AugmentConfig
from cliphand.data.crop import resize_matrix
from cliphand.data.layers.backdrop import between, draw_backdrop, mean_light, picture_part
from cliphand.data.layers.light_mix import TO_LINEAR, draw_gains, mix_lights, to_linear
from cliphand.data.layers.occlude import draw_thing
from cliphand.data.layers.scenery import Scenery
from cliphand.data.layers.sensor import develop, mix_spectrum, streak
from cliphand.data.layers.store import LAYER_PX, Layers

NEXT_HAND_SHARE = (0.0, 0.22)  # at difficulty 0 and 1; so for all shares here
THING_SHARE, SHADOW_SHARE = (0.0, 0.3), (0.0, 0.35)
MOTION_SHARE, SPECTRUM_SHARE, FRAME_SHARE = (0.0, 0.15), (0.0, 0.2), (0.05, 0.25)
RECOLOURED_SHARE = (0.0, 0.7)  # of cloth and things in the layers
NEARER_SHARE = 0.35  # of other hands; the rest is behind
APART = (0.33, 0.7)  # of the crop's side, from the middle of one hand to that of the other
MOST_SPECTRUM = 0.4  # of another picture's amplitudes
WIDEST_FRAME = 0.16  # of the crop's side
LONGEST_STREAK = 0.06  # of the crop's side
LEAST_SEEN = 0.5  # of the hand that must stay visible
SHRINK = 1.6  # layers that shrink by more are halved first, so that no pixel is skipped


@dataclass(frozen=True, slots=True, eq=False)
class Composition:
    """A finished crop.

    Attributes:
        crop: (S, S, 3) uint8 sRGB.
        seen: (S, S) uint8, share of each pixel that shows the hand.
    """

    crop: ByteArray
    seen: ByteArray


@dataclass(frozen=True, slots=True, eq=False)
class _Front:
    """Layers in a crop: linear light times coverage, coverage, both (S, S, 3) float32; hand (S, S) uint8."""

    light: FloatArray
    cover: FloatArray
    hand: ByteArray


def compose(
    rng: np.random.Generator,
    layers: Layers,
    matrix: FloatArray,
    *,
    side_px: int,
    scenery: Scenery,
    config: AugmentConfig,
) -> Composition:
    """Make a view of layers.

    Args:
        rng: the only source of chance.
        layers: the hand.
        matrix: (3, 3) layer pixels to crop pixels.
        side_px: of the crop.
        scenery: what the rest is made from.
        config: the bounds of colour, blur and noise, and the difficulty.
    """
    difficulty = config.difficulty
    backdrop = draw_backdrop(rng, scenery, side_px=side_px, difficulty=difficulty)
    gains = draw_gains(rng, mean_light(backdrop, TO_LINEAR), difficulty)
    hand = _front(rng, layers, matrix, gains, side_px=side_px, difficulty=difficulty)
    scene, seen, nearer = to_linear(backdrop), hand.hand, None
    if _happens(rng, NEXT_HAND_SHARE, difficulty):
        placed = _next_hand(rng, layers, matrix, scenery, side_px)
        other = _front(rng, *placed, gains, side_px=side_px, difficulty=difficulty)
        if rng.random() < NEARER_SHARE and _left(seen, other.cover) >= LEAST_SEEN:
            nearer = other
        else:
            scene = _over(scene, other)
    if _happens(rng, SHADOW_SHARE, difficulty):
        scene = _shadowed(rng, scene, hand.cover)
    scene = _over(scene, _moving(rng, hand) if _happens(rng, MOTION_SHARE, difficulty) else hand)
    if nearer is not None:
        scene, seen = _over(scene, nearer), _hidden(seen, nearer.cover)
    if _happens(rng, THING_SHARE, difficulty):
        scene, seen = _with_thing(rng, scene, seen, scenery, hand.hand)
    return _photographed(rng, scene, seen, scenery, config)


def _happens(rng: np.random.Generator, share: tuple[float, float], difficulty: float) -> bool:
    return bool(rng.random() < between(share, difficulty))


def _photographed(
    rng: np.random.Generator, scene: FloatArray, seen: ByteArray, scenery: Scenery, config: AugmentConfig
) -> Composition:
    """What a camera makes of the finished scene."""
    side_px, difficulty = len(scene), config.difficulty
    crop = develop(rng, scene, config)
    if _happens(rng, SPECTRUM_SHARE, difficulty):
        other_picture = picture_part(rng, scenery.picture(rng), side_px=side_px)
        crop = mix_spectrum(crop, other_picture, float(rng.uniform(0, MOST_SPECTRUM)))
    if _happens(rng, FRAME_SHARE, difficulty):
        crop, seen = _framed(rng, crop, seen)
    return Composition(np.ascontiguousarray(crop), seen)


def _moving(rng: np.random.Generator, front: _Front) -> _Front:
    """The front as a camera sees it that keeps its shutter open; labels stay where the middle of the streak is."""
    kernel = streak(rng, LONGEST_STREAK * len(front.hand))
    light, cover = (np.asarray(cv2.filter2D(image, -1, kernel), np.float32) for image in (front.light, front.cover))
    return _Front(light, cover, front.hand)


def _front(
    rng: np.random.Generator,
    layers: Layers,
    matrix: FloatArray,
    gains: FloatArray,
    *,
    side_px: int,
    difficulty: float,
) -> _Front:
    """Layers in the crop, lit."""
    lit = [number for number, gain in enumerate(gains) if gain.any()]
    light = mix_lights([_warped(layers.lights[number], matrix, side_px) for number in lit], gains[lit])
    cover = _warped(layers.cover, matrix, side_px)
    full, hand, things = cv2.split(cover)
    if rng.random() < between(RECOLOURED_SHARE, difficulty):
        tint = np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.3, 3)).astype(np.float32)
        if np.any(things):
            light *= 1 + _thrice(things) * (tint - 1)
    share = _thrice(full)
    return _Front(light * share, share, np.asarray(hand, np.uint8))


def _thrice(share: npt.ArrayLike) -> FloatArray:
    """(S, S) uint8 as (S, S, 3) float32 in [0, 1]: arrays of one shape are multiplied faster than NumPy broadcasts."""
    plane = np.multiply(share, np.float32(1 / 255), dtype=np.float32)
    return np.asarray(cv2.merge((plane, plane, plane)))


def _warped(image: ByteArray, matrix: FloatArray, side_px: int) -> ByteArray:
    """(side_px, side_px, ...) of a layer, whose forearm goes on beyond its edge."""
    while abs(np.linalg.det(matrix[:2, :2])) < 1 / SHRINK**2:
        image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ resize_matrix(1, 2)
    return np.asarray(
        cv2.warpAffine(image, matrix[:2], (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _over(scene: FloatArray, front: _Front) -> FloatArray:
    """The front over the scene."""
    return np.asarray(scene * (1 - front.cover) + front.light)


def _hidden(hand: ByteArray, cover: FloatArray) -> ByteArray:
    """(S, S) uint8, what (S, S, 3) coverage leaves of the hand."""
    return (hand * (1 - cover[..., 0]) + 0.5).astype(np.uint8)


def _left(hand: ByteArray, cover: FloatArray) -> float:
    """Share of the hand that coverage leaves."""
    return float(_hidden(hand, cover).sum(dtype=np.int64) / max(hand.sum(dtype=np.int64), 1))


def _next_hand(
    rng: np.random.Generator, layers: Layers, matrix: FloatArray, scenery: Scenery, side_px: int
) -> tuple[Layers, FloatArray]:
    """Another hand of the set, or this one's mirror image, and where it goes: beside this one, or behind."""
    other = layers if rng.random() < 0.4 else scenery.another(rng)
    size = np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) * rng.uniform(0.7, 1.3)
    angle = rng.uniform(0, 2 * np.pi)
    linear = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear[:, 0] *= -1 if rng.random() < 0.8 else 1  # a person's other hand is a left one
    middle = (LAYER_PX - 1) / 2
    centre = matrix[:2] @ (middle, middle, 1)
    away = rng.uniform(0, 2 * np.pi)
    centre = centre + side_px * rng.uniform(*APART) * np.array([np.cos(away), np.sin(away)])
    placed = np.eye(3)
    placed[:2, :2] = linear
    placed[:2, 2] = centre - linear @ (middle, middle)
    return other, placed


def _shadowed(rng: np.random.Generator, scene: FloatArray, cover: FloatArray) -> FloatArray:
    """The hand's soft shadow on what lies behind it."""
    side_px = len(scene)
    shift = np.array([[1, 0, 0], [0, 1, 0]], float)
    shift[:, 2] = rng.normal(0, 0.06, 2) * side_px
    few = max(side_px // 4, 1)
    small = cv2.resize(
        cv2.warpAffine(cv2.extractChannel(cover, 0), shift, (side_px, side_px)),
        (few, few),
        interpolation=cv2.INTER_AREA,
    )
    soft = cv2.resize(cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.5, 3))), (side_px, side_px))
    light = 1 - np.float32(rng.uniform(0.15, 0.65)) * soft
    return np.asarray(scene * cv2.merge((light, light, light)))


def _with_thing(
    rng: np.random.Generator, scene: FloatArray, seen: ByteArray, scenery: Scenery, hand: ByteArray
) -> tuple[FloatArray, ByteArray]:
    """The scene behind a thing, and what is still seen of the hand; as it was where too little would be."""
    thing = draw_thing(rng, scenery, seen)
    if thing is None:
        return scene, seen
    cover = _thrice(thing.cover)
    left = _hidden(seen, cover)
    if left.sum(dtype=np.int64) < LEAST_SEEN * hand.sum(dtype=np.int64):
        return scene, seen
    return np.asarray(scene + cover * (to_linear(thing.colour) - scene)), left


def _framed(rng: np.random.Generator, crop: ByteArray, seen: ByteArray) -> tuple[ByteArray, ByteArray]:
    """Black on some sides, as where a box leaves its photograph."""
    side_px = len(crop)
    widths = WIDEST_FRAME * side_px * rng.random(4) * (rng.random(4) < 0.5)
    top, left, bottom, right = widths.astype(int).tolist()
    inside = np.zeros((side_px, side_px), np.uint8)
    inside[top : side_px - bottom, left : side_px - right] = 1
    return crop * inside[..., None], seen * inside
