"""One view of a rendered hand that never was before: its light, its background, what lies around it, the camera.

Geometry first: layers are warped to the crop, and everything else happens at the crop's size.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.config import AugmentConfig
from cliphand.data.layers.backdrop import between, draw_backdrop, mean_light, picture_part
from cliphand.data.layers.light_mix import TO_LINEAR, draw_gains, mix_lights, to_linear
from cliphand.data.layers.occlude import draw_thing
from cliphand.data.layers.scenery import Scenery
from cliphand.data.layers.sensor import develop, mix_spectrum, streak
from cliphand.data.layers.store import LAYER_PX, Layers

NEXT_HAND_SHARE = (0.0, 0.22)  # at difficulty 0 and 1; so for all shares here
THING_SHARE, SHADOW_SHARE = (0.0, 0.3), (0.0, 0.35)
MOTION_SHARE, SPECTRUM_SHARE = (0.0, 0.15), (0.0, 0.3)
RECOLOURED_SHARE = (0.0, 0.7)  # of cloth and things in the layers
NEARER_SHARE = 0.35  # of other hands; the rest is behind
MOST_SPECTRUM = 0.4  # of another picture's amplitudes
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
    """Layers in a crop: linear light times coverage (S, S, 3), coverage (S, S, 1), both float32; hand (S, S) uint8."""

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

    def happens(share: tuple[float, float]) -> bool:
        return bool(rng.random() < between(share, difficulty))

    backdrop = draw_backdrop(rng, scenery, side_px=side_px, difficulty=difficulty)
    gains = draw_gains(rng, mean_light(backdrop, TO_LINEAR), difficulty)
    hand = _front(rng, layers, matrix, gains, side_px=side_px, difficulty=difficulty)
    scene, seen, nearer = to_linear(backdrop), hand.hand, None
    if happens(NEXT_HAND_SHARE):
        placed = _next_hand(rng, layers, matrix, scenery, side_px)
        other = _front(rng, *placed, gains, side_px=side_px, difficulty=difficulty)
        if rng.random() < NEARER_SHARE and _left(seen, other.cover) >= LEAST_SEEN:
            nearer = other
        else:
            scene = _over(scene, other)
    if happens(SHADOW_SHARE):
        scene = _shadowed(rng, scene, hand.cover)
    scene = _over(scene, _moving(rng, hand) if happens(MOTION_SHARE) else hand)
    if nearer is not None:
        scene, seen = _over(scene, nearer), _hidden(seen, nearer.cover)
    if happens(THING_SHARE):
        scene, seen = _with_thing(rng, scene, seen, scenery, hand.hand)
    crop = develop(rng, scene, config)
    if happens(SPECTRUM_SHARE):
        other_picture = picture_part(rng, scenery.picture(rng), side_px=side_px)
        crop = mix_spectrum(crop, other_picture, float(rng.uniform(0, MOST_SPECTRUM)))
    return Composition(np.ascontiguousarray(crop), seen)


def _moving(rng: np.random.Generator, front: _Front) -> _Front:
    """The front as a camera sees it that keeps its shutter open; labels stay where the middle of the streak is."""
    kernel = streak(rng, LONGEST_STREAK * len(front.hand))
    light, cover = (np.asarray(cv2.filter2D(image, -1, kernel), np.float32) for image in (front.light, front.cover))
    return _Front(light, cover[..., None], front.hand)


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
        tint = np.exp(rng.normal(0, 0.35) + rng.normal(0, 0.3, 3)).astype(np.float32) - 1
        light = light * (1 + things[..., None].astype(np.float32) * (tint / 255))
    share = full[..., None].astype(np.float32) / 255
    return _Front(light * share, share, np.asarray(hand, np.uint8))


def _warped(image: ByteArray, matrix: FloatArray, side_px: int) -> ByteArray:
    """(side_px, side_px, ...) of a layer, whose forearm goes on beyond its edge."""
    while abs(np.linalg.det(matrix[:2, :2])) < 1 / SHRINK**2:
        image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
    return np.asarray(
        cv2.warpAffine(image, matrix[:2], (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _over(scene: FloatArray, front: _Front) -> FloatArray:
    """The front over the scene."""
    return np.asarray(scene * (1 - front.cover) + front.light)


def _hidden(hand: ByteArray, cover: FloatArray) -> ByteArray:
    """(S, S) uint8, what (S, S, 1) coverage leaves of the hand."""
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
    centre = centre + side_px * rng.uniform(0.25, 0.6) * np.array([np.cos(away), np.sin(away)])
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
    small = cv2.resize(cv2.warpAffine(cover, shift, (side_px, side_px)), (few, few), interpolation=cv2.INTER_AREA)
    soft = cv2.resize(cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.5, 3))), (side_px, side_px))
    return np.asarray(scene * (1 - np.float32(rng.uniform(0.15, 0.65)) * soft[..., None]))


def _with_thing(
    rng: np.random.Generator, scene: FloatArray, seen: ByteArray, scenery: Scenery, hand: ByteArray
) -> tuple[FloatArray, ByteArray]:
    """The scene behind a thing, and what is still seen of the hand; as it was where too little would be."""
    thing = draw_thing(rng, scenery, seen)
    if thing is None:
        return scene, seen
    cover = thing.cover[..., None].astype(np.float32) / 255
    left = _hidden(seen, cover)
    if left.sum(dtype=np.int64) < LEAST_SEEN * hand.sum(dtype=np.int64):
        return scene, seen
    return np.asarray(scene + cover * (to_linear(thing.colour) - scene)), left
