"""Predictions to look at: photograph, predicted mesh, the same from the side, and the truth."""

from pathlib import Path

import numpy as np

from benchmarks.measure.accuracy import predict
from benchmarks.measure.photographs import Photographs
from cliphand.arrays import ByteArray, FloatArray, IntArray
from cliphand.data.freihand import open_freihand
from cliphand.data.overlay import draw_mesh, draw_skeleton
from cliphand.data.photograph import read_image
from cliphand.kinds import QUICKSTART_PICTURE
from cliphand.pictures import PAPER, caption, write_png
from engines.artefact.manifest import GRAPH_NAME, open_hand, read_manifest
from engines.open import open_engine

MOST = 12  # photographs
COLUMNS = ("photograph", "predicted mesh", "turned by 90 degrees", "predicted skeleton", "true mesh")


def write_pictures(export: Path, data_dir: Path, out: Path) -> None:
    """Draw the first held-out photographs with what an exported model makes of them.

    Args:
        export: export folder.
        data_dir: folder in FreiHAND's layout with a labelled evaluation split.
        out: PNG to write.
    """
    manifest = read_manifest(export)
    topology = open_hand(manifest, export)
    data = open_freihand(data_dir, "evaluation")
    photographs = Photographs(data=data, crop=manifest.crop, input_size=manifest.input_size, root="truth")
    count = min(MOST, len(data))
    with open_engine(export / GRAPH_NAME) as engine:
        hands = predict({GRAPH_NAME: engine}, photographs, topology.joint_regressor, n_images=count)[GRAPH_NAME]
    rows = [np.hstack([caption(column, read_image(data.image_path(0)).shape[1]) for column in COLUMNS])]
    for index in range(count):
        label = data.label_index(index)
        truth = None if data.verts is None else data.verts[label]
        rows.append(
            _row(
                read_image(data.image_path(index)),
                data.K[label],
                topology.faces,
                verts=hands.verts[index],
                xyz=hands.xyz[index],
                truth=truth,
            )
        )
    write_png(out, np.vstack(rows), QUICKSTART_PICTURE)


def _row(
    image: ByteArray, K: FloatArray, faces: IntArray, *, verts: FloatArray, xyz: FloatArray, truth: FloatArray | None
) -> ByteArray:
    """One photograph in all columns."""
    blank = np.full_like(image, PAPER)
    return np.hstack(
        [
            image,
            draw_mesh(image, verts, K, faces),
            draw_mesh(blank, turn(verts), K, faces, opacity=1.0),
            draw_skeleton(image, xyz, K),
            blank if truth is None else draw_mesh(image, truth, K, faces),
        ]
    )


def turn(verts: FloatArray) -> FloatArray:
    """(778, 3) metres turned by 90 degrees about the vertical through their centre: the hand seen from its side."""
    centre = verts.mean(axis=0)
    x, y, z = (verts - centre).T
    return np.asarray(centre + np.stack([z, y, -x], axis=1))
