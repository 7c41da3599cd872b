"""Plain operations on triangle meshes: normals, borders, Loop subdivision."""

import numpy as np
from scipy import sparse

from cliphand.arrays import FloatArray, IntArray


def face_normals(vertices: FloatArray, faces: IntArray) -> FloatArray:
    """(..., V, 3) vertices and (F, 3) faces to (..., F, 3) normals, as long as twice the triangle's area."""
    a, b, c = (np.take(vertices, faces[:, corner], axis=-2) for corner in range(3))
    return cross(b - a, c - a)


def cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product along the last axis; a third of numpy's time."""
    result = np.empty_like(a)
    result[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    result[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    result[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return result


def corner_matrix(faces: IntArray, n_vertices: int) -> sparse.csr_matrix:
    """(V, F) matrix that sums values of faces into their corners."""
    rows = faces.T.ravel()
    columns = np.tile(np.arange(len(faces)), 3)
    ones = np.ones(len(rows), np.float32)
    return sparse.csr_matrix((ones, (rows, columns)), shape=(n_vertices, len(faces)))


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors along the last axis scaled to length 1; a zero vector stays zero."""
    length = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return np.asarray(vectors / np.maximum(length, 1e-12))


def edges_of(faces: IntArray) -> tuple[IntArray, IntArray]:
    """Undirected edges of a mesh.

    Returns:
        (E, 2) edges with the smaller index first, and (E,) how many faces use each: 1 on the border.
    """
    pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges, count = np.unique(pairs, axis=0, return_counts=True)
    return edges, count


def edge_numbers(faces: IntArray, edges: IntArray) -> IntArray:
    """(F, 3) row in `edges` of each face's sides, from corner 0 to 1, 1 to 2 and 2 to 0."""
    index = {(int(a), int(b)): i for i, (a, b) in enumerate(edges)}
    sides = np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1)
    low, high = sides.min(axis=-1), sides.max(axis=-1)
    found = [index[int(a), int(b)] for a, b in zip(low.ravel(), high.ravel(), strict=True)]
    return np.array(found).reshape(faces.shape)


def border_loop(faces: IntArray) -> IntArray:
    """The vertices of the only border, in the order in which its faces walk along it."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    known = {(int(a), int(b)) for a, b in directed}
    following = {a: b for a, b in known if (b, a) not in known}
    loop = [min(following)]
    while following[loop[-1]] != loop[0]:
        loop.append(following[loop[-1]])
    return np.array(loop)


def loop_subdivision(faces: IntArray, n_vertices: int) -> tuple[sparse.csr_matrix, IntArray]:
    """One step of Loop subdivision as a matrix, so that a posed mesh is smoothed by one product.

    Source: Loop 1987, with Warren's weights inside and the cubic B-spline's on the border.

    Args:
        faces: (F, 3) triangles of the coarse mesh.
        n_vertices: V, its vertices.

    Returns:
        (V + E, V) matrix from coarse to fine vertices, and the (4 F, 3) fine triangles.
    """
    edges, count = edges_of(faces)
    number = edge_numbers(faces, edges)
    middle = n_vertices + number
    weights = sparse.vstack([_old_points(edges, count, n_vertices), _edge_points(faces, edges, count, n_vertices)])
    a, b, c = faces.T
    ab, bc, ca = middle.T
    fine = np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return sparse.csr_matrix(weights), fine


def _old_points(edges: IntArray, count: IntArray, n_vertices: int) -> sparse.csr_matrix:
    """(V, V): where the coarse vertices move."""
    border = np.zeros(n_vertices, bool)
    border[edges[count == 1].ravel()] = True
    both = np.concatenate([edges, edges[:, ::-1]])
    on_border = np.concatenate([count, count]) == 1
    used = on_border | ~border[both[:, 0]]  # a border vertex listens to the border only
    rows, columns = both[used].T
    valence = np.bincount(rows, minlength=n_vertices)
    beta = np.where(border, 1 / 8, np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1))))
    near = sparse.csr_matrix((beta[rows], (rows, columns)), shape=(n_vertices, n_vertices))
    return sparse.csr_matrix(near + sparse.diags(1 - beta * valence))


def _edge_points(faces: IntArray, edges: IntArray, count: IntArray, n_vertices: int) -> sparse.csr_matrix:
    """(E, V): 3/8 of an edge's ends and 1/8 of the two corners opposite; the middle of a border edge."""
    end = np.where(count == 1, 1 / 2, 3 / 8)
    n_edges = len(edges)
    ends = sparse.csr_matrix(
        (np.tile(end, 2), (np.tile(np.arange(n_edges), 2), edges.T.ravel())), shape=(n_edges, n_vertices)
    )
    number = edge_numbers(faces, edges)
    inner = count[number] == 2
    rows, columns = number[inner], np.roll(faces, -2, axis=1)[inner]
    opposite = sparse.csr_matrix((np.full(len(rows), 1 / 8), (rows, columns)), shape=(n_edges, n_vertices))
    return sparse.csr_matrix(ends + opposite)
