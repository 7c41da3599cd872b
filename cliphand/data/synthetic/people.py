"""People behind hands, drawn: a head, a neck and a torso or an arm, whose skin may have the colour of the hand's."""

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.data.synthetic.palette import skin_tone, thing_colours, to_srgb

FIXED_BITS = 4
HAIR_SRGB = np.array([(28, 22, 20), (52, 36, 26), (92, 62, 38), (168, 130, 82), (150, 148, 146), (110, 44, 28)])


def draw_person(rng: np.random.Generator, picture: ByteArray) -> ByteArray:
    """A person in front of a picture (S, S, 3) uint8 RGB, whole or in part, sharp or not."""
    side = len(picture)
    canvas = picture.copy()
    size = side * rng.uniform(0.12, 0.42)  # half the head's height
    head = np.array([rng.uniform(0.1, 0.9), rng.uniform(-0.1, 0.7)]) * side
    tone = skin_tone(float(rng.uniform(0, 1))) * np.exp(rng.normal(0, 0.06, 3))
    skin = 255 * to_srgb(tone * rng.uniform(0.6, 1.1))
    cloth = 255 * to_srgb(thing_colours(rng, 1)[0])
    lean = rng.normal(0, 12)
    down = np.array([0, size])
    _limb(canvas, head + 0.8 * down, head + 1.6 * down, 0.42 * size, 0.9 * skin)
    _torso(rng, canvas, head + 1.5 * down, size, cloth)
    if rng.random() < 0.85:
        _head(rng, canvas, head, size, lean, skin)
    for _ in range(int(rng.integers(0, 3))):  # arms: upper arm in a sleeve, forearm bare or not
        shoulder = head + size * np.array([rng.choice([-1.3, 1.3]), 2.0])
        elbow = shoulder + size * rng.normal(0, 1.0, 2) + 0.8 * down
        wrist = elbow + size * rng.normal(0, 1.0, 2) - 0.4 * down
        _limb(canvas, elbow, wrist, 0.28 * size, skin * rng.uniform(0.8, 1.1) if rng.random() < 0.7 else cloth)
        _limb(canvas, shoulder, elbow, 0.4 * size, cloth * rng.uniform(0.8, 1.1))
    shaded = _shaded(rng, canvas, picture)
    return np.asarray(cv2.GaussianBlur(shaded, (0, 0), float(rng.uniform(0.6, 2.5))), np.uint8)


def _colour(srgb: FloatArray) -> tuple[float, ...]:
    return tuple(np.clip(srgb, 0, 255).tolist())


def _fixed(point: FloatArray) -> tuple[int, int]:
    x, y = np.round(np.asarray(point) * 2**FIXED_BITS).astype(int).tolist()
    return x, y


def _limb(canvas: ByteArray, start: FloatArray, end: FloatArray, half: float, srgb: FloatArray) -> None:
    """A rounded bar, darker along its edges."""
    for part, gain in ((1.0, 0.75), (0.7, 0.95), (0.35, 1.06)):
        width = max(round(2 * half * part), 1)
        cv2.line(canvas, _fixed(start), _fixed(end), _colour(srgb * gain), width, cv2.LINE_AA, FIXED_BITS)


def _ellipse(
    canvas: ByteArray, centre: FloatArray, half: tuple[float, float], angle: float, srgb: FloatArray, span: float = 360
) -> None:
    axes = _fixed(np.array(half))
    cv2.ellipse(canvas, _fixed(centre), axes, angle, 0, span, _colour(srgb), -1, cv2.LINE_AA, FIXED_BITS)


