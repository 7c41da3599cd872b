"""Coarse levels of the hand mesh: nested subsets of its vertices, found by decimating the template.

Edges are collapsed one by one, cheapest first, always onto one of their two ends, so that every level's vertices are
vertices of the full mesh. The cost is Garland and Heckbert's quadric error (1997) with a point term: a vertex that
stands for others pays their squared distances, which spreads the levels over flat and bent skin alike.
"""

import heapq
import math
from collections.abc import Iterable, Sequence

import numpy as np

from cliphand.arrays import IntArray
from cliphand.errors import InputError
from cliphand.hand import N_VERTICES, HandTopology

LEVELS = (98, 195, 389, N_VERTICES)
FINGERTIPS = (4, 8, 12, 16, 20)  # joints whose nearest vertex belongs to every level
POINT_WEIGHT = 0.1  # of the point term against the plane term

Vector = tuple[float, float, float]
Quadric = tuple[float, ...]  # upper triangle of a symmetric 4x4 matrix, row by row


def mesh_levels(topology: HandTopology, counts: Sequence[int] = LEVELS) -> tuple[IntArray, ...]:
    """Choose the vertices of each level; the same topology always gives the same levels.

    Args:
        topology: the hand.
        counts: vertices per level, increasing, at most 778.

    Returns:
        One sorted int64 array of vertex indices per level; each level holds all of the level before it, and all
        hold the five fingertips.

    Raises:
        InputError: the counts do not increase or are out of range, the hand has no faces, or the template cannot be
            decimated so far.
    """
    if list(counts) != sorted(set(counts)) or not counts or counts[0] < 1 or counts[-1] > N_VERTICES:
        raise InputError(f"mesh levels are {list(counts)}; they must increase and lie within 1 and {N_VERTICES}.")
    if len(topology.faces) == 0:
        raise InputError(
            "the hand has no faces, so its mesh has no levels; give a hand.npz that `cliphand hand` wrote."
        )
    tips = {int(topology.joint_regressor[joint].argmax()) for joint in FINGERTIPS}
    mesh = _Mesh(topology, kept=tips)
    levels = []
    for count in reversed(counts):
        mesh.decimate(count)
        levels.append(np.array(sorted(mesh.neighbours), np.int64))
    return tuple(reversed(levels))


