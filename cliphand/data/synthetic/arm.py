"""The forearm behind the wrist, a sleeve or a band around it: tubes swept from the hand's rim."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.mesh import unit

RING_M = np.array([0.005, 0.011, 0.018, 0.026, 0.036, 0.05, 0.07, 0.1, 0.14, 0.2, 0.32, 0.6])  # from the rim
THICKEST_M = 0.26
STRAIGHT_M = 0.045  # the wrist bends over this length
WRIST_DEG = (26.0, 10.0)  # standard deviation of flexion and deviation
WRIST_LIMIT_DEG = (60.0, 25.0)
WRIST_GROWTH = 1.06  # of the wrist's outline behind the rim
ELBOW_RADII_M = (0.041, 0.037)  # half width and half depth below the elbow


@dataclass(frozen=True, slots=True)
class Arm:
    """The forearm of one image, in the hand frame.

    Attributes:
        rings: (R, 40, 3) metres, posed; the first follows the rim.
        straight: (R, 40, 3) the same before the wrist bends, for texture.
        axis: (R, 3) middle of each ring; outwards: (R, 40, 3) unit vectors away from it.
    """

    rings: FloatArray
    straight: FloatArray
    axis: FloatArray
    outwards: FloatArray


def random_arm(rng: np.random.Generator, rim: FloatArray) -> Arm:
    """Sweep a tapered tube from the rim, bent at the wrist.

    Args:
        rng: source of randomness.
        rim: (40, 3) the hand's rim in order, metres, hand frame.
    """
    bend = np.clip(rng.normal(0, WRIST_DEG), -np.array(WRIST_LIMIT_DEG), WRIST_LIMIT_DEG)
    thickness = float(np.clip(rng.normal(1.0, 0.08), 0.82, 1.2))
    centre = rim.mean(axis=0)
    offsets = rim - centre
    angle = np.arctan2(offsets[:, 2], offsets[:, 0])
    along = RING_M[:, None]
    reach = np.clip(RING_M / THICKEST_M, 0, 1)[:, None] ** 1.1
    wrist = WRIST_GROWTH * np.abs(offsets[:, [0, 2]]).max(axis=0)
    half = wrist * (1 - reach) + np.array(ELBOW_RADII_M) * reach * thickness  # (R, 2)
    ellipse = np.stack([np.cos(angle) * half[:, :1], np.zeros_like(angle + along), np.sin(angle) * half[:, 1:]], -1)
    fade = np.exp(-((along / 0.03) ** 2))[..., None]  # the rim's own outline gives way to an ellipse
    section = fade * offsets + (1 - fade) * ellipse
    straight = centre + section - np.array([0, 1.0, 0]) * along[..., None]
    share = np.clip(RING_M / STRAIGHT_M, 0, 1)
    share = share * share * (3 - 2 * share)
    turns = Rotation.from_rotvec(share[:, None] * np.radians([bend[0], 0, bend[1]])).as_matrix()
    steps = np.diff(RING_M, prepend=0)[:, None] * -turns[:, :, 1]
    axis = centre + np.cumsum(steps, axis=0)
    turned = np.einsum("rij,rkj->rki", turns, section)
    middle = turned.mean(axis=1, keepdims=True)
    return Arm(axis[:, None] + turned, straight, axis, unit(turned - middle))


def tube_faces(n_rings: int, around: int, *, first: IntArray | None = None) -> IntArray:
    """Triangles between rings of `around` vertices, outside facing out.

    Args:
        n_rings: rings whose vertices are numbered from 0, ring by ring.
        around: vertices of a ring.
        first: (around,) vertices of a ring before the first, where the tube is welded on.
    """
    index = np.arange(n_rings * around).reshape(n_rings, around)
    if first is not None:
        index = np.concatenate([first[None], index])
    a, b = index[:-1], index[1:]
    next_a, next_b = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    first_half, second_half = np.stack([a, b, next_a], axis=-1), np.stack([next_a, b, next_b], axis=-1)
    return np.concatenate([first_half.reshape(-1, 3), second_half.reshape(-1, 3)])


def cover(arm: Arm, *, start_m: float, end_m: float, gap_m: float, ripple: FloatArray) -> FloatArray:
    """A sleeve or band: rings around the arm, the first folded in to the skin.

    Args:
        arm: the forearm.
        start_m: where it begins, from the rim.
        end_m: where it ends.
        gap_m: from skin to cloth.
        ripple: (S, 40) metres added to the gap.

    Returns:
        (S + 1, 40, 3) metres, hand frame.
    """
    where = np.linspace(start_m, end_m, len(ripple))
    rings = _between(arm.rings, where)
    outwards = unit(_between(arm.outwards, where))
    cloth = rings + outwards * (gap_m + ripple)[..., None]
    return np.concatenate([rings[:1], cloth])


def _between(values: FloatArray, where: FloatArray) -> FloatArray:
    """Rings (S, 40, 3) interpolated at distances `where` from the rim."""
    position = np.interp(where, RING_M, np.arange(len(RING_M)))
    low = np.clip(position.astype(int), 0, len(RING_M) - 2)
    share = (position - low)[:, None, None]
    return np.asarray((1 - share) * values[low] + share * values[low + 1])
