"""The gate's images: evenly chosen, cut as the model sees them, and without an error of their own in metres."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, TrueHand

from benchmarks.measure.photographs import Photographs
from cliphand.config import CropConfig
from cliphand.data.freihand import open_freihand
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from export.gate.images import GateRequest, read_gate_images

CROP = CropConfig()


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=10, size_px=64)


def test_an_engine_that_knows_the_truth_is_told_no_error(data: Path, hand_topology: HandTopology) -> None:
    gate = read_gate_images(GateRequest(data), CROP, SIDE)
    split = open_freihand(data, "evaluation")
    engine = TrueHand(Photographs(split, CROP, SIDE, "truth"))
    hands = gate.predict(engine, hand_topology.joint_regressor)
    assert gate.truth.verts is not None
    np.testing.assert_allclose(hands.verts, gate.truth.verts, atol=1e-6)  # float32 uvd at 0.7 m
    np.testing.assert_allclose(hands.xyz, gate.truth.xyz, atol=1e-6)


@pytest.mark.parametrize(("wanted", "chosen"), [(None, range(10)), (200, range(10)), (4, [0, 3, 6, 9]), (1, [0])])
def test_images_are_spread_over_the_split(data: Path, wanted: int | None, chosen: list[int]) -> None:
    gate = read_gate_images(GateRequest(data, images=wanted), CROP, SIDE)
    assert gate.indices == tuple(chosen)
    assert gate.names == tuple(f"{index:08d}.jpg" for index in chosen)
    assert gate.truth.xyz.shape == (len(chosen), 21, 3)


def test_labels_follow_the_chosen_images(data: Path) -> None:
    gate = read_gate_images(GateRequest(data, images=4), CROP, SIDE)
    split = open_freihand(data, "evaluation")
    assert split.xyz is not None
    np.testing.assert_array_equal(gate.truth.xyz, split.xyz[[0, 3, 6, 9]])


def test_data_without_joints_is_refused(freihand_folder: Callable[..., Path]) -> None:
    hidden = freihand_folder(size_px=64, evaluation_labels=False)
    with pytest.raises(InputError, match="compares with true joints"):
        read_gate_images(GateRequest(hidden), CROP, SIDE)


def test_no_image_at_all_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="images is 0"):
        GateRequest(data, images=0)
