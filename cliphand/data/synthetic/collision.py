"""Whether a posed hand's fingers run into each other or into the palm: phalanges as capsules."""

from itertools import combinations

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.anny_source import WRIST_BONE
from cliphand.data.synthetic.rig import FINGER_BONES, Rig, bone_transforms

PALM_RADIUS_M = 0.0085
TOUCH = 0.76  # skin yields: capsules may overlap until they are this share of their radii apart
FINGER, PHALANX = np.divmod(np.arange(15), 3)


def _tested_pairs() -> list[tuple[int, int]]:
    """Pairs of the 15 phalanges and 4 metacarpals (15 to 18) that can meet."""
    pairs = []
    for a, b in combinations(range(15), 2):
        base_to_base = PHALANX[a] == 0 and PHALANX[b] == 0  # neighbours at the base always touch
        same = FINGER[a] == FINGER[b]
        if not base_to_base and not same and (FINGER[a] > 0 or PHALANX[a] > 0):
            pairs.append((a, b))
    pairs += [
        (a, 15 + m) for a in range(15) for m in range(4) if PHALANX[a] == 2 or (FINGER[a] == 0 and PHALANX[a] > 0)
    ]
    return [(a, b) for a, b in pairs if (a, b) not in ((1, 15), (2, 15))]


PAIRS = np.array(_tested_pairs())


def penetrates(rig: Rig, heads: FloatArray, rotations: FloatArray) -> bool:
    """True where two capsules overlap further than skin yields."""
    start, end = capsules(rig, heads, rotations)
    radius = np.concatenate([rig.radius.ravel(), np.full(4, PALM_RADIUS_M)])
    a, b = PAIRS.T
    gap = segment_distance(start[a], end[a], start[b], end[b])
    return bool((gap < TOUCH * (radius[a] + radius[b])).any())


def capsules(rig: Rig, heads: FloatArray, rotations: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ends of the 15 phalanges and 4 metacarpals, each (19, 3); a last phalanx ends short of the fingertip."""
    full, offset, posed = bone_transforms(rig, heads, rotations)
    joints = posed[FINGER_BONES]  # (5, 3, 3)
    last = FINGER_BONES[:, 2]
    inside = rig.vertices[rig.tips] + heads[last] - rig.heads[last] - rig.axes[:, 2] * rig.radius[:, 2:]
    tips = np.einsum("fij,fj->fi", full[last], inside) + offset[last]
    ends = np.concatenate([joints[:, 1:], tips[:, None]], axis=1)
    knuckles = joints[1:, 0]
    wrist = posed[WRIST_BONE] + 0.25 * (knuckles - posed[WRIST_BONE])
    return np.concatenate([joints.reshape(-1, 3), wrist]), np.concatenate([ends.reshape(-1, 3), knuckles])


def segment_distance(p0: FloatArray, p1: FloatArray, q0: FloatArray, q1: FloatArray) -> FloatArray:
    """Smallest distance between segments p and q, (N,) for (N, 3) ends.

    Source: Ericson 2005, Real-time collision detection, section 5.1.9.
    """
    d1, d2, r = p1 - p0, q1 - q0, p0 - q0
    a, e = (d1 * d1).sum(-1), (d2 * d2).sum(-1)
    b, c, f = (d1 * d2).sum(-1), (d1 * r).sum(-1), (d2 * r).sum(-1)
    s = np.clip((b * f - c * e) / np.maximum(a * e - b * b, 1e-12), 0, 1)
    t = (b * s + f) / e
    s = np.where(t < 0, np.clip(-c / a, 0, 1), np.where(t > 1, np.clip((b - c) / a, 0, 1), s))
    t = np.clip(t, 0, 1)
    gap = (p0 + s[:, None] * d1) - (q0 + t[:, None] * d2)
    return np.asarray(np.sqrt((gap * gap).sum(-1)))
