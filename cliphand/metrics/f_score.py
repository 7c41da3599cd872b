"""F-score of a mesh: how much of either surface lies within a threshold of the other.

Source: the FreiHAND benchmark's evaluator (Zimmermann et al. 2019), after Knapitsch et al. 2017: nearest neighbour
between the vertices both ways, strictly below the threshold, harmonic mean for each image.
"""

from collections.abc import Sequence

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.camera import MM_PER_M
from cliphand.metrics.alignment import check_pair

F_THRESHOLDS_MM = (5.0, 15.0)


def f_scores(
    predicted: FloatArray, target: FloatArray, *, thresholds_mm: Sequence[float] = F_THRESHOLDS_MM
) -> FloatArray:
    """F-score of each image at each threshold.

    Args:
        predicted: (B, N, 3) metres, vertices in the target's order.
        target: (B, N, 3) metres.
        thresholds_mm: T thresholds.

    Returns:
        (B, T) in [0, 1].

    Raises:
        ValueError: the shapes differ, are not (B, N, 3), or a number is not finite.
    """
    predicted, target = check_pair(predicted, target)
    thresholds_m = np.asarray(thresholds_mm, np.float64) / MM_PER_M
    matching = np.sqrt(np.square(target - predicted).sum(axis=2))
    scores = np.empty((len(predicted), len(thresholds_m)))
    for image, bound in enumerate(matching):
        precision = _share_near(predicted[image], target[image], bound, thresholds_m)
        recall = _share_near(target[image], predicted[image], bound, thresholds_m)
        total = precision + recall
        scores[image] = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return scores


def _share_near(points: FloatArray, others: FloatArray, bound: FloatArray, thresholds: FloatArray) -> FloatArray:
    """(T,) share of `points` whose nearest of `others` is closer than each threshold.

    `bound` (N,) is the distance to the matching vertex: where that is already below every threshold, the nearest is
    too, and no search is needed.
    """
    nearest = bound.copy()
    unsure = bound >= thresholds.min()
    if unsure.any():
        nearest[unsure] = _nearest(points[unsure], others)
    return np.asarray((nearest[:, None] < thresholds).mean(axis=0))


def _nearest(points: FloatArray, others: FloatArray) -> FloatArray:
    """Distance of each of `points` (N, 3) to the nearest of `others` (M, 3)."""
    # |b|^2 - 2ab is least where |a - b|^2 is, and is one product; the distance itself is then taken anew.
    a, b = points - others.mean(axis=0), others - others.mean(axis=0)
    lifted = np.stack((*b.T, np.square(b).sum(axis=1)))  # (4, M)
    # Not `@`: threads of a BLAS that wait for one another cost a hundred times such a product on a busy machine.
    chosen = np.einsum("nk,km->nm", np.column_stack((-2 * a, np.ones(len(a)))), lifted).argmin(axis=1)
    return np.asarray(np.sqrt(np.square(points - others[chosen]).sum(axis=1)))
