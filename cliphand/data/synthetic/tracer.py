"""Rays against triangles, by Embree."""

from dataclasses import dataclass

import numpy as np

from cliphand.arrays import BoolArray, FloatArray, IntArray
from cliphand.errors import InputError
from cliphand.extras import install_extra

LIFT_M = 8e-4  # a ray leaves its surface by this much, so that it does not hit it at once


@dataclass(frozen=True, slots=True)
class Hits:
    """What N rays met first: triangle (N,) or -1, barycentric u and v (N,), distance (N,)."""

    face: IntArray
    u: FloatArray
    v: FloatArray
    distance: FloatArray


class Tracer:
    """A set of triangles that rays can be sent against."""

    def __init__(self, vertices: FloatArray, faces: IntArray) -> None:
        """Take (V, 3) vertices and (F, 3) triangles.

        Raises:
            InputError: the extra `synthetic` is not installed.
        """
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError:
            raise InputError(f"rendering needs the package 'embreex': {install_extra('synthetic')}.") from None
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32))

    def first_hits(self, origins: FloatArray, directions: FloatArray) -> Hits:
        """Follow rays (N, 3) to the first triangle."""
        if not len(directions):
            empty = np.zeros(0, np.float32)
            return Hits(np.zeros(0, np.int32), empty, empty, empty)
        found = self._scene.run(_contiguous(origins), _contiguous(directions), query="INTERSECT", output=1)
        return Hits(found["primID"], found["u"], found["v"], found["tfar"])

    def occluded(self, origins: FloatArray, directions: FloatArray) -> BoolArray:
        """(N,) True where a ray meets any triangle."""
        if not len(directions):
            return np.zeros(0, bool)
        return np.asarray(self._scene.run(_contiguous(origins), _contiguous(directions), query="OCCLUDED") == 0)


def _contiguous(rays: FloatArray) -> FloatArray:
    return np.ascontiguousarray(rays, np.float32)
