"""Medians and ratios of times with 95 % confidence intervals that assume no distribution.

The interval of a median lies between two order statistics, whose ranks follow from the binomial distribution in its
normal approximation. A ratio is the median of ratios between calls of the same turn: drift of the machine hits both and
cancels out.
"""

from dataclasses import dataclass

import numpy as np

from cliphand.arrays import FloatArray

SMALLEST = 1e-6  # of a denominator: a clock can return the same value twice
Z_95 = 1.959964  # standard deviations that hold 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median of paired ratios and its 95 % interval."""

    median: float
    low: float
    high: float


def median_interval(values: FloatArray) -> tuple[float, float]:
    """95 % interval of the median of (N,) values; their whole range where N is below 6."""
    ordered = np.sort(values)
    count = len(ordered)
    reach = Z_95 * np.sqrt(count) / 2
    low, high = int(np.floor(count / 2 - reach)) - 1, int(np.ceil(count / 2 + reach))
    return float(ordered[max(low, 0)]), float(ordered[min(high, count - 1)])


def relative_width(values: FloatArray) -> float:
    """Width of the median's interval over the median."""
    low, high = median_interval(values)
    return (high - low) / float(np.median(values))


def paired_ratio(numerator: FloatArray, denominator: FloatArray) -> Ratio:
    """Median of the ratios of (N,) values to (N,) values of the same turns."""
    ratios = numerator / np.maximum(denominator, SMALLEST)
    return Ratio(float(np.median(ratios)), *median_interval(ratios))
