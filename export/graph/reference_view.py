"""A FreiHAND-like view, only to say what a difference in uvd means in millimetres; no PyTorch."""

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.camera import MM_PER_M, uvd_to_camera

REFERENCE_DEPTH_M = 0.7
REFERENCE_BONE_M = 0.095
REFERENCE_FOCAL = 1.75  # over the crop's side


def distances_mm(first: FloatArray, second: FloatArray) -> FloatArray:
    """(B, N) distances of matching points, both (B, N, 3) uvd, seen by the reference camera."""
    K = np.array([[REFERENCE_FOCAL, 0, 0.5], [0, REFERENCE_FOCAL, 0.5], [0, 0, 1]])
    depth, bone = np.array(REFERENCE_DEPTH_M), np.array(REFERENCE_BONE_M)
    with np.errstate(invalid="ignore", over="ignore"):
        ours, theirs = (
            uvd_to_camera(points.astype(np.float64), K, side_px=1, root_depth_m=depth, bone_m=bone)
            for points in (first, second)
        )
        return np.asarray(np.linalg.norm(ours - theirs, axis=-1) * MM_PER_M)
