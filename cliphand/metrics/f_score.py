"""F-score of a mesh: how much of either surface lies within a threshold of the other.

Source: the FreiHAND benchmark's evaluator (Zimmermann et al. 2019), after Knapitsch et al. 2017: nearest neighbour
between the vertices both ways, strictly below the threshold, harmonic mean for each image.
"""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from cliphand.arrays import FloatArray
from cliphand.camera import MM_PER_M
from cliphand.metrics.alignment import check_pair

F_THRESHOLDS_MM = (5.0, 15.0)
LEAF_POINTS = 32  # fastest of 8, 16, 32 for 778 vertices


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
        tree = cKDTree(others, leafsize=LEAF_POINTS, balanced_tree=False, compact_nodes=False)
        nearest[unsure] = tree.query(points[unsure], distance_upper_bound=thresholds.max())[0]
    return np.asarray((nearest[:, None] < thresholds).mean(axis=0))
