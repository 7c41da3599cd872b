"""Prompts that tell the order of the joints along each axis.

Source: paper section 3.1. CLIP reads 77 tokens; the paper's own wording takes 82 with all 21 joints, so the prompts
here begin with the direction alone, which fits.
"""

import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.hand import JOINT_NAMES, N_JOINTS

DIRECTIONS = ("left to right", "top to bottom", "near to far")  # along x, y and z


def sample_joints(count: int, rng: np.random.Generator) -> IntArray:
    """Sorted indices of `count` of the 21 joints."""
    if count == N_JOINTS:
        return np.arange(N_JOINTS)
    return np.sort(rng.choice(N_JOINTS, count, replace=False))


def axis_prompts(joints_uvd: FloatArray, chosen: IntArray) -> tuple[str, str, str]:
    """One prompt per axis, naming the chosen joints in ascending order of u, of v and of d.

    Args:
        joints_uvd: (21, 3), after every augmentation.
        chosen: indices of the joints to name; ties keep this order.
    """
    x, y, z = (_prompt(direction, joints_uvd[chosen, axis], chosen) for axis, direction in enumerate(DIRECTIONS))
    return x, y, z


def _prompt(direction: str, positions: FloatArray, chosen: IntArray) -> str:
    order = chosen[np.argsort(positions, kind="stable")]
    return f"{direction}: " + ", ".join(JOINT_NAMES[joint] for joint in order)