def _torso(rng: np.random.Generator, canvas: ByteArray, neck: FloatArray, size: float, srgb: FloatArray) -> None:
    """Shoulders and what hangs from them, with a few folds."""
    wide = size * rng.uniform(1.5, 2.1)
    outline = [(-0.3, -0.1), (0.3, -0.1), (1, 0.35), (1.05, 4), (-1.05, 4), (-1, 0.35)]
    points = neck + np.array(outline) * [wide, size]
    cv2.fillPoly(canvas, [np.round(points * 2**FIXED_BITS).astype(np.int32)], _colour(srgb), cv2.LINE_AA, FIXED_BITS)
    for _ in range(int(rng.integers(2, 9))):
        start = neck + np.array([rng.uniform(-0.9, 0.9) * wide, rng.uniform(0.3, 3) * size])
        fold = srgb * rng.uniform(0.75, 1.12)
        _limb(canvas, start, start + size * rng.normal(0, 0.5, 2), 0.04 * size, fold)


def _head(
    rng: np.random.Generator, canvas: ByteArray, centre: FloatArray, size: float, lean: float, skin: FloatArray
) -> None:
    """Hair, a face with eyes, brows, nose, mouth and ears; now and then the back of the head."""
    hair = HAIR_SRGB[rng.integers(len(HAIR_SRGB))] * rng.uniform(0.7, 1.2)
    turn = np.radians(lean)
    frame = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wide = 0.76 * size

    def at(x: float, y: float) -> FloatArray:
        return np.asarray(centre + frame @ (np.array([x, y]) * size))

    long = rng.uniform(0.95, 1.3)
    _ellipse(canvas, at(0, -0.12 * long), (wide * 1.1, size * long), lean, hair)
    if rng.random() < 0.2:
        return
    look = float(rng.normal(0, 0.15))  # the face turned to a side
    for side in (-1, 1):
        _ellipse(canvas, at(0.76 * side, 0.05), (0.1 * size, 0.2 * size), lean, 0.85 * skin)
    _ellipse(canvas, at(0.3 * look, 0.05), (wide, 0.95 * size), lean, 0.88 * skin)
    _ellipse(canvas, at(0.5 * look, 0.02), (0.88 * wide, 0.86 * size), lean, skin)
    _ellipse(canvas, at(0.3 * look, -0.62), (0.8 * wide, 0.34 * size), lean, hair if rng.random() < 0.8 else skin)
    for side in (-1, 1):
        _ellipse(canvas, at(0.33 * side + look, -0.22), (0.16 * size, 0.035 * size), lean, 0.7 * hair)
        _ellipse(canvas, at(0.32 * side + look, -0.06), (0.13 * size, 0.06 * size), lean, np.full(3, 215.0))
        _ellipse(canvas, at(0.32 * side + look, -0.06), (0.055 * size, 0.06 * size), lean, np.array([50.0, 35, 28]))
        _ellipse(canvas, at(0.45 * side + look, 0.3), (0.2 * size, 0.15 * size), lean, skin * [1.05, 0.95, 0.94])
    _limb(canvas, at(look, -0.05), at(1.15 * look, 0.25), 0.07 * size, 1.06 * skin)
    _ellipse(canvas, at(1.15 * look, 0.28), (0.12 * size, 0.06 * size), lean, 0.8 * skin)
    _ellipse(canvas, at(look, 0.52), (0.24 * size, 0.06 * size), lean, skin * [0.85, 0.55, 0.55])


def _shaded(rng: np.random.Generator, canvas: ByteArray, picture: ByteArray) -> ByteArray:
    """Light from a side and a little texture on what was drawn."""
    side = len(canvas)
    drawn = (canvas != picture).any(axis=2)
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-0.5, 0.5, side)
    ramp = np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]
    grain = rng.normal(0, 1, (side // 6, side // 6)).astype(np.float32)
    texture = cv2.resize(grain, (side, side)) + cv2.resize(grain[:9, :9], (side, side))
    shade = 1 + rng.uniform(0.1, 0.8) * ramp + 0.04 * texture
    lit = np.clip(canvas * shade[..., None], 0, 255).astype(np.uint8)
    return np.where(drawn[..., None], lit, picture)
