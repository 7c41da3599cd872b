"""Distances between matching points: PJPE, PVPE and their Procrustes-aligned forms, in millimetres.

Source: the FreiHAND benchmark's evaluator (Zimmermann et al. 2019). A mean or median is taken over the images for
every point, then averaged over the points. No root is subtracted.
"""

from dataclasses import dataclass

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.camera import MM_PER_M
from cliphand.hand import N_JOINTS, N_VERTICES
from cliphand.metrics.alignment import align, check_pair


@dataclass(frozen=True, slots=True)
class PointErrors:
    """Distances in millimetres.

    Attributes:
        errors_mm: (B, N) one distance for each image and point.
    """

    errors_mm: FloatArray

    @property
    def mean_mm(self) -> float:
        """Mean over the points of each point's mean."""
        return float(self.per_point_mm.mean())

    @property
    def median_mm(self) -> float:
        """Mean over the points of each point's median."""
        return float(np.median(self.errors_mm, axis=0).mean())

    @property
    def per_image_mm(self) -> FloatArray:
        """(B,) mean of each image."""
        return np.asarray(self.errors_mm.mean(axis=1))

    @property
    def per_point_mm(self) -> FloatArray:
        """(N,) mean of each joint or vertex."""
        return np.asarray(self.errors_mm.mean(axis=0))


def point_errors(predicted: FloatArray, target: FloatArray) -> PointErrors:
    """Distances between points as they stand.

    Args:
        predicted: (B, N, 3) metres, camera frame.
        target: (B, N, 3) metres, camera frame.

    Raises:
        ValueError: the shapes differ, are not (B, N, 3), or a number is not finite.
    """
    predicted, target = check_pair(predicted, target)
    return PointErrors(np.sqrt(np.square(target - predicted).sum(axis=2)) * MM_PER_M)


def aligned_point_errors(predicted: FloatArray, target: FloatArray, *, reflections: bool = False) -> PointErrors:
    """Distances after each image's best similarity; arguments as `point_errors` and `fit_similarity`."""
    return point_errors(align(predicted, target, reflections=reflections), target)


def pjpe_mm(predicted: FloatArray, target: FloatArray) -> float:
    """Mean per-joint position error of (B, 21, 3) metres."""
    return point_errors(*check_points(N_JOINTS, predicted, target)).mean_mm


def pvpe_mm(predicted: FloatArray, target: FloatArray) -> float:
    """Mean per-vertex position error of (B, 778, 3) metres."""
    return point_errors(*check_points(N_VERTICES, predicted, target)).mean_mm


def pa_pjpe_mm(predicted: FloatArray, target: FloatArray, *, reflections: bool = False) -> float:
    """Mean per-joint position error of (B, 21, 3) metres after alignment of the joints."""
    return aligned_point_errors(*check_points(N_JOINTS, predicted, target), reflections=reflections).mean_mm


def pa_pvpe_mm(predicted: FloatArray, target: FloatArray, *, reflections: bool = False) -> float:
    """Mean per-vertex position error of (B, 778, 3) metres after alignment of the vertices."""
    return aligned_point_errors(*check_points(N_VERTICES, predicted, target), reflections=reflections).mean_mm


def check_points(n_points: int, predicted: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both arrays as float64, refused (ValueError) unless they are (B, n_points, 3) and finite."""
    predicted, target = check_pair(predicted, target)
    if predicted.shape[1] != n_points:
        raise ValueError(f"each image has {predicted.shape[1]} points; this error is defined for {n_points}.")
    return predicted, target
