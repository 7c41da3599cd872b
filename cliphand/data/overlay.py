"""Hands drawn over photographs: shaded meshes and skeletons."""

import colorsys

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray, IntArray
from cliphand.hand import BONES, FINGERS

MESH_RGB = np.array([120, 200, 255])
FINGER_RGB = [tuple(int(255 * c) for c in colorsys.hsv_to_rgb(f / len(FINGERS), 0.85, 1.0)) for f in range(5)]
SUBPIXEL_BITS = 4  # OpenCV draws at fixed-point positions


def project(points_m: FloatArray, K: FloatArray) -> FloatArray:
    """(N, 3) metres in the camera frame to (N, 2) pixels."""
    homogeneous = points_m @ K.T
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])


def draw_mesh(
    image: ByteArray, verts: FloatArray, K: FloatArray, faces: IntArray, *, opacity: float = 0.75
) -> ByteArray:
    """Draw a shaded mesh over an RGB image, the farthest faces first.

    Args:
        image: (H, W, 3) RGB.
        verts: (778, 3) metres, camera frame.
        K: (3, 3) camera frame to the image's pixels.
        faces: (1538, 3), counter-clockwise seen from outside.
        opacity: of the mesh, in [0, 1].
    """
    drawn = image.copy()
    pixels = _fixed_point(project(verts, K))
    corners = verts[faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    centres = corners.mean(axis=1)
    light = 0.35 + 0.65 * np.clip(-normals[:, 2], 0, 1)
    for face in np.argsort(-centres[:, 2], kind="stable"):
        if normals[face] @ centres[face] < 0:  # faces the camera
            colour = tuple(int(c) for c in MESH_RGB * light[face])
            cv2.fillConvexPoly(drawn, pixels[faces[face]], colour, cv2.LINE_AA, SUBPIXEL_BITS)
    return cv2.addWeighted(drawn, opacity, image, 1 - opacity, 0).astype(np.uint8)


def draw_skeleton(image: ByteArray, joints: FloatArray, K: FloatArray) -> ByteArray:
    """Draw bones (21, 3 metres) over an RGB image, one hue per finger, darker towards the wrist."""
    drawn = image.copy()
    pixels = [tuple(point) for point in _fixed_point(project(joints, K)).tolist()]
    for parent, joint in BONES:
        colour = tuple(int(c * (0.55 + 0.15 * ((joint - 1) % 4))) for c in FINGER_RGB[(joint - 1) // 4])
        cv2.line(drawn, pixels[parent], pixels[joint], colour, 2, cv2.LINE_AA, SUBPIXEL_BITS)
    for point in pixels:
        cv2.circle(drawn, point, 2 << SUBPIXEL_BITS, (255, 255, 255), -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return drawn


def _fixed_point(pixels: FloatArray) -> IntArray:
    return np.round(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)
