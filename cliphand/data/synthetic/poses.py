"""Anatomically plausible hand poses: limits, coupling between joints, no finger inside another.

Limits and coupling follow Lin, Wu and Huang 2000, Modeling the constraints of human hand motion: a DIP bends with
two thirds of its PIP, neighbouring fingers bend together, and a bent finger cannot spread.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.anny_source import WRIST_BONE
from cliphand.data.synthetic.collision import penetrates
from cliphand.data.synthetic.gestures import GESTURES, SPREAD_DEG, HandAngles, gesture
from cliphand.data.synthetic.kinds import DEFAULT_KIND, SceneKind
from cliphand.data.synthetic.repertoire import between_hands, draw_repertoire, jittered
from cliphand.data.synthetic.rig import CUP_BONES, FINGER_BONES, Rig

TRIES = 6
LOW_DEG = np.array([[-25, -8, -15], *[[-20, 0, 0]] * 4], float)
HIGH_DEG = np.array([[42, 60, 75], *[[92, 116, 72]] * 3, [95, 116, 88]], float)
SPREAD_LOW_DEG = np.array([-30, -20, -8, -4, -2], float)
SPREAD_HIGH_DEG = np.array([32, 6, 6, 14, 26], float)
CLOSED_SPLAY_DEG = np.array([0, -3, 2, 6, 10], float)  # where the first phalanx points in a closed hand
TWIST_DEG = (-8.0, 34.0)


def random_rotations(
    rng: np.random.Generator, rig: Rig, heads: FloatArray, *, kind: SceneKind = DEFAULT_KIND
) -> FloatArray:
    """Draw one pose without self-penetration.

    Args:
        rng: source of randomness.
        rig: the hand.
        heads: (21, 3) bone heads of the shaped hand.
        kind: which poses are drawn how often.

    Returns:
        (21, 3) rotation vectors for `pose_hand`.
    """
    for _ in range(TRIES):
        angles = random_angles(rng, kind=kind)
        rotations = to_rotations(rig, angles)
        if not penetrates(rig, heads, rotations):
            return rotations
    relaxed = gesture("relaxed")
    for share in (0.75, 0.5, 0.25):  # the last draw, opened until it is free
        rotations = to_rotations(rig, between_hands(relaxed, angles, share))
        if not penetrates(rig, heads, rotations):
            return rotations
    return to_rotations(rig, relaxed)


def random_angles(rng: np.random.Generator, *, kind: SceneKind = DEFAULT_KIND) -> HandAngles:
    """Draw joint angles within their limits: a gesture with its variations, or fingers bent at will."""
    known = draw_repertoire if kind.repertoire else _varied_gesture
    return limit(known(rng) if rng.random() < kind.gesture_share else _free(rng))


def limit(angles: HandAngles) -> HandAngles:
    """Move every angle into its range; a bent finger cannot spread."""
    flexion = np.clip(angles.flexion, LOW_DEG, HIGH_DEG)
    spread = np.clip(angles.spread, SPREAD_LOW_DEG, SPREAD_HIGH_DEG)
    spread[1:] *= np.clip(1 - flexion[1:, 0] / 70, 0, 1)
    return HandAngles(flexion, spread, float(np.clip(angles.twist, *TWIST_DEG)), np.clip(angles.cup, 0, [8, 15]))


def to_rotations(rig: Rig, angles: HandAngles) -> FloatArray:
    """Joint angles as (21, 3) rotation vectors from the rest shape."""
    flexion = np.radians(angles.flexion) - rig.rest_flexion
    target = np.radians(angles.spread + CLOSED_SPLAY_DEG)
    turn = rig.rest_splay - target  # a turn about the back's normal moves a finger away from x
    turn[0] = np.radians(angles.spread[0])
    vectors = np.zeros((21, 3))
    bend = Rotation.from_rotvec((rig.bone_axes[:, :, 0] * flexion[..., None]).reshape(-1, 3))
    vectors[FINGER_BONES.ravel()] = bend.as_rotvec()
    side = Rotation.from_rotvec(rig.bone_axes[:, 0, 1] * turn[:, None])
    base = side * bend[::3]
    along = np.cross(rig.bone_axes[0, 0, 0], rig.bone_axes[0, 0, 1])
    roll = Rotation.from_rotvec(np.stack([along * np.radians(angles.twist), *np.zeros((4, 3))]))
    vectors[FINGER_BONES[:, 0]] = (base * roll).as_rotvec()
    for bone, cup in zip(CUP_BONES, np.radians(angles.cup), strict=True):
        vectors[bone] = [-cup, 0, 0]
    vectors[WRIST_BONE] = 0
    return vectors


def _varied_gesture(rng: np.random.Generator) -> HandAngles:
    """A named gesture, sometimes on its way to another one, with noise on every joint."""
    angles = gesture(str(rng.choice(GESTURES)))
    if rng.random() < 0.3:
        angles = between_hands(angles, gesture(str(rng.choice(GESTURES))), float(rng.uniform(0.1, 0.5)))
    return jittered(rng, angles)


def _free(rng: np.random.Generator) -> HandAngles:
    """Fingers bent at will, each a mixture of a common bend and its own."""
    own = rng.beta(0.8, 0.9, 4)
    tied = rng.uniform(0, 1, 4)
    bend = tied * rng.beta(0.8, 0.9) + (1 - tied) * own
    for finger, tie in ((1, 0.4), (2, 0.65), (3, 0.4)):  # tendons tie a finger to the one before
        bend[finger] += tie * (bend[finger - 1] - bend[finger])
    proximal = np.clip(bend + rng.normal(0, 0.25, 4), -0.2, 1)
    middle = np.clip(bend + rng.normal(0, 0.2, 4), 0, 1)
    flexion = np.zeros((5, 3))
    flexion[1:, 0] = 92 * proximal
    flexion[1:, 1] = 114 * middle
    flexion[1:, 2] = 0.5 * flexion[1:, 1] + rng.normal(0, 9, 4)
    flexion[0] = rng.uniform([-22, -5, -12], [36, 45, 60])
    spread = SPREAD_DEG * rng.uniform(0, 1) + rng.normal(0, [0, 3, 2, 2, 3])
    spread[0] = rng.uniform(-26, 28)
    twist = 0.5 * (flexion[0, 0] + 10) + rng.normal(0, 6)
    return HandAngles(flexion, spread, float(twist), np.array([6, 12]) * np.clip(proximal[2:], 0, 1))