class _Mesh:
    """A triangle mesh under decimation.

    Plain Python numbers throughout: their sums have one order on every machine, so levels do not depend on it.
    """

    __slots__ = ("faces_of", "heap", "kept", "neighbours", "points", "quadrics")

    def __init__(self, topology: HandTopology, *, kept: set[int]) -> None:
        faces: list[tuple[int, int, int]] = [(a, b, c) for a, b, c in topology.faces.tolist()]
        self.points: list[Vector] = [(x, y, z) for x, y, z in topology.template.tolist()]
        self.kept = kept
        self.faces_of: list[set[tuple[int, int, int]]] = [set() for _ in self.points]
        for face in faces:
            for vertex in face:
                self.faces_of[vertex].add(face)
        self.neighbours = {vertex: self._ring(vertex) for vertex in range(len(self.points))}
        self.quadrics: list[Quadric] = [(0.0,) * 10 for _ in self.points]
        for face in faces:
            self._add_face(face)
        self.heap: list[tuple[float, int, int]] = []
        self._queue(self.neighbours)

    def decimate(self, count: int) -> None:
        """Collapse edges until `count` vertices are left."""
        while len(self.neighbours) > count:
            if not self.heap:
                raise InputError(
                    f"the hand's template cannot be decimated to {count} vertices; {len(self.neighbours)} is the "
                    "fewest that keep its shape: ask for larger levels."
                )
            cost, gone, onto = heapq.heappop(self.heap)
            fresh = onto in self.neighbours.get(gone, ()) and cost == self._cost(gone, onto)
            if fresh and self._may_collapse(gone, onto):
                self._collapse(gone, onto)

    def _add_face(self, face: tuple[int, int, int]) -> None:
        """Give each corner the face's plane and its own point, weighted by a third of the face's area."""
        normal = _normal(*(self.points[vertex] for vertex in face))
        doubled_area = _length(normal)
        weight = doubled_area / 6
        unit = tuple(x / doubled_area for x in normal) if doubled_area > 0 else (0.0, 0.0, 0.0)
        plane = (*unit, -_dot((unit[0], unit[1], unit[2]), self.points[face[0]]))
        for vertex in face:
            x, y, z = self.points[vertex]
            point_rows = ((1.0, 0.0, 0.0, -x), (0.0, 1.0, 0.0, -y), (0.0, 0.0, 1.0, -z))
            added = _outer(plane, weight)
            for row in point_rows:
                added = _sum(added, _outer(row, weight * POINT_WEIGHT))
            self.quadrics[vertex] = _sum(self.quadrics[vertex], added)

    def _ring(self, vertex: int) -> set[int]:
        return {other for face in self.faces_of[vertex] for other in face} - {vertex}

    def _cost(self, gone: int, onto: int) -> float:
        a, b, c, d, e, f, g, h, i, j = _sum(self.quadrics[gone], self.quadrics[onto])
        x, y, z = self.points[onto]
        return x * (a * x + 2 * (b * y + c * z + d)) + y * (e * y + 2 * (f * z + g)) + z * (h * z + 2 * i) + j

    def _queue(self, vertices: Iterable[int]) -> None:
        """Queue both directions of every edge at the given vertices."""
        for vertex in vertices:
            for other in self.neighbours[vertex]:
                for gone, onto in ((vertex, other), (other, vertex)):
                    if gone not in self.kept:
                        heapq.heappush(self.heap, (self._cost(gone, onto), gone, onto))

    def _may_collapse(self, gone: int, onto: int) -> bool:
        """Whether the surface stays a surface of the same kind and keeps its rim."""
        shared = self.faces_of[gone] & self.faces_of[onto]
        opposite = {vertex for face in shared for vertex in face} - {gone, onto}
        # The link condition: any other common neighbour would glue two sheets together.
        if self.neighbours[gone] & self.neighbours[onto] != opposite:
            return False
        # A vertex on the rim may only move along the rim.
        return len(shared) == (1 if self._on_rim(gone) else 2)

    def _on_rim(self, vertex: int) -> bool:
        # Around an inner vertex there are as many faces as neighbours; on the rim there is one face less.
        return len(self.faces_of[vertex]) != len(self.neighbours[vertex])

    def _collapse(self, gone: int, onto: int) -> None:
        changed = self.neighbours.pop(gone)
        removed, self.faces_of[gone] = self.faces_of[gone], set()
        for face in removed:
            for vertex in face:
                if vertex != gone:
                    self.faces_of[vertex].discard(face)
            if onto not in face:
                a, b, c = (onto if vertex == gone else vertex for vertex in face)
                for vertex in (a, b, c):
                    self.faces_of[vertex].add((a, b, c))
        self.quadrics[onto] = _sum(self.quadrics[gone], self.quadrics[onto])
        for vertex in changed:
            self.neighbours[vertex] = self._ring(vertex)
        self._queue(changed)


def _normal(a: Vector, b: Vector, c: Vector) -> Vector:
    """Normal of a triangle, as long as twice its area."""
    p, q, r = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    s, t, u = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return q * u - r * t, r * s - p * u, p * t - q * s


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _length(a: Vector) -> float:
    return math.sqrt(_dot(a, a))


def _outer(row: tuple[float, ...], weight: float) -> Quadric:
    """The upper triangle of weight * row row^T."""
    return tuple(weight * row[i] * row[j] for i in range(4) for j in range(i, 4))


def _sum(a: Quadric, b: Quadric) -> Quadric:
    return tuple(x + y for x, y in zip(a, b, strict=True))
