"""Things that hands hold and things that come between: boxes, cylinders, balls."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.mesh import unit

HELD_SHARE = 0.22
OCCLUDER_SHARE = 0.12
AROUND = 28
CLEARANCE_M = 0.001
PLACES = 16  # tried for a held thing
LEAST_ROOM_M, MOST_ROOM_M = 0.006, 0.034
HALF_LENGTH_M = 0.05
KNUCKLES = (5, 9, 13, 17)
RING_SHARES = (0.05, 0.15, 0.25, 0.45, 0.1)  # thumb to little
RING_ROOM = 1.14  # over the finger's mean thickness: fingers are wider than thick
PADS = (7, 8, 11, 12, 15, 16)


@dataclass(frozen=True, slots=True)
class Prop:
    """A closed mesh in the hand frame: vertices (V, 3) metres, faces (F, 3)."""

    vertices: FloatArray
    faces: IntArray


def held(rng: np.random.Generator, mesh: FloatArray, joints: FloatArray) -> Prop | None:
    """A cylinder, box or ball between palm and fingers, as thick as there is room for; None where there is none.

    Args:
        rng: source of randomness.
        mesh: (778, 3) posed hand, metres.
        joints: (21, 3) posed joints.
    """
    across = unit(joints[17] - joints[5])
    palm = joints[list(KNUCKLES)].mean(axis=0)
    towards = joints[list(PADS)].mean(axis=0) - palm
    down = joints[0] - joints[9]
    outwards = unit(np.cross(across, -down))  # out of the back of the hand
    axis = unit(across + rng.normal(0, 0.2, 3))
    best, room = palm, 0.0
    for _ in range(PLACES):
        share, drop, lift = rng.uniform((0.2, -0.1, 0.005), (1.0, 0.5, 0.05))
        centre = palm + share * towards + drop * down - lift * outwards
        offsets = mesh - centre
        along = offsets @ axis
        radial = np.linalg.norm(offsets - np.outer(along, axis), axis=1)[np.abs(along) < HALF_LENGTH_M]
        free = float(radial.min()) - CLEARANCE_M if len(radial) else 0.0
        if room < free < MOST_ROOM_M:
            best, room = centre, free
    return _around(rng, best, axis, room) if room > LEAST_ROOM_M else None


def _around(rng: np.random.Generator, centre: FloatArray, axis: FloatArray, radius: float) -> Prop:
    """A shape of this radius about the axis."""
    kind = rng.choice(["cylinder", "cylinder", "box", "ball"])
    frame = _frame(axis, float(rng.uniform(0, 2 * np.pi)))
    length = float(rng.uniform(0.03, 0.09))
    if kind == "ball":
        return ball(centre, radius)
    if kind == "box":
        side = radius / np.sqrt(2)
        return box(centre, frame, np.array([side * rng.uniform(0.4, 1), length, side]))
    return cylinder(centre + axis * rng.uniform(-0.03, 0.03), frame, radius, length, taper=float(rng.uniform(0.75, 1)))


def finger_ring(rng: np.random.Generator, joints: FloatArray, radius: FloatArray) -> Prop:
    """A ring around the first phalanx of a finger.

    Args:
        rng: source of randomness.
        joints: (21, 3) posed joints, metres.
        radius: (5, 3) thickness of the phalanges, thumb to little.
    """
    finger = int(rng.choice(5, p=RING_SHARES))
    start, end = joints[4 * finger + 1], joints[4 * finger + 2]
    centre = start + rng.uniform(0.45, 0.65) * (end - start)
    frame = _frame(unit(end - start), float(rng.uniform(0, 2 * np.pi)))
    return cylinder(centre, frame, float(radius[finger, 0] * RING_ROOM), float(rng.uniform(0.001, 0.004)), taper=1.0)


def occluder(rng: np.random.Generator, joints: FloatArray, towards_camera: FloatArray) -> Prop:
    """A thing in front of the hand, which it hides in part.

    Args:
        rng: source of randomness.
        joints: (21, 3) posed joints, metres, hand frame.
        towards_camera: (3,) unit vector in the hand frame.
    """
    target = joints[rng.integers(1, 21)]
    centre = target + towards_camera * rng.uniform(0.04, 0.12) + rng.normal(0, 0.012, 3)
    frame = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    kind = rng.choice(["bar", "bar", "box", "ball"])
    if kind == "ball":
        return ball(centre, float(rng.uniform(0.008, 0.022)))
    if kind == "box":
        return box(centre, frame, rng.uniform(0.006, 0.022, 3))
    return cylinder(centre, frame, float(rng.uniform(0.003, 0.012)), float(rng.uniform(0.08, 0.25)), taper=1.0)


def _frame(axis: FloatArray, roll: float) -> FloatArray:
    """(3, 3) with `axis` as its second column."""
    helper = np.eye(3)[int(np.abs(axis).argmin())]
    x = unit(np.cross(axis, helper))
    z = np.cross(x, axis)
    return np.stack([np.cos(roll) * x + np.sin(roll) * z, axis, np.cos(roll) * z - np.sin(roll) * x], axis=1)


def cylinder(centre: FloatArray, frame: FloatArray, radius: float, half_length: float, *, taper: float) -> Prop:
    """A closed cylinder along the frame's second column, its far end `taper` times as thick."""
    angle = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    circle = np.stack([np.cos(angle), np.zeros(AROUND), np.sin(angle)], axis=1)
    rows = [(0, -1, 1), (1, -1, 1), (taper, 1, taper), (0, 1, taper)]
    local = np.concatenate([circle * r * radius + [0, y * half_length, 0] for r, y, _ in rows])
    index = np.arange(4 * AROUND).reshape(4, AROUND)
    a, b = index[:-1], index[1:]
    quads = np.stack([a, b, np.roll(b, -1, 1), np.roll(a, -1, 1)], -1).reshape(-1, 4)
    return Prop(centre + local @ frame.T, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def box(centre: FloatArray, frame: FloatArray, half: FloatArray) -> Prop:
    """A box with half sides (3,) along the frame's columns."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    # Corners are not shared between sides, so that edges stay sharp.
    vertices = np.concatenate([corners[list(side)] for side in sides])
    faces = np.concatenate([[[4 * s, 4 * s + 1, 4 * s + 2], [4 * s, 4 * s + 2, 4 * s + 3]] for s in range(6)])
    return Prop(centre + vertices @ frame.T, faces)


def ball(centre: FloatArray, radius: float) -> Prop:
    """A sphere of rings."""
    theta = np.linspace(0, np.pi, 15)[:, None]
    phi = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    local = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta) + 0 * phi, np.sin(theta) * np.sin(phi)], -1)
    index = np.arange(15 * AROUND).reshape(15, AROUND)
    a, b = index[:-1], index[1:]
    quads = np.stack([a, np.roll(a, -1, 1), np.roll(b, -1, 1), b], -1).reshape(-1, 4)
    return Prop(centre + radius * local.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
