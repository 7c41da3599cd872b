"""Share of correct keypoints (PCK) over a range of thresholds, and the area under that curve (AUC).

Source: the FreiHAND benchmark's evaluator (Zimmermann et al. 2019): 100 thresholds, a point is correct at an error
of at most the threshold, the area is the trapezoid rule's divided by the range. The range moves the number (0-50 mm
there, 0-30 or 20-50 mm in other papers), so it belongs beside it.
"""

import numpy as np

from cliphand.arrays import FloatArray

N_THRESHOLDS = 100
OFFICIAL_RANGE_MM = (0.0, 50.0)


def pck_thresholds(range_mm: tuple[float, float] = OFFICIAL_RANGE_MM) -> FloatArray:
    """(100,) evenly spaced thresholds over the range, both ends included.

    Raises:
        ValueError: the range is empty or starts below zero.
    """
    low, high = range_mm
    if not 0 <= low < high < np.inf:
        raise ValueError(f"the AUC's range is {low} to {high} mm; it must start at 0 or above and end higher.")
    return np.linspace(low, high, N_THRESHOLDS)


def pck_curve(errors: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Share of points whose error is at most each threshold.

    Every point is measured in every image, so the mean over points of each point's share is the share of all.

    Args:
        errors: (B, N) distances.
        thresholds: (T,) increasing, in the errors' unit.

    Returns:
        (T,) in [0, 1].
    """
    first_met = np.searchsorted(thresholds, errors.ravel(), side="left")  # thresholds[i - 1] < error <= thresholds[i]
    met = np.bincount(first_met, minlength=len(thresholds) + 1)[: len(thresholds)]
    return np.asarray(np.cumsum(met) / errors.size)


def area_under_pck(errors_mm: FloatArray, *, range_mm: tuple[float, float] = OFFICIAL_RANGE_MM) -> float:
    """AUC of the PCK curve over a range of thresholds.

    Args:
        errors_mm: (B, N) millimetres.
        range_mm: lowest and highest threshold.

    Returns:
        In [0, 1].
    """
    thresholds = pck_thresholds(range_mm)
    return float(np.trapezoid(pck_curve(errors_mm, thresholds), thresholds) / (thresholds[-1] - thresholds[0]))
