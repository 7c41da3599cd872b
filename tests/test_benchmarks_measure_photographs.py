import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from linear_hand import SIDE, TrueHand

from benchmarks.measure.photographs import Photographs, Root, end_to_end, read_batch, to_metres
from cliphand.config import CropConfig
from cliphand.data.freihand import FreiHand, open_freihand
from cliphand.errors import InputError


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> FreiHand:
    return open_freihand(freihand_folder(n_labels=3, versions=2), "training")


def photographs_of(data: FreiHand, *, rule: str = "whole", root: Root = "truth") -> Photographs:
    return Photographs(data=data, crop=CropConfig(rule=rule), input_size=SIDE, root=root)


@pytest.mark.parametrize("rule", ["whole", "centre", "mask", "joints"])
@pytest.mark.parametrize("root", ["truth", "scale"])
def test_true_uvd_comes_back_as_the_labels_in_metres_after_any_crop(data: FreiHand, rule: str, root: Root) -> None:
    photographs = photographs_of(data, rule=rule, root=root)
    indices = range(6)
    batch = read_batch(photographs, indices)
    joints, verts = to_metres(photographs, indices, batch=batch, output=TrueHand(photographs)(batch.images))
    labels = [0, 1, 2, 0, 1, 2]
    # float32 uvd: 6e-8 of a crop some 0.2 m wide, and of depth 0.7 m solved from it.
    np.testing.assert_allclose(joints, data.xyz[labels], atol=1e-6 if root == "truth" else 1e-5)
    np.testing.assert_allclose(verts, data.verts[labels], atol=1e-6 if root == "truth" else 1e-5)


@pytest.mark.parametrize("rule", ["whole", "centre", "mask", "joints"])
def test_k_projects_a_joint_onto_the_pixel_that_shows_it(freihand_folder: Callable[..., Path], rule: str) -> None:
    data = open_freihand(freihand_folder(n_labels=2, versions=2), "training")
    points = data.xyz[:, 9]
    for index in range(4):
        u, v, w = data.K[index % 2] @ points[index % 2]
        picture = np.zeros((224, 224, 3), np.uint8)
        centre = (round(u / w * 16), round(v / w * 16))
        cv2.circle(picture, centre, 4 * 16, (255, 255, 255), cv2.FILLED, cv2.LINE_AA, shift=4)
        assert cv2.imwrite(str(data.image_path(index)), picture)
    photographs = Photographs(data=data, crop=CropConfig(rule=rule, side_px=200), input_size=128, root="truth")
    batch = read_batch(photographs, range(4))
    light = batch.images.mean(axis=1) + 1
    light[light < 0.2] = 0  # JPEG ringing
    row, column = np.mgrid[:128, :128]
    shown = np.stack([(light * axis).sum(axis=(1, 2)) / light.sum(axis=(1, 2)) for axis in (column, row)], axis=-1)
    projected = np.einsum("bij,bj->bi", batch.K, points[[0, 1, 0, 1]])
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], shown, atol=0.2)


@pytest.mark.parametrize("rule", ["mask", "joints"])
def test_a_box_around_the_hand_holds_it(data: FreiHand, rule: str) -> None:
    batch = read_batch(photographs_of(data, rule=rule), range(6))
    projected = data.xyz[[0, 1, 2, 0, 1, 2]] @ np.swapaxes(batch.K, 1, 2)
    uv = projected[..., :2] / projected[..., 2:]
    assert uv.min() > 0.1 * SIDE
    assert uv.max() < 0.9 * SIDE


def test_the_mask_rule_cuts_around_the_mask_of_the_sample(freihand_folder: Callable[..., Path]) -> None:
    data = open_freihand(freihand_folder(n_labels=2, versions=2), "training")
    mask = np.zeros((224, 224), np.uint8)
    mask[96:136, 48:80] = 255  # 40 px high: a box of 60 px about (63.5, 115.5)
    assert cv2.imwrite(str(data.mask_path(3)), mask)
    K = read_batch(photographs_of(data, rule="mask"), [3]).K[0]
    zoom, middle = SIDE / 60, (SIDE - 1) / 2
    cut = np.array([[zoom, 0, middle - zoom * 63.5], [0, zoom, middle - zoom * 115.5], [0, 0, 1]])
    np.testing.assert_allclose(K, cut @ data.K[1], atol=1e-9)


def test_the_whole_rule_shrinks_the_image_to_the_models_side(data: FreiHand) -> None:
    K = read_batch(photographs_of(data), [5]).K[0]
    zoom = SIDE / 224
    edge = (zoom - 1) / 2  # an integer is the centre of a pixel: the image reaches from -0.5 to 223.5
    np.testing.assert_allclose(K, np.array([[zoom, 0, edge], [0, zoom, edge], [0, 0, 1]]) @ data.K[2], atol=1e-9)


def test_crops_are_normalised_float32_in_the_order_asked_for(data: FreiHand) -> None:
    photographs = photographs_of(data)
    both, second = read_batch(photographs, [0, 4]), read_batch(photographs, [4])
    assert both.images.shape == (2, 3, SIDE, SIDE)
    assert both.images.dtype == np.float32
    assert both.images.flags.c_contiguous
    assert -1 <= both.images.min() < 0 < both.images.max() <= 1
    np.testing.assert_array_equal(both.images[1:], second.images)
    np.testing.assert_array_equal(both.K[1:], second.K)


def test_end_to_end_is_what_its_parts_give(data: FreiHand) -> None:
    photographs = photographs_of(data)
    verts = end_to_end(TrueHand(photographs), photographs, [0, 1])
    np.testing.assert_allclose(verts, data.verts[:2], atol=1e-6)


@pytest.mark.parametrize(("root", "field", "other"), [("truth", "xyz", "scale"), ("scale", "scale", "truth")])
def test_a_missing_label_is_named_with_the_other_protocol(data: FreiHand, root: Root, field: str, other: str) -> None:
    bare = dataclasses.replace(data, **{field: None})
    with pytest.raises(InputError, match=rf"--root {root} needs .*training_{field}\.json.*choose --root {other}"):
        photographs_of(bare, root=root)


def test_the_mask_rule_without_masks_is_refused(data: FreiHand) -> None:
    photographs = photographs_of(dataclasses.replace(data, has_masks=False), rule="mask")
    with pytest.raises(InputError, match="needs a mask"):
        read_batch(photographs, [0])


def test_the_joints_rule_without_joints_is_refused(data: FreiHand) -> None:
    photographs = photographs_of(dataclasses.replace(data, xyz=None), rule="joints", root="scale")
    with pytest.raises(InputError, match="needs joint labels"):
        read_batch(photographs, [0])
