"""Labels drawn over their images, for the eye: whether an image shows its label's hand cannot be told from numbers."""

from collections.abc import Sequence

import cv2
import numpy as np

from cliphand.arrays import ByteArray
from cliphand.config import CropConfig
from cliphand.data.freihand import FreiHand
from cliphand.data.overlay import draw_skeleton
from cliphand.data.views import evaluation_view

SHOWN = 24  # images of a split
COLUMNS = 6
TILE_PX = 224
CAPTION_PX = 18
AROUND = CropConfig(rule="joints", margin=2.0)  # the hand, and enough beside it to see one that lies elsewhere


def spread(count: int) -> list[int]:
    """Which of `count` images are drawn: evenly over all, the first and the last among them."""
    return [int(index) for index in np.unique(np.linspace(0, count - 1, SHOWN).round())]


def label_sheet(splits: Sequence[FreiHand]) -> ByteArray:
    """The skeletons of some images of each split with joints, `spread` over it, each named.

    Args:
        splits: at least one of them with joints.

    Returns:
        (H, W, 3) RGB.
    """
    rows = [row for data in splits if data.xyz is not None for row in _rows(data)]
    return np.vstack(rows)


def _rows(data: FreiHand) -> list[ByteArray]:
    tiles = [_tile(data, index) for index in spread(len(data))]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    return [np.hstack(tiles[start : start + COLUMNS]) for start in range(0, len(tiles), COLUMNS)]


def _tile(data: FreiHand, index: int) -> ByteArray:
    assert data.xyz is not None  # noqa: S101  # only such splits are drawn
    view = evaluation_view(data, index, crop=AROUND, side_px=TILE_PX)
    tile = draw_skeleton(view.crop, data.xyz[data.label_index(index)], view.K_crop)
    name = f"{data.split} {index:08d}"
    tile[-CAPTION_PX:] //= 4  # legible over any image
    cv2.putText(tile, name, (4, TILE_PX - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return tile
