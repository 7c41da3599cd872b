"""From where a hand is seen, how large it is, and means of an error over ranges of either."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.camera import MM_PER_M
from cliphand.hand import INDEX_MCP, LITTLE_MCP, MIDDLE_MCP, MIDDLE_PIP, WRIST

MAX_ANGLE_DEG = 180.0


@dataclass(frozen=True, slots=True)
class RangeMean:
    """Mean error of the images within [low, high)."""

    low: float
    high: float
    mean: float
    images: int


def palm_angles_deg(joints_m: FloatArray) -> FloatArray:
    """Angle between a right hand's palm normal and the direction from the palm to the camera.

    The normal stands on wrist, index MCP and little MCP and points out of the palm.

    Args:
        joints_m: (B, 21, 3) metres, camera frame (x right, y down, z forward).

    Returns:
        (B,) degrees: 0 where the palm faces the camera, 90 seen from an edge, 180 where the back does.
    """
    wrist, index, little = (joints_m[:, joint] for joint in (WRIST, INDEX_MCP, LITTLE_MCP))
    normal = np.cross(index - wrist, little - wrist)
    to_camera = -(wrist + index + little) / 3
    lengths = np.linalg.norm(normal, axis=1) * np.linalg.norm(to_camera, axis=1)
    cosine = (normal * to_camera).sum(axis=1) / np.maximum(lengths, 1e-12)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def hand_scales_mm(joints_m: FloatArray) -> FloatArray:
    """(B,) length of bone 9-10 in millimetres, what FreiHAND calls the hand's scale; joints (B, 21, 3) in metres."""
    bones = joints_m[:, MIDDLE_MCP] - joints_m[:, MIDDLE_PIP]
    return np.asarray(np.linalg.norm(bones, axis=1) * MM_PER_M)


def range_means(positions: FloatArray, errors: FloatArray, edges: Sequence[float]) -> tuple[RangeMean, ...]:
    """Mean error of each range between neighbouring edges that holds an image; the last one includes its upper edge.

    Args:
        positions: (B,) where each image lies.
        errors: (B,) its error.
        edges: increasing.
    """
    found = []
    place = np.clip(np.searchsorted(edges, positions, side="right") - 1, 0, len(edges) - 2)
    inside = (positions >= edges[0]) & (positions <= edges[-1])
    for number in range(len(edges) - 1):
        chosen = errors[(place == number) & inside]
        if len(chosen):
            found.append(RangeMean(edges[number], edges[number + 1], float(chosen.mean()), len(chosen)))
    return tuple(found)


def even_edges(values: FloatArray, count: int) -> list[float]:
    """`count` ranges of one width over all values."""
    low, high = float(values.min()), float(values.max())
    return [float(edge) for edge in np.linspace(low, max(high, low + 1e-9), count + 1)]
