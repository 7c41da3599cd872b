"""Hands of photographs without labels: positions always, metres where camera and one length are known."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from dots_hand import DOTS_SIDE, DotsEngine, draw_dots
from linear_hand import SIDE, TrueHand

from benchmarks.measure.photographs import Photographs
from cliphand.config import CropConfig
from cliphand.data.crop import Box
from cliphand.data.freihand import FreiHand, open_freihand
from cliphand.errors import InputError
from cliphand.hand import MIDDLE_MCP, WRIST
from engines.base import HandOutput
from engines.hands.photograph_camera import Camera
from engines.hands.reader import Hand, read_hands
from engines.hands.steadiness import DOUBT_BELOW, MOVES, confidence, movement


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> FreiHand:
    return open_freihand(freihand_folder(n_labels=3), "evaluation")


class Expecting(TrueHand):
    """Gives a photograph's true uvd for its crop and for its moved crops alike, as if it had not looked."""

    calls = 0

    def __call__(self, images: np.ndarray) -> HandOutput:
        if self.calls % (1 + len(MOVES)) == 0:
            self.last = super().__call__(images)
        self.calls += 1
        return self.last


class Looking(Expecting):
    """Gives the uvd that each moved crop shows."""

    def __call__(self, images: np.ndarray) -> HandOutput:
        place = self.calls % (1 + len(MOVES))
        output = super().__call__(images)
        if place == 0:
            return output
        (x, y, zoom), joints = MOVES[place - 1], output.joints_uvd.copy()
        middle = (SIDE - 1) / 2 / SIDE
        joints[..., :2] = (joints[..., :2] - middle - (x, y)) / zoom + middle
        return HandOutput(joints, output.verts_uvd)


def hands(data: FreiHand, *, kind: type[TrueHand] = Expecting, **options: object) -> list[Hand]:
    photographs = Photographs(data=data, crop=CropConfig(), input_size=SIDE, root="truth")
    paths = [data.image_path(index) for index in range(len(data))]
    return list(read_hands(kind(photographs), paths, CropConfig(), model=Path("model.onnx"), **options))


def test_a_hand_that_stays_when_the_crop_moves_is_sure_and_one_that_moves_along_is_not(data: FreiHand) -> None:
    for seen, expected in zip(hands(data, kind=Looking), hands(data), strict=True):
        assert seen.confidence > 0.99
        assert expected.confidence < 0.7  # these hands fill the crop: the moves are small beside them
        np.testing.assert_array_equal(seen.joints_px, expected.joints_px)


def test_confidence_falls_with_the_movement_and_a_point_is_no_hand() -> None:
    assert [confidence(moved) for moved in (0, 0.08, float("inf"))] == [1, 0.5, 0]
    assert confidence(0.067) > DOUBT_BELOW > confidence(0.098)
    assert movement(np.zeros((21, 2)), np.ones((2, 21, 2))) == float("inf")


def pixels(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    homogeneous = points @ K.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def test_with_camera_and_bone_the_hand_is_where_it_was(data: FreiHand) -> None:
    for index in range(3):
        found = hands(data, camera=Camera(float(data.scale[index]), K=data.K[index]))[index]
        assert found.metric
        np.testing.assert_allclose(found.joints, data.xyz[index], atol=1e-5)
        np.testing.assert_allclose(found.verts, data.verts[index], atol=1e-5)


def test_positions_in_the_photograph_need_no_camera(data: FreiHand) -> None:
    for index, found in enumerate(hands(data)):
        np.testing.assert_allclose(found.joints_px, pixels(data.xyz[index], data.K[index]), atol=1e-3)
        np.testing.assert_allclose(found.verts_px, pixels(data.verts[index], data.K[index]), atol=1e-3)


def test_without_a_camera_the_hand_is_in_bones_from_the_wrist(data: FreiHand) -> None:
    found = hands(data)[0]
    assert not found.metric
    np.testing.assert_allclose(found.joints[WRIST], 0, atol=1e-12)
    assert np.linalg.norm(found.joints[MIDDLE_MCP]) == pytest.approx(1, abs=1e-6)
    # The picture's frame shows it where it is.
    np.testing.assert_allclose(pixels(found.drawn, found.K), found.verts_px, atol=1e-6)


def test_a_focal_length_puts_the_principal_point_into_the_middle() -> None:
    K = Camera(0.03, focal_px=500.0).matrix((480, 640))
    assert K.tolist() == [[500, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]
    with pytest.raises(ValueError, match="needs K or a focal length"):
        Camera(0.03).matrix((480, 640))


def test_a_box_says_where_to_look(data: FreiHand) -> None:
    found, whole = hands(data, box=Box(100.0, 120.0, 80.0))[0], hands(data)[0]
    # The same uvd, read in another square: the crop's middle is the box's.
    middle = (whole.joints_uvd[0, :2] * SIDE - (SIDE - 1) / 2) * 80 / SIDE + (100, 120)
    np.testing.assert_allclose(found.joints_px[0], middle, atol=1e-6)


def test_a_photograph_much_larger_than_the_training_pictures_needs_a_box(data: FreiHand, tmp_path: Path) -> None:
    path = tmp_path / "phone.png"
    assert cv2.imwrite(str(path), np.full((900, 1200, 3), 128, np.uint8))
    reader = TrueHand(Photographs(data=data, crop=CropConfig(), input_size=SIDE, root="truth"))
    with pytest.raises(InputError, match=r"phone.png is 1200 x 900 px; .*central 130 px.*--box X Y SIDE"):
        list(read_hands(reader, [path], CropConfig(), model=Path("model.onnx")))


@pytest.mark.parametrize("angle_deg", [-170, -60, 0, 45, 120])
def test_a_model_that_looks_twice_sees_the_hand_upright_and_finds_it_where_it_is(
    angle_deg: float, tmp_path: Path
) -> None:
    wrist = np.array([150.0, 120.0])
    knuckle = wrist + 30 * np.array([np.sin(np.radians(angle_deg)), -np.cos(np.radians(angle_deg))])
    assert cv2.imwrite(str(tmp_path / "dots.png"), draw_dots(300, tuple(wrist), tuple(knuckle))[..., ::-1])
    crop, engine = CropConfig(second_look=True), DotsEngine()
    (hand,) = read_hands(engine, [tmp_path / "dots.png"], crop, model=Path("model.onnx"), box=Box(150.0, 120.0, 128.0))
    np.testing.assert_allclose(hand.joints_px[[WRIST, MIDDLE_MCP]], [wrist, knuckle], atol=1.0)
    right, down = (hand.joints_uvd[MIDDLE_MCP] - hand.joints_uvd[WRIST])[:2] * DOTS_SIDE
    assert abs(right) < 1 < -down
    assert hand.confidence > 0.9  # the moved crops are turned alike, or the dots would seem to move
    assert len(engine.shown) == 2 + len(MOVES)
