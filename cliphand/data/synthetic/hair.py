"""Hair on the forearm and the back of the hand: fine strokes along the arm that darken the skin."""

from functools import lru_cache

import cv2
import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.scene import SKIN
from cliphand.data.synthetic.shading import Points
from cliphand.data.synthetic.skin import MAP_ORIGIN_M, MAP_PX_PER_M

HAIRY_SHARE = 0.4
CHART_PX = 512  # a side; the chart repeats
STROKES = 5000
CHART_SEED = 17
BARE_FROM_M, BARE_AT_M = 0.045, 0.075  # along the hand: the wrist is at 0, the knuckles at 0.1
PALMAR, REST = 3, slice(0, 2)  # of the fields


def with_hair(rng: np.random.Generator, points: Points, albedo: FloatArray) -> FloatArray:
    """(N, 3) albedo of points, darkened by hair in a share of draws."""
    if rng.random() >= HAIRY_SHARE:
        return albedo
    strength = float(rng.gamma(2.0, 0.3))
    colour = np.array([0.75, 0.95, 1.05]) * rng.uniform(0.6, 1.1)  # brown lets red through
    shift = rng.integers(0, CHART_PX, 2)
    own = points.fields
    pixels = ((own[:, REST] - MAP_ORIGIN_M) * MAP_PX_PER_M).astype(int) + shift
    stroke = _chart()[pixels[:, 1] % CHART_PX, pixels[:, 0] % CHART_PX]
    along = np.clip((BARE_AT_M - own[:, 1]) / (BARE_AT_M - BARE_FROM_M), 0, 1)
    share = strength * stroke * along * (1 - own[:, PALMAR]) * (points.material == SKIN)
    return np.asarray(albedo * np.exp(-share[:, None] * colour), np.float32)


@lru_cache(maxsize=1)
def _chart() -> FloatArray:
    """(CHART_PX, CHART_PX) of strokes, 1 in the middle of one; thin and thick patches."""
    rng = np.random.default_rng(CHART_SEED)
    chart = np.zeros((CHART_PX, CHART_PX), np.float32)
    starts = rng.uniform(0, CHART_PX, (STROKES, 2))
    steps = rng.normal([2.0, -7.0], [2.5, 2.5], (STROKES, 2))  # lying towards the little finger's side
    for start, step in zip(starts, steps, strict=True):
        ends = [tuple(np.round(point * 16).astype(int).tolist()) for point in (start, start + step)]
        cv2.line(chart, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, 4)
    patches = cv2.resize(rng.uniform(0.2, 1.3, (8, 8)).astype(np.float32), (CHART_PX, CHART_PX))
    return np.asarray(cv2.GaussianBlur(chart, (0, 0), 0.7) * patches, np.float32)
