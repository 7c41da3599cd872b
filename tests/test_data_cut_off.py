from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cliphand.config import CropConfig
from cliphand.data.crop import crop_matrix
from cliphand.data.cut_off import cut_off_line, reach_over_crop
from cliphand.data.freihand import FreiHand, open_freihand
from cliphand.data.photograph import image_size
from cliphand.data.views import source_box


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> FreiHand:
    return open_freihand(freihand_folder(n_labels=3, versions=2), "training")


@pytest.mark.parametrize("crop", [CropConfig(side_px=90), CropConfig(rule="whole"), CropConfig(rule="mask", margin=1)])
def test_a_reach_of_one_is_the_edge_of_the_crop(data: FreiHand, crop: CropConfig) -> None:
    reach = reach_over_crop(data, crop)
    assert reach.shape == (len(data), 21)
    for index in range(len(data)):
        shape = image_size(data.image_path(index))
        matrix = crop_matrix(source_box(data, index, image_shape=shape, crop=crop), 64)
        joints = np.column_stack([data.joints_uv(data.label_index(index)), np.ones(21)]) @ matrix.T
        inside = ((joints[:, :2] > -0.5) & (joints[:, :2] < 63.5)).all(axis=1)
        assert ((reach[index] < 1) == inside).all()


def test_a_crop_that_holds_every_hand_is_worth_no_line(data: FreiHand) -> None:
    assert cut_off_line(data, CropConfig(rule="whole")) is None
    assert cut_off_line(data, CropConfig(rule="joints", margin=1.25)) is None


def test_a_crop_that_is_too_small_is_told_with_the_side_that_holds_them(data: FreiHand) -> None:
    small = CropConfig(side_px=60)
    line = cut_off_line(data, small)
    share = np.mean(reach_over_crop(data, small) > 1)
    assert line is not None
    assert f"leaves {share:.0%} of the joints of {data.root} outside: 60 px in the middle; --crop-side " in line
    side_px = float(line.split("--crop-side ")[1].split()[0])
    assert cut_off_line(data, CropConfig(side_px=side_px)) is None
    assert cut_off_line(data, CropConfig(side_px=side_px - 20)) is not None
