"""A contact sheet of a data set: each photograph, its mesh and its skeleton drawn over it."""

import colorsys
import json
from pathlib import Path

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray, IntArray
from cliphand.data.synthetic.camera import SIDE_PX, project
from cliphand.data.synthetic.labels import CHUNK, part_size, photo_path, read_part
from cliphand.data.synthetic.mesh import face_normals, unit
from cliphand.errors import InputError
from cliphand.files import whole_file
from cliphand.hand import BONES

ROWS, TRIPLES = 8, 4
MESH_RGB = np.array([120, 200, 255])
FINGER_RGB = [tuple(int(255 * c) for c in colorsys.hsv_to_rgb(f / 5, 0.85, 1.0)) for f in range(5)]


def draw_mesh(
    image: ByteArray, verts: FloatArray, K: FloatArray, faces: IntArray, *, opacity: float = 0.75
) -> ByteArray:
    """Draw a shaded mesh over an RGB image.

    Args:
        image: (H, W, 3) RGB.
        verts: (778, 3) metres, camera frame.
        K: (3, 3) camera frame to the image's pixels.
        faces: (1538, 3).
        opacity: of the mesh, in [0, 1].
    """
    drawn = image.copy()
    pixels = np.round(project(verts, K) * 16).astype(np.int32)
    normals = unit(face_normals(verts, faces))
    centres = verts[faces].mean(axis=1)
    light = 0.35 + 0.65 * np.clip(-normals[:, 2], 0, 1)
    for face in np.argsort(-centres[:, 2], kind="stable"):
        if normals[face] @ centres[face] < 0:  # faces the camera
            colour = tuple(int(c) for c in MESH_RGB * light[face])
            cv2.fillConvexPoly(drawn, pixels[faces[face]], colour, cv2.LINE_AA, 4)
    return cv2.addWeighted(drawn, opacity, image, 1 - opacity, 0).astype(np.uint8)


def draw_skeleton(image: ByteArray, joints: FloatArray, K: FloatArray) -> ByteArray:
    """Draw bones (21, 3 metres) over an RGB image, one hue per finger, darker towards the wrist."""
    drawn = image.copy()
    pixels = np.round(project(joints, K) * 16).astype(int)
    for parent, joint in BONES:
        colour = tuple(int(c * (0.55 + 0.15 * ((joint - 1) % 4))) for c in FINGER_RGB[(joint - 1) // 4])
        cv2.line(drawn, tuple(pixels[parent].tolist()), tuple(pixels[joint].tolist()), colour, 2, cv2.LINE_AA, 4)
    for point in pixels:
        cv2.circle(drawn, tuple(point.tolist()), 32, (255, 255, 255), -1, cv2.LINE_AA, 4)
    return drawn


def write_preview(root: Path, faces: IntArray) -> None:
    """Write `preview.png` from the first training images of a set."""
    tiles = []
    for index, (K, xyz, verts) in enumerate(_first_labels(root, ROWS * TRIPLES)):
        photo = cv2.imread(str(photo_path(root, "training", index)), cv2.IMREAD_COLOR)
        if photo is None:
            raise InputError(f"{photo_path(root, 'training', index)} is missing or damaged; make the set again.")
        image = photo[..., ::-1].astype(np.uint8)
        tiles.append(np.hstack([image, draw_mesh(image, verts, K, faces), draw_skeleton(image, xyz, K)]))
    blank = np.zeros((SIDE_PX, 3 * SIDE_PX, 3), np.uint8)
    rows = -(-len(tiles) // TRIPLES)
    tiles += [blank] * (rows * TRIPLES - len(tiles))
    sheet = np.vstack([np.hstack(tiles[row * TRIPLES : (row + 1) * TRIPLES]) for row in range(rows)])
    with whole_file(root / "preview.png") as temporary:
        if not cv2.imwrite(str(temporary), sheet[..., ::-1]):
            raise OSError(f"OpenCV could not write {temporary}")


def _first_labels(root: Path, count: int) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
    """K, xyz and verts of the first training images, from their parts."""
    found: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for part in range(-(-count // CHUNK)):
        if part_size(root, "training", part):
            K, xyz, verts = (np.array(json.loads(f"[{text}]")) for text in read_part(root, "training", part)[:3])
            found += zip(K, xyz, verts, strict=True)
    return found[:count]
