import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dots_hand import DOTS_SIDE, DotsEngine, draw_dots
from linear_hand import SIDE, TrueHand

from benchmarks.measure.photographs import Photographs, Root, end_to_end, look, pipelined, read_batch, to_metres
from cliphand.config import CropConfig
from cliphand.data.freihand import FreiHand, open_freihand
from cliphand.errors import InputError
from cliphand.hand import MIDDLE_MCP, WRIST
from engines.hands.prepare import Preparer


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


@pytest.fixture
def dots(freihand_folder: Callable[..., Path]) -> Photographs:
    """Photographs that show wrist and middle knuckle as dots, for a model that looks twice."""
    data = open_freihand(freihand_folder(n_labels=3), "evaluation")
    for index in range(3):
        wrist, knuckle = (pixel(data, index, joint) for joint in (WRIST, MIDDLE_MCP))
        assert cv2.imwrite(str(data.image_path(index)), draw_dots(224, wrist, knuckle)[..., ::-1])
    crop = CropConfig(rule="joints", margin=2.0, second_look=True)
    return Photographs(data=data, crop=crop, input_size=DOTS_SIDE, root="truth")


def pixel(data: FreiHand, index: int, joint: int) -> tuple[float, float]:
    u, v, w = data.K[index] @ data.xyz[index, joint]
    return float(u / w), float(v / w)


def test_the_second_look_shows_hands_upright_and_its_k_projects_onto_them(dots: Photographs) -> None:
    engine = DotsEngine()
    first = read_batch(dots, range(3))
    batch, output = look(engine, dots, first)
    assert len(engine.shown) == 2
    for index in range(3):
        right, down = (output.joints_uvd[index, MIDDLE_MCP] - output.joints_uvd[index, WRIST])[:2]
        assert abs(right) < 0.02 < -down
        for joint in (WRIST, MIDDLE_MCP):
            u, v, w = batch.K[index] @ dots.data.xyz[index, joint]
            np.testing.assert_allclose(output.joints_uvd[index, joint, :2] * DOTS_SIDE, (u / w, v / w), atol=0.4)
    assert np.abs(first.K - batch.K).max() > 1  # they did not stand upright before


def test_every_way_from_photographs_to_metres_looks_twice(dots: Photographs) -> None:
    indices = range(3)
    batch, output = look(DotsEngine(), dots, read_batch(dots, indices))
    expected = to_metres(dots, indices, batch=batch, output=output)[1]
    np.testing.assert_array_equal(end_to_end(DotsEngine(), dots, indices), expected)
    with Preparer(dots.crop, DOTS_SIDE, workers=2) as preparer:
        for verts in pipelined(DotsEngine(), dots, [indices] * 2, preparer):
            np.testing.assert_array_equal(verts, expected)


def test_a_model_that_looks_once_is_called_once(dots: Photographs) -> None:
    once = dataclasses.replace(dots, crop=dataclasses.replace(dots.crop, second_look=False))
    engine, first = DotsEngine(), read_batch(once, range(3))
    assert look(engine, once, first)[0] is first
    assert len(engine.shown) == 1
