"""Dense targets of a crop: for each cell, how much of the hand it shows, which part of the hand, and how deep.

A point of the hand is named by where it lies on the template, the hand at rest: each axis of the box around the
template spans [-1, 1], with a little room. The same skin has the same coordinates in every pose, view and shape.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.data.crop import resize_matrix
from cliphand.data.layers.store import LAYER_PX, SURFACE_PX

STRIDE = 4
ROOM = 1.05  # the rendered skin is finer than the template's 778 vertices, and reaches a little beyond their box
DEPTH_SPAN = 2.5  # bones (0-9) in front of the wrist or behind it
MIDDLE = 127.5
LEAST_SEEN = 1e-3  # of a cell, below which its coordinates are none


@dataclass(frozen=True, slots=True, eq=False)
class DenseTargets:
    """What a crop shows of the hand, in S = side_px / STRIDE cells a side.

    Attributes:
        coordinates: (3, S, S) float32 in [-1, 1], mean place on the template of the hand that a cell shows; 0 where
            it shows none.
        depth: (S, S) float32, mean depth from the wrist in bones (0-9); 0 where it shows none.
        seen: (S, S) float32 in [0, 1], share of the cell that shows the hand: not its forearm, not what covers it.
    """

    coordinates: FloatArray
    depth: FloatArray
    seen: FloatArray


def canonical(points: FloatArray, template: FloatArray) -> FloatArray:
    """(N, 3) points of the hand at rest as coordinates in [-1, 1], by the box around the (778, 3) template."""
    low, high = template.min(axis=0), template.max(axis=0)
    return np.asarray((points - (low + high) / 2) / (ROOM * (high - low) / 2))


def to_bytes(coordinates: FloatArray, depth: FloatArray) -> ByteArray:
    """(..., 4) uint8 of canonical coordinates (..., 3) and depth in bones (...)."""
    both = np.concatenate([coordinates, depth[..., None] / DEPTH_SPAN], axis=-1)
    return np.asarray(np.clip(np.rint(MIDDLE * (1 + both)), 0, 255), np.uint8)


def dense_targets(surface: ByteArray, matrix: FloatArray, seen: ByteArray) -> DenseTargets:
    """The targets of a crop.

    Args:
        surface: (SURFACE_PX, SURFACE_PX, 4) uint8, from `Layers`.
        matrix: (3, 3) layer pixels to crop pixels.
        seen: (side_px, side_px) uint8, share of each crop pixel that shows the hand.
    """
    side_px = len(seen)
    cells = side_px // STRIDE
    samples = 2 * cells  # a side: four samples a cell, each as large as a pixel of `surface` or larger
    finer = resize_matrix(side_px, samples) @ matrix @ resize_matrix(SURFACE_PX, LAYER_PX)
    values = cv2.warpAffine(surface, finer[:2], (samples, samples), flags=cv2.INTER_LINEAR).astype(np.float32)
    weight = cv2.resize(seen, (samples, samples), interpolation=cv2.INTER_AREA).astype(np.float32)
    total = cv2.resize(weight, (cells, cells), interpolation=cv2.INTER_AREA)
    sums = cv2.resize(values * weight[..., None], (cells, cells), interpolation=cv2.INTER_AREA)
    shown = total > 255 * LEAST_SEEN
    mean = (sums / np.maximum(total, 1e-6)[..., None] / MIDDLE - 1) * shown[..., None]
    return DenseTargets(
        coordinates=np.ascontiguousarray(mean[..., :3].transpose(2, 0, 1)),
        depth=np.ascontiguousarray(DEPTH_SPAN * mean[..., 3]),
        seen=total / 255,
    )
