"""One image's triangles: hand, forearm, sleeve or band, things held or in front, in the camera frame."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic import props
from cliphand.data.synthetic.arm import RING_M, Arm, cover, random_arm, tube_faces
from cliphand.data.synthetic.kinds import DEFAULT_KIND, SceneKind
from cliphand.data.synthetic.mesh import corner_matrix, face_normals, unit
from cliphand.data.synthetic.placement import Placement
from cliphand.data.synthetic.rigged_hand import PosedHand, RiggedHand
from cliphand.data.synthetic.skin import SkinFields, palm_share, skin_fields, skin_maps

SKIN, CLOTH, BAND, PROP = range(4)
MATERIALS = 4
SLEEVE_SHARE, BAND_SHARE, RING_SHARE = 0.45, 0.12, 0.12
N_FIELDS = 13  # rest position 3, palmar, nail, nail length, redness, two carried axes 3 + 3
AROUND = 40


@dataclass(frozen=True, slots=True)
class Stage:
    """What all images share: the hand, its rest shape, its skin's fields and maps, triangles of hand and forearm."""

    model: RiggedHand
    rest: FloatArray
    fields: SkinFields
    maps: FloatArray
    skin_faces: IntArray
    skin_corners: sparse.csr_matrix


@dataclass(frozen=True, slots=True)
class Scene:
    """Triangles to render.

    Attributes:
        vertices: (V, 3) float32 metres, camera frame.
        normals: (V, 3) float32 unit.
        faces: (F, 3) int32.
        material: (F,) SKIN, CLOTH, BAND or PROP.
        fields: (V, N_FIELDS) float32, see N_FIELDS.
        n_hand_faces: the first faces are the hand without its forearm.
        n_skinned: the first vertices are those whose ambient light is measured.
    """

    vertices: FloatArray
    normals: FloatArray
    faces: IntArray
    material: IntArray
    fields: FloatArray
    n_hand_faces: int
    n_skinned: int


@dataclass(frozen=True, slots=True)
class _Part:
    vertices: FloatArray  # hand frame
    faces: IntArray
    material: int
    fields: FloatArray


def prepare_stage(model: RiggedHand) -> Stage:
    """Compute once what every image of a process uses."""
    n_surface = model.smooth.shape[0]
    tube = tube_faces(len(RING_M), AROUND, first=model.rim - n_surface) + n_surface
    faces = np.concatenate([model.surface, tube]).astype(np.int32)
    corners = corner_matrix(faces, n_surface + AROUND * len(RING_M))
    return Stage(model, model.smooth @ model.rig.vertices, skin_fields(model), skin_maps(model.rig), faces, corners)


def build_scene(
    rng: np.random.Generator, stage: Stage, hand: PosedHand, view: Placement, *, kind: SceneKind = DEFAULT_KIND
) -> Scene:
    """Dress the hand and put it in front of the camera."""
    arm = random_arm(rng, hand.surface[stage.model.rim])
    skin = np.concatenate([hand.surface, arm.rings.reshape(-1, 3)])
    parts = _worn(rng, arm) + (_things(rng, hand, view) if kind.held else [])
    if kind.layered and rng.random() < RING_SHARE:
        ring = props.finger_ring(rng, hand.joints, stage.model.rig.radius)
        parts.append(_Part(ring.vertices, ring.faces, BAND, _plain(ring.vertices)))
    vertices = [view.place(skin)]
    normals = [unit(stage.skin_corners @ face_normals(vertices[0], stage.skin_faces))]
    faces, material, fields = (
        [stage.skin_faces],
        [np.full(len(stage.skin_faces), SKIN)],
        [_skin_rows(stage, hand, view, arm)],
    )
    count = len(skin)
    for part in parts:
        placed = view.place(part.vertices)
        vertices.append(placed)
        normals.append(unit(corner_matrix(part.faces, len(placed)) @ face_normals(placed, part.faces)))
        faces.append(part.faces + count)
        material.append(np.full(len(part.faces), part.material))
        fields.append(part.fields)
        count += len(placed)
    return Scene(
        vertices=np.concatenate(vertices).astype(np.float32),
        normals=np.concatenate(normals).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        material=np.concatenate(material),
        fields=np.concatenate(fields).astype(np.float32),
        n_hand_faces=len(stage.model.surface),
        n_skinned=stage.model.smooth.shape[1],
    )


def _skin_rows(stage: Stage, hand: PosedHand, view: Placement, arm: Arm) -> FloatArray:
    """(V, N_FIELDS) of hand and forearm."""
    model, fields = stage.model, stage.fields
    bone_axes = (view.rotation @ hand.rotations[:, :, :2]).transpose(0, 2, 1).reshape(-1, 6)
    axes = model.smooth @ (model.rig.weights @ bone_axes)
    scalars = np.stack([fields.palmar, fields.nail, fields.nail_length, fields.redness], axis=1)
    straight = arm.straight.reshape(-1, 3)
    facing = unit(arm.outwards)[..., 2].ravel()
    on_arm = np.stack([palm_share(facing), *np.broadcast_to([[3.0], [0.0], [0.0]], (3, facing.size))], 1)
    arm_axes = np.broadcast_to(view.rotation[:, :2].T.ravel(), (len(straight), 6))
    return np.concatenate(
        [np.concatenate([stage.rest, scalars, axes], axis=1), np.concatenate([straight, on_arm, arm_axes], axis=1)]
    )


def _plain(vertices: FloatArray) -> FloatArray:
    """Fields of a part without skin: its own coordinates only."""
    fields = np.zeros((len(vertices), N_FIELDS))
    fields[:, :3] = vertices
    return fields


def _worn(rng: np.random.Generator, arm: Arm) -> list[_Part]:
    """A sleeve or a band, or neither."""
    draw = rng.random()
    if draw < SLEEVE_SHARE:
        start = float(rng.uniform(0.012, 0.05) if rng.random() < 0.5 else rng.uniform(0.05, 0.2))
        rings = 14
        wave = rng.normal(0, 0.0022, (rings, 10))
        ripple = np.abs(np.repeat(wave, 4, axis=1))
        gap, end, material = float(rng.uniform(0.002, 0.009)), float(RING_M[-1]), CLOTH
    elif draw < SLEEVE_SHARE + BAND_SHARE:
        start = float(rng.uniform(0.012, 0.04))
        ripple = np.zeros((3, AROUND))
        gap, end, material = float(rng.uniform(0.001, 0.004)), start + float(rng.uniform(0.005, 0.024)), BAND
    else:
        return []
    rings_m = cover(arm, start_m=start, end_m=end, gap_m=gap, ripple=ripple)
    vertices = rings_m.reshape(-1, 3)
    return [_Part(vertices, tube_faces(len(rings_m), AROUND), material, _plain(vertices))]


def _things(rng: np.random.Generator, hand: PosedHand, view: Placement) -> list[_Part]:
    """A held thing and a thing in front, each in a share of images."""
    draw = rng.random(2)
    found = []
    if draw[0] < props.HELD_SHARE:
        found.append(props.held(rng, hand.mesh, hand.joints))
    if draw[1] < props.OCCLUDER_SHARE:
        middle = hand.joints.mean(axis=0)
        towards = unit(-view.place(middle[None])[0]) @ view.rotation
        found.append(props.occluder(rng, hand.joints, towards))
    return [_Part(thing.vertices, thing.faces, PROP, _plain(thing.vertices)) for thing in found if thing is not None]
