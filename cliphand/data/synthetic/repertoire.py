"""What hands do, as families of poses: counting, pinching, grasping, resting, signs; each with its own chance.

Every family composes fingers from states, so that combinations without a name are met as well: any subset of fingers
straight, any finger on the thumb, any opening of a grasp.
"""

from collections.abc import Callable

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.gestures import FINGER, GESTURES, SPREAD_DEG, THUMB, HandAngles, gesture

Family = Callable[[np.random.Generator], HandAngles]
FINGERS = 4
# Where the thumb's pad meets a finger's, index to little: thumb CMC, MCP and IP flexion, palmar abduction, twist, then
# the finger's MCP, PIP and DIP; of a curled and of a flat finger, found by least squares on the mean hand.
_CURLED = np.array(
    [
        (35, 4, -10, -27, 2, 0, 75, 52),
        (42, 2, -10, -30, 34, 17, 76, 55),
        (42, 32, -10, -30, 9, 12, 83, 55),
        (43, 41, 2, 14, 19, 59, 48, 28),
    ],
    float,
)
_FLAT = np.array(
    [
        (39, 10, 8, 13, 5, 85, 14, 8),
        (42, 16, 8, 28, 5, 85, 25, 11),
        (43, 24, 8, 32, 24, 85, 26, 15),
        (43, 40, 8, 32, 22, 85, 23, 10),
    ],
    float,
)


def draw_repertoire(rng: np.random.Generator) -> HandAngles:
    """Draw a pose of some family, with noise on every joint; limits are the caller's."""
    return jittered(rng, _FAMILIES[rng.choice(len(_FAMILIES), p=_SHARES)](rng))


def jittered(rng: np.random.Generator, angles: HandAngles) -> HandAngles:
    """Noise on every joint, in part common to all fingers; a DIP follows its PIP."""
    common = rng.normal(0, 5)
    noise = rng.normal(0, 6, (5, 3)) + common
    noise[1:, 2] = 2 / 3 * noise[1:, 1] + rng.normal(0, 3, 4)
    return HandAngles(
        angles.flexion + noise,
        angles.spread + rng.normal(0, [6, 3, 2, 2.5, 3]),
        angles.twist + rng.normal(0, 4),
        angles.cup + rng.normal(0, 2, 2),
    )


def _hand(thumb: FloatArray, fingers: FloatArray, width: float) -> HandAngles:
    """A hand of thumb (CMC, MCP, IP, abduction, twist), fingers (4, 3), and a share of the widest spread."""
    spread = SPREAD_DEG * width
    spread[0] = thumb[3]
    bent = float(np.clip(fingers[2:, 0].mean() / 90, 0, 1))
    return HandAngles(np.vstack([thumb[:3], fingers]), spread, float(thumb[4]), np.array([6.0, 12.0]) * bent)


def _state(rng: np.random.Generator, *names: str) -> FloatArray:
    return np.array(FINGER[str(rng.choice(names))], float)


def _thumb(rng: np.random.Generator, *names: str) -> FloatArray:
    """One of these thumbs, sometimes on its way to another."""
    first, second = (np.array(THUMB[str(rng.choice(names))], float) for _ in range(2))
    return np.asarray(first + rng.uniform(0, 0.6) * (second - first))


def _counting(rng: np.random.Generator) -> HandAngles:
    """Any subset of fingers straight, the others folded, the thumb over them or away."""
    straight = rng.random(FINGERS) < 0.5
    if rng.random() < 0.5:  # tendons tie the ring finger to the middle one
        straight[2] = straight[1]
    folded = _state(rng, "tight", "tight", "folded", "folded", "curl", "bent", "table")
    fingers = np.stack([_state(rng, "straight", "straight", "back") if up else folded for up in straight])
    if straight.all():
        thumb = _thumb(rng, "across", "out", "beside")
    else:
        thumb = _thumb(rng, "over", "across", "oppose") if rng.random() < 0.5 else _thumb(rng, "out", "up", "beside")
    return _hand(thumb, fingers, float(rng.uniform(0, 1)))


