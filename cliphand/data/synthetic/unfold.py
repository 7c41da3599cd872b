"""Smooth the skin where a bend has folded it into itself.

The inner side of a joint has less length than the bend needs, so plain skinning turns triangles over there; real
skin bulges. Averaging each vertex of such a triangle with its neighbours until none is turned does the same.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.mesh import corner_matrix, edges_of, face_normals, unit

ROUNDS = 24


@dataclass(frozen=True, slots=True)
class Links:
    """What the smoothing needs of a mesh: faces (F, 3), neighbour average (V, V), corners of faces (V, F)."""

    faces: IntArray
    average: sparse.csr_matrix
    corners: sparse.csr_matrix


def link(faces: IntArray, n_vertices: int) -> Links:
    """Prepare a mesh."""
    edges, _ = edges_of(faces)
    both = np.concatenate([edges, edges[:, ::-1]])
    ones = sparse.csr_matrix((np.ones(len(both)), tuple(both.T)), shape=(n_vertices, n_vertices))
    degree = np.asarray(ones.sum(axis=1)).ravel()
    average = sparse.csr_matrix(sparse.diags(1 / np.maximum(degree, 1)) @ ones)
    return Links(faces, average, corner_matrix(faces, n_vertices))


def carried_normals(links: Links, rest: FloatArray, rotations: FloatArray) -> FloatArray:
    """Unit normals (F, 3) of the rest mesh, moved by the mean rotation of each triangle's corners.

    Args:
        links: the mesh.
        rest: (V, 3) vertices at rest.
        rotations: (V, 3, 3) blended bone rotations of the pose.
    """
    a, b, c = (rotations[links.faces[:, corner]] for corner in range(3))
    normals = face_normals(rest, links.faces)
    return unit(np.matmul(a + b + c, normals[..., None])[..., 0])


def turned(links: Links, vertices: FloatArray, carried: FloatArray, *, least: float = 0.0) -> np.ndarray:
    """(F,) True where a triangle's normal has turned away from the one carried along."""
    normals = face_normals(vertices, links.faces)
    along = np.einsum("fi,fi->f", normals, carried)
    if least == 0:
        return np.asarray(along < 0)
    return np.asarray(along < least * np.sqrt(np.einsum("fi,fi->f", normals, normals)))


def unfold(links: Links, vertices: FloatArray, carried: FloatArray, *, least: float, step: float) -> FloatArray:
    """Smooth around turned triangles until there are none, at most ROUNDS times.

    Args:
        links: the mesh.
        vertices: (V, 3) posed.
        carried: (F, 3) from `carried_normals`.
        least: cosine between a triangle's normal and the carried one below which it counts as turned.
        step: share of the way to its neighbours' mean that a vertex moves in a round.
    """
    for _ in range(ROUNDS):
        bad = turned(links, vertices, carried, least=least)
        if not bad.any():
            break
        core = links.corners @ bad.astype(float) > 0
        share = step * np.where(core, 1.0, 0.5 * (links.average @ core.astype(float) > 0))
        vertices = vertices + share[:, None] * (links.average @ vertices - vertices)
    return vertices
