"""A contact sheet of a data set: each photograph, its mesh and its skeleton drawn over it."""

import json
from pathlib import Path

import cv2
import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.overlay import draw_mesh, draw_skeleton
from cliphand.data.photograph import read_image
from cliphand.data.synthetic.labels import CHUNK, part_size, photo_path, read_part
from cliphand.data.synthetic.placement import SIDE_PX
from cliphand.data.synthetic.staging import staged
from cliphand.files import whole_file

ROWS, TRIPLES = 8, 4


def write_preview(root: Path, faces: IntArray, out: Path) -> None:
    """Write a PNG of the first training images of a set, staged or in their places."""
    tiles = []
    for index, (K, xyz, verts) in enumerate(_first_labels(root, ROWS * TRIPLES)):
        places = [photo_path(place, "training", index) for place in (staged(root), root)]
        image = read_image(next((path for path in places if path.exists()), places[-1]))
        tiles.append(np.hstack([image, draw_mesh(image, verts, K, faces), draw_skeleton(image, xyz, K)]))
    blank = np.zeros((SIDE_PX, 3 * SIDE_PX, 3), np.uint8)
    rows = -(-len(tiles) // TRIPLES)
    tiles += [blank] * (rows * TRIPLES - len(tiles))
    sheet = np.vstack([np.hstack(tiles[row * TRIPLES : (row + 1) * TRIPLES]) for row in range(rows)])
    with whole_file(out, None) as temporary:
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