def _pinching(rng: np.random.Generator) -> HandAngles:
    """The thumb's pad on a finger's, or on several; the others straight, loose or folded."""
    finger = int(rng.choice(FINGERS, p=[0.5, 0.25, 0.15, 0.1]))
    together = int(rng.choice([1, 2, 3], p=[0.65, 0.2, 0.15]))
    pinch = _CURLED[finger] + rng.uniform(0.2, 0.9) * (_FLAT[finger] - _CURLED[finger])
    opened = rng.uniform(0, 0.5) if rng.random() < 0.4 else 0.0
    rest = _state(rng, "straight", "loose", "loose", "curl", "folded")
    fingers = np.tile(rest, (FINGERS, 1)) * rng.uniform(0.7, 1.15, (FINGERS, 1))
    fingers[finger : finger + together] = pinch[5:] * (1 - 0.6 * opened)
    return _hand(pinch[:5], fingers, float(rng.uniform(0, 0.7)))


def _grasping(rng: np.random.Generator) -> HandAngles:
    """Fingers closed around something: from a wide claw to a fist, all alike or more towards the little finger."""
    closed = rng.uniform(0.15, 1.0)
    hooked = rng.uniform(0, 1)  # bent at the knuckles, or at the joints after them
    full = np.array([88.0, 66.0, 36.0]) + hooked * np.array([-52.0, 46.0, 30.0])
    cascade = closed + rng.normal(0, 0.12) * np.linspace(-1, 1, FINGERS) + rng.normal(0, 0.05, FINGERS)
    fingers = full * np.clip(cascade, 0, 1.1)[:, None]
    thumb = _thumb(rng, "wrap", "wrap", "oppose", "over", "relaxed", "beside")
    return _hand(thumb, fingers, float(rng.uniform(0, 0.9) * (1 - 0.5 * closed)))


def _resting(rng: np.random.Generator) -> HandAngles:
    """Loose fingers, each a little more bent than the one before."""
    bend = rng.uniform(0.2, 1.4) * (1 + np.linspace(0, rng.uniform(0, 0.9), FINGERS))
    fingers = np.array([16.0, 26.0, 14.0]) * bend[:, None]
    return _hand(_thumb(rng, "relaxed", "relaxed", "wrap", "beside", "out"), fingers, float(rng.uniform(0, 0.6)))


def _pointing(rng: np.random.Generator) -> HandAngles:
    """One or two fingers used, straight or half bent, the others out of the way: pointing, touching, typing."""
    used = int(rng.choice(FINGERS, p=[0.7, 0.15, 0.05, 0.1]))
    away = _state(rng, "tight", "folded", "curl", "bent", "loose")
    fingers = np.tile(away, (FINGERS, 1)) * rng.uniform(0.8, 1.1, (FINGERS, 1))
    lead = np.array([rng.uniform(-10, 45), rng.uniform(0, 45), 0])
    lead[2] = 0.6 * lead[1]
    fingers[used] = lead
    if used < FINGERS - 1 and rng.random() < 0.25:
        fingers[used + 1] = lead + rng.normal(0, 5)
    return _hand(_thumb(rng, "over", "relaxed", "up", "beside", "out", "across"), fingers, float(rng.uniform(0, 0.5)))


def _named(rng: np.random.Generator) -> HandAngles:
    """A gesture that has a name, sometimes on its way to another."""
    first, second = (gesture(str(rng.choice(GESTURES))) for _ in range(2))
    return first if rng.random() < 0.7 else between_hands(first, second, float(rng.uniform(0.1, 0.5)))


def between_hands(first: HandAngles, second: HandAngles, share: float) -> HandAngles:
    """`share` of the way from the first to the second."""
    return HandAngles(
        first.flexion + share * (second.flexion - first.flexion),
        first.spread + share * (second.spread - first.spread),
        first.twist + share * (second.twist - first.twist),
        first.cup + share * (second.cup - first.cup),
    )


_FAMILIES: tuple[Family, ...] = (_counting, _pinching, _grasping, _resting, _pointing, _named)
_SHARES = (0.26, 0.14, 0.24, 0.08, 0.08, 0.2)
