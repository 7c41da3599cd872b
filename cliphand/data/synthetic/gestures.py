"""Named hand shapes in degrees, as starting points that `poses` varies."""

from dataclasses import dataclass

import numpy as np

from cliphand.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class HandAngles:
    """Joint angles of a hand, in degrees.

    Attributes:
        flexion: (5, 3) thumb to little, base to tip. 0 is a finger straight in line with the palm; the thumb's
            first is measured from its relaxed position beside the palm.
        spread: (5,) towards the little finger at the fingers' base, from the closed hand; the thumb's is its
            palmar abduction.
        twist: roll of the thumb towards the fingers' pads.
        cup: (2,) flexion of the ring and little finger's metacarpals.
    """

    flexion: FloatArray
    spread: FloatArray
    twist: float
    cup: FloatArray


FINGER = {  # MCP, PIP, DIP
    "straight": (2, 4, 2),
    "loose": (18, 24, 12),
    "hook": (30, 65, 40),
    "bent": (60, 80, 50),
    "folded": (74, 95, 48),
    "tight": (76, 108, 55),
    "table": (82, 12, 8),
    "curl": (48, 58, 34),
    "back": (-15, 6, 2),
    "pinch": (48, 52, 22),
}
THUMB = {  # CMC flexion, MCP, IP, palmar abduction, twist
    "out": (-18, 0, 0, -8, 0),
    "relaxed": (4, 12, 15, 0, 4),
    "beside": (10, 8, 6, -24, 0),
    "across": (34, 46, 42, 14, 12),
    "over": (26, 40, 50, 10, 16),
    "oppose": (16, 24, 26, 24, 22),
    "up": (-16, -2, -8, -26, -4),
    "wrap": (6, 22, 30, 22, 16),
}
# Thumb, then index to little, then how far the fingers are spread (0 closed, 1 wide).
_NAMED = {
    "open": ("out", "straight straight straight straight", 0.8),
    "flat": ("beside", "straight straight straight straight", 0.05),
    "relaxed": ("relaxed", "loose loose loose loose", 0.35),
    "fist": ("over", "folded folded folded folded", 0.0),
    "point": ("over", "straight folded folded folded", 0.1),
    "pinch": ("oppose", "pinch loose loose loose", 0.3),
    "ring": ("oppose", "pinch straight straight straight", 0.5),
    "grip": ("wrap", "curl curl curl curl", 0.25),
    "thumbs up": ("up", "folded folded folded folded", 0.0),
    "victory": ("across", "straight straight folded folded", 0.8),
    "three": ("across", "straight straight straight folded", 0.7),
    "four": ("across", "straight straight straight straight", 0.6),
    "gun": ("up", "straight folded folded folded", 0.2),
    "call": ("out", "folded folded folded straight", 0.4),
    "horns": ("over", "straight folded folded straight", 0.4),
    "claw": ("wrap", "hook hook hook hook", 0.6),
    "cup": ("oppose", "bent bent bent bent", 0.1),
    "stretch": ("out", "back back back back", 1.0),
}
GESTURES = tuple(_NAMED)
SPREAD_DEG = np.array([0.0, -14.0, -2.0, 10.0, 20.0])  # of the widest hand


def gesture(name: str) -> HandAngles:
    """The angles of a named hand shape, one of GESTURES."""
    thumb, fingers, width = _NAMED[name]
    base, middle, end, abduction, twist = THUMB[thumb]
    flexion = np.array([(base, middle, end), *(FINGER[word] for word in fingers.split())], float)
    spread = SPREAD_DEG * width
    spread[0] = abduction
    bent = float(np.clip(flexion[3:, 0].mean() / 90, 0, 1))
    return HandAngles(flexion, spread, float(twist), np.array([6.0, 12.0]) * bent)
