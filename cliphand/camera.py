"""Between uvd and the camera frame, and the root's depth from one known length.

uvd: u and v are the pixel in the crop divided by the crop's side, d is the depth relative to the wrist in units
of the bone from wrist to middle MCP (joints 0 and 9). K is the (3, 3) matrix from camera frame to crop pixels and
may hold an in-plane rotation (crop matrix @ camera intrinsics), so that camera coordinates never change with a
crop. Metres throughout.
"""

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.hand import MIDDLE_MCP, MIDDLE_PIP, WRIST

MM_PER_M = 1000.0


def root_and_bone(joints_m: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Depth of the wrist and length of bone 0-9.

    Args:
        joints_m: (..., 21, 3) metres, camera frame.

    Returns:
        Two arrays (...,): root depth in metres, bone length in metres.
    """
    bone = np.linalg.norm(joints_m[..., WRIST, :] - joints_m[..., MIDDLE_MCP, :], axis=-1)
    return joints_m[..., WRIST, 2], bone


def camera_to_uvd(
    points_m: FloatArray, K: FloatArray, *, side_px: int, root_depth_m: FloatArray, bone_m: FloatArray
) -> FloatArray:
    """Project camera-frame points to uvd.

    Args:
        points_m: (..., N, 3) metres, camera frame, in front of the camera.
        K: (..., 3, 3) camera frame to crop pixels.
        side_px: side of the square crop in pixels.
        root_depth_m: (...,) depth of the wrist.
        bone_m: (...,) length of bone 0-9.

    Returns:
        (..., N, 3) uvd.
    """
    homogeneous = points_m @ np.swapaxes(K, -1, -2)
    uv = homogeneous[..., :2] / homogeneous[..., 2:] / side_px
    depth = (points_m[..., 2] - np.asarray(root_depth_m)[..., None]) / np.asarray(bone_m)[..., None]
    return np.concatenate([uv, depth[..., None]], axis=-1)


def pixel_rays(uv: FloatArray, K: FloatArray, *, side_px: int) -> FloatArray:
    """Camera-frame rays of unit depth through crop positions.

    Args:
        uv: (..., N, 2) position in the crop divided by its side.
        K: (..., 3, 3) camera frame to crop pixels.
        side_px: side of the square crop in pixels.

    Returns:
        (..., N, 3), third coordinate 1.
    """
    ones = np.ones((*uv.shape[:-1], 1), uv.dtype)
    rays = np.concatenate([uv * side_px, ones], axis=-1) @ np.swapaxes(np.linalg.inv(K), -1, -2)
    return np.asarray(rays / rays[..., 2:])


def uvd_to_camera(
    uvd: FloatArray, K: FloatArray, *, side_px: int, root_depth_m: FloatArray, bone_m: FloatArray
) -> FloatArray:
    """Inverse of `camera_to_uvd`: (..., N, 3) uvd to (..., N, 3) metres in the camera frame."""
    depth = uvd[..., 2] * np.asarray(bone_m)[..., None] + np.asarray(root_depth_m)[..., None]
    return pixel_rays(uvd[..., :2], K, side_px=side_px) * depth[..., None]


def root_from_scale(
    joints_uvd: FloatArray, K: FloatArray, *, side_px: int, scale_m: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Root depth and bone length from uvd, K and FreiHAND's published `scale` = |joint 9 - joint 10|.

    With rays r and root depth Z = zeta * bone, a joint is bone * r * (zeta + d). By the definition of d,
    |r_0 (zeta + d_0) - r_9 (zeta + d_9)| = 1: a quadratic in zeta. Its larger root is the hand's wherever
    |r_9| |d_9| < 1, which fails only for a middle MCP seen almost exactly behind or before the wrist, at the edge of
    a wide view; two depths then explain the same uvd. The published length fixes the bone. Noise can leave the
    quadratic without a real root; its vertex is then the closest approach and is used.

    Args:
        joints_uvd: (..., 21, 3) uvd.
        K: (..., 3, 3) camera frame to crop pixels.
        side_px: side of the square crop in pixels.
        scale_m: (...,) length of bone 9-10 in metres.

    Returns:
        Two arrays (...,): root depth in metres, length of bone 0-9 in metres.
    """
    rays = pixel_rays(joints_uvd[..., :2], K, side_px=side_px)
    offsets = rays * joints_uvd[..., 2:]  # r * d
    slope = rays[..., WRIST, :] - rays[..., MIDDLE_MCP, :]
    constant = offsets[..., WRIST, :] - offsets[..., MIDDLE_MCP, :]
    a = np.maximum((slope**2).sum(-1), 1e-12)  # 0 only where both joints fall on one pixel
    b = (slope * constant).sum(-1)
    c = (constant**2).sum(-1) - 1
    zeta = (-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a
    points = rays * zeta[..., None, None] + offsets  # in units of the bone
    unit = np.linalg.norm(points[..., MIDDLE_MCP, :] - points[..., MIDDLE_PIP, :], axis=-1)
    bone = np.asarray(scale_m) / np.maximum(unit, 1e-12)
    return zeta * bone, bone
