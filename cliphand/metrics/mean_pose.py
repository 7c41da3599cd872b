"""The best a predictor can do that never looks at the image."""

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.metrics.alignment import align

ROUNDS = 5  # the mean moves by less than a micrometre after two


def mean_pose(joints_m: FloatArray) -> FloatArray:
    """Mean of poses after each is aligned to it (generalised Procrustes analysis).

    Its PA-PJPE is what a constant prediction scores: the number a trained model has to beat.

    Args:
        joints_m: (B, 21, 3) metres, the training poses.

    Returns:
        (21, 3) metres.
    """
    mean = np.asarray(joints_m[0], np.float64)
    for _ in range(ROUNDS):
        mean = align(joints_m, np.broadcast_to(mean, joints_m.shape)).mean(axis=0)
    return mean


def constant_prediction(pose: FloatArray, count: int) -> FloatArray:
    """The same pose for `count` images: (21, 3) to (count, 21, 3)."""
    return np.broadcast_to(pose, (count, *pose.shape)).copy()
