"""Things before the hand: a bar, a box, a blob, or an edge that reaches in from a side, cut out of a picture."""

from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.data.layers.backdrop import picture_part
from cliphand.data.layers.scenery import Scenery

KINDS = ("bar", "box", "blob", "edge")
KIND_SHARES = (0.4, 0.2, 0.3, 0.1)
CUT_OUT_SHARE, CUT_OUT_SIZE = 0.5, 1.6  # of things, where the set has some; over the size of an outline
FIXED_BITS = 4  # of a sixteenth of a pixel


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """A flat thing: coverage (S, S) uint8 and colour (S, S, 3) uint8 sRGB."""

    cover: ByteArray
    colour: ByteArray


def draw_thing(rng: np.random.Generator, scenery: Scenery, hand: ByteArray) -> Thing | None:
    """Draw a thing somewhere over the hand; None where there is no hand.

    Args:
        rng: the only source of chance.
        scenery: whose pictures give it its colours.
        hand: (S, S) uint8 coverage by the hand.
    """
    side_px = len(hand)
    pixels = np.flatnonzero(hand > 127)
    if not len(pixels):
        return None
    row, column = divmod(int(pixels[rng.integers(len(pixels))]), side_px)
    size = np.sqrt(len(pixels)) * rng.uniform(0.25, 0.8)
    angle = rng.uniform(0, 2 * np.pi)
    if scenery.things and rng.random() < CUT_OUT_SHARE:
        return _cut_out(rng, scenery.thing(rng), (column, row), CUT_OUT_SIZE * size, side_px=side_px)
    outline = _outline(rng, str(rng.choice(KINDS, p=KIND_SHARES)), size, side_px)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array([column, row]) + outline @ turn.T
    cover = np.zeros((side_px, side_px), np.uint8)
    cv2.fillPoly(cover, [np.round(points * 2**FIXED_BITS).astype(np.int32)], 255, cv2.LINE_AA, FIXED_BITS)
    return Thing(cover, _coloured(rng, scenery, side_px, angle))


def _cut_out(rng: np.random.Generator, thing: ByteArray, place: tuple[int, int], size: float, *, side_px: int) -> Thing:
    """A thing of a picture, turned any way, `size` pixels long, somewhere around `place`."""
    height, width = thing.shape[:2]
    angle, zoom = rng.uniform(0, 2 * np.pi), size / max(height, width)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear[:, 0] *= rng.choice([-1, 1])
    within = np.array([width, height]) * rng.uniform(0.2, 0.8, 2)
    matrix = np.column_stack([linear, np.array(place) - linear @ within])
    placed = cv2.warpAffine(thing, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR)
    return Thing(np.ascontiguousarray(placed[..., 3]), np.ascontiguousarray(placed[..., :3]))


def _outline(rng: np.random.Generator, kind: str, size: float, side_px: int) -> FloatArray:
    """(N, 2) around the origin, of about this size in pixels."""
    if kind == "bar":
        half = np.array([1.5 * side_px, size * rng.uniform(0.12, 0.35)])
        start = -side_px * rng.choice([1.5, rng.uniform(0.05, 0.4)])
        return np.array([(start, -half[1]), (half[0], -half[1]), (half[0], half[1]), (start, half[1])])
    if kind == "box":
        half = size * rng.uniform(0.25, 0.6, 2)
        return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half + rng.normal(0, 0.06 * size, (4, 2))
    if kind == "edge":
        near = size * rng.uniform(0.0, 0.5)
        far = 3.0 * side_px
        return np.array([(near, -far), (far, -far), (far, far), (near, far)])
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = np.full(24, 0.45)
    for wave in (2, 3, 4):
        radius += rng.normal(0, 0.2 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return np.asarray(size * np.clip(radius, 0.1, 1)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def _coloured(rng: np.random.Generator, scenery: Scenery, side_px: int, angle: float) -> ByteArray:
    """A picture's part, or one of its colours, rounded by shade across the thing."""
    part = picture_part(rng, scenery.picture(rng), side_px=side_px)
    if rng.random() < 0.5:
        flat = part.reshape(-1, 3)[rng.integers(side_px * side_px)].astype(np.float32)
        part = np.asarray(cv2.convertScaleAbs(part, alpha=0.15) + (0.85 * flat).astype(np.uint8), np.uint8)
    axis = np.arange(side_px, dtype=np.float32)
    phase = np.float32(rng.uniform(0.05, 0.2)) * (-np.sin(angle) * axis[None] + np.cos(angle) * axis[:, None])
    shade = (1 + rng.uniform(0, 0.3) * np.sin(phase + rng.uniform(0, 6))).astype(np.float32)
    return np.asarray(cv2.multiply(part, cv2.merge((shade, shade, shade)), dtype=cv2.CV_8U))
