"""The similarity (rotation, translation, one scale) that best lays predicted points over true ones.

Source: orthogonal Procrustes on centred, norm-scaled points, as in the FreiHAND benchmark's evaluator (Zimmermann
et al. 2019), which also accepts a reflection: a mirrored hand then has no error at all. Here a proper rotation is
the default.
"""

from dataclasses import dataclass

import numpy as np

from cliphand.arrays import BoolArray, FloatArray

# The evaluator adds this to both norms: a prediction without extent aligns to the target's centre instead of to NaN.
NORM_FLOOR = 1e-8
# A reflection counts as a better fit above this share of the target's norm; below it is rounding.
MIRROR_MARGIN = 1e-9


@dataclass(frozen=True, slots=True)
class Similarity:
    """Maps the predictions of B images onto their targets.

    Attributes:
        rotation: (B, 3, 3), orthogonal.
        scale: (B,).
        source_centre: (B, 3) mean of the predicted points.
        target_centre: (B, 3) mean of the true points.
        mirrored: (B,) true where a reflection fits better than any rotation.
    """

    rotation: FloatArray
    scale: FloatArray
    source_centre: FloatArray
    target_centre: FloatArray
    mirrored: BoolArray

    def apply(self, points: FloatArray) -> FloatArray:
        """Map (B, N, 3) points from the predictions' frame to the targets'."""
        turned = (points - self.source_centre[:, None]) @ np.swapaxes(self.rotation, 1, 2)
        return np.asarray(turned * self.scale[:, None, None] + self.target_centre[:, None])


def check_pair(predicted: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both arrays as float64.

    Raises:
        ValueError: the shapes differ, are not (B, N, 3) with at least one point, or a number is not finite.
    """
    predicted, target = np.asarray(predicted, np.float64), np.asarray(target, np.float64)
    if predicted.shape != target.shape or predicted.ndim != 3 or predicted.shape[2] != 3 or not predicted.size:
        raise ValueError(f"predicted is {predicted.shape}, target is {target.shape}; both must be one (B, N, 3).")
    for name, points in (("predicted", predicted), ("target", target)):
        if not np.isfinite(points).all():
            raise ValueError(f"{name} holds NaN or infinity; every coordinate must be finite.")
    return predicted, target


def fit_similarity(predicted: FloatArray, target: FloatArray, *, reflections: bool = False) -> Similarity:
    """Least-squares similarity from predicted to true points, image by image.

    Args:
        predicted: (B, N, 3), any frame and unit.
        target: (B, N, 3), any frame and unit.
        reflections: accept det(rotation) = -1 where it fits better, as the official evaluator does.

    Raises:
        ValueError: see `check_pair`.
    """
    predicted, target = check_pair(predicted, target)
    source_centre, target_centre = predicted.mean(axis=1), target.mean(axis=1)
    source, true = predicted - source_centre[:, None], target - target_centre[:, None]
    source_norm = np.linalg.norm(source, axis=(1, 2)) + NORM_FLOOR
    target_norm = np.linalg.norm(true, axis=(1, 2)) + NORM_FLOOR
    covariance = np.swapaxes(true, 1, 2) @ source / (target_norm * source_norm)[:, None, None]
    left, strengths, right = np.linalg.svd(covariance)
    handedness = np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)
    mirrored = (handedness < 0) & (strengths[:, 2] > MIRROR_MARGIN)
    if not reflections:
        # Every rotation loses to a reflection where handedness < 0; flipping the weakest axis loses least.
        left[:, :, 2] *= handedness[:, None]
        strengths[:, 2] *= handedness
    return Similarity(
        rotation=left @ right,
        scale=strengths.sum(axis=1) * target_norm / source_norm,
        source_centre=source_centre,
        target_centre=target_centre,
        mirrored=mirrored,
    )


def align(predicted: FloatArray, target: FloatArray, *, reflections: bool = False) -> FloatArray:
    """The predicted points (B, N, 3) after their best similarity, in the target's frame and unit."""
    return fit_similarity(predicted, target, reflections=reflections).apply(np.asarray(predicted, np.float64))
