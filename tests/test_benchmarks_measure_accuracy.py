import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE, TrueHand, expected, save_onnx

from benchmarks.measure.accuracy import (
    Accuracy,
    PredictedHands,
    per_image_pa_pjpe_mm,
    predict,
    regressor_pa_pjpe_mm,
    score,
    vertex_distances_mm,
)
from benchmarks.measure.photographs import Photographs, Root, read_batch
from cliphand.camera import root_and_bone, uvd_to_camera
from cliphand.config import CropConfig
from cliphand.data.freihand import FreiHand, open_freihand
from cliphand.errors import InputError
from cliphand.hand import HandTopology, load_hand
from engines.runtimes.ort import OrtEngine

ALIGNED_FLOOR_MM = 1e-5  # the evaluator adds 1e-8 to the norms that it aligns by


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> FreiHand:
    return open_freihand(freihand_folder(n_labels=11), "evaluation")


@pytest.fixture(scope="module")
def truth(data: FreiHand) -> PredictedHands:
    return PredictedHands(xyz=data.xyz, verts=data.verts, lixel_xyz=data.xyz)


def photographs_of(data: FreiHand, root: Root = "truth") -> Photographs:
    return Photographs(data=data, crop=CropConfig(), input_size=SIDE, root=root)


@pytest.mark.parametrize("root", ["truth", "scale"])
def test_an_engine_that_knows_the_truth_has_no_error(data: FreiHand, hand_topology: HandTopology, root: Root) -> None:
    photographs = photographs_of(data, root)
    engines = {"truth": TrueHand(photographs)}
    predictions = predict(engines, photographs, hand_topology.joint_regressor, n_images=len(data))
    accuracy = score(predictions["truth"], data)
    # float32 uvd: about 1e-4 mm across, 1e-2 mm along the solved depth.
    assert accuracy.pjpe_mm == pytest.approx(0, abs=1e-3 if root == "truth" else 2e-2)
    assert accuracy.pa_pjpe_mm == pytest.approx(0, abs=1e-3)
    assert accuracy.pa_pvpe_mm == pytest.approx(0, abs=1e-3)
    assert accuracy.lixel_pa_pjpe_mm == pytest.approx(0, abs=1e-3)
    assert (accuracy.f_at_5, accuracy.f_at_15, accuracy.warnings) == (1, 1, ())


def test_a_shift_of_one_centimetre_counts_fully_unless_aligned(data: FreiHand, truth: PredictedHands) -> None:
    offset = np.array([0.0, 0.01, 0.0])
    moved = PredictedHands(truth.xyz + offset, truth.verts + offset, truth.lixel_xyz + offset)
    accuracy = score(moved, data)
    assert accuracy.pjpe_mm == pytest.approx(10)
    assert accuracy.pvpe_mm == pytest.approx(10)
    assert accuracy.lixel_pjpe_mm == pytest.approx(10)
    assert accuracy.pa_pjpe_mm == pytest.approx(0, abs=ALIGNED_FLOOR_MM)


def test_mesh_joints_and_lixel_joints_are_scored_apart(data: FreiHand, truth: PredictedHands) -> None:
    bent = truth.xyz.copy()
    bent[:, 8] += 0.021
    wrong_lixel = score(dataclasses.replace(truth, lixel_xyz=bent), data)
    assert wrong_lixel.pa_pjpe_mm == pytest.approx(0, abs=ALIGNED_FLOOR_MM)
    assert wrong_lixel.lixel_pa_pjpe_mm > 1
    assert score(dataclasses.replace(truth, xyz=bent), data).lixel_pa_pjpe_mm == pytest.approx(0, abs=ALIGNED_FLOOR_MM)


def test_the_areas_name_their_ranges(data: FreiHand, truth: PredictedHands) -> None:
    rng = np.random.default_rng(0)
    noisy = dataclasses.replace(truth, xyz=truth.xyz + rng.normal(size=truth.xyz.shape) * 0.01)
    areas = score(noisy, data).pa_pjpe_auc
    assert list(areas) == ["0-50 mm", "0-30 mm", "20-50 mm"]
    assert areas["0-30 mm"] < areas["0-50 mm"] < areas["20-50 mm"]


def test_an_engine_is_scored_on_what_it_says(data: FreiHand, hand_topology: HandTopology, tmp_path: Path) -> None:
    photographs = photographs_of(data)
    with OrtEngine(save_onnx(tmp_path / "model.onnx"), threads=1) as engine:
        predictions = predict({"ort": engine}, photographs, hand_topology.joint_regressor, n_images=9)["ort"]
    batch = read_batch(photographs, range(9))
    depth, bone = root_and_bone(data.xyz[:9])
    verts, lixel = (
        uvd_to_camera(expected(batch.images, name), batch.K, side_px=SIDE, root_depth_m=depth, bone_m=bone)
        for name in ("verts_uvd", "joints_uvd")
    )
    np.testing.assert_allclose(predictions.verts, verts, atol=1e-6)
    np.testing.assert_allclose(predictions.lixel_xyz, lixel, atol=1e-6)
    np.testing.assert_allclose(predictions.xyz, hand_topology.joint_regressor @ verts, atol=1e-6)


def test_progress_counts_images_to_the_end(data: FreiHand, hand_topology: HandTopology) -> None:
    seen: list[int] = []
    photographs = photographs_of(data)
    predict(
        {"truth": TrueHand(photographs)},
        photographs,
        hand_topology.joint_regressor,
        n_images=11,
        progress=seen.append,
    )
    assert seen == [8, 11]


def test_without_vertices_the_mesh_figures_are_none(data: FreiHand, truth: PredictedHands) -> None:
    accuracy = score(truth, dataclasses.replace(data, verts=None))
    assert (accuracy.pa_pvpe_mm, accuracy.pvpe_mm, accuracy.f_at_5, accuracy.f_at_15) == (None,) * 4
    assert accuracy.pa_pjpe_mm == pytest.approx(0, abs=ALIGNED_FLOOR_MM)


def test_without_joints_nothing_is_scored(data: FreiHand, truth: PredictedHands) -> None:
    assert score(truth, dataclasses.replace(data, xyz=None)) == Accuracy()


def test_an_output_that_is_not_finite_is_counted_and_not_scored(data: FreiHand, truth: PredictedHands) -> None:
    verts = truth.verts.copy()
    verts[3, 5, 1], verts[7, 0, 0] = np.nan, np.inf
    accuracy = score(dataclasses.replace(truth, verts=verts), data)
    assert (accuracy.nonfinite_images, accuracy.pa_pjpe_mm) == (2, None)
    assert accuracy.warnings == ("2 images gave NaN or infinity",)
    assert vertex_distances_mm(dataclasses.replace(truth, verts=verts), truth) is None


def test_a_mirrored_hand_is_warned_of(data: FreiHand, truth: PredictedHands) -> None:
    flip = np.array([-1.0, 1.0, 1.0])
    warnings = score(PredictedHands(truth.xyz * flip, truth.verts * flip, truth.lixel_xyz), data).warnings
    assert [warning.partition(":")[0] for warning in warnings] == ["mesh joints", "mesh"]


def test_vertex_distances_are_millimetres(truth: PredictedHands) -> None:
    moved = dataclasses.replace(truth, verts=truth.verts + np.array([0, 0, 0.002]))
    np.testing.assert_allclose(vertex_distances_mm(moved, truth), np.full((11, 778), 2.0))


def test_each_image_has_its_own_error_and_their_mean_is_the_score(data: FreiHand, truth: PredictedHands) -> None:
    bent = truth.xyz.copy()
    bent[3, 8] += 0.021
    predictions = dataclasses.replace(truth, xyz=bent)
    errors_mm = per_image_pa_pjpe_mm(predictions, data)
    assert errors_mm.shape == (len(bent),)
    assert errors_mm[3] > 1
    assert np.delete(errors_mm, 3) == pytest.approx(0, abs=ALIGNED_FLOOR_MM)
    assert errors_mm.mean() == pytest.approx(score(predictions, data).pa_pjpe_mm)
    few = PredictedHands(bent[:5], truth.verts[:5], truth.lixel_xyz[:5])
    np.testing.assert_array_equal(per_image_pa_pjpe_mm(few, data), errors_mm[:5])
    with pytest.raises(InputError, match="has no evaluation joints"):
        per_image_pa_pjpe_mm(predictions, dataclasses.replace(data, xyz=None))


def test_the_floor_is_what_another_regressor_costs_a_perfect_mesh(data: FreiHand, hand_topology: HandTopology) -> None:
    regressor = hand_topology.joint_regressor
    assert regressor_pa_pjpe_mm(data, regressor, n_images=11) == pytest.approx(0, abs=ALIGNED_FLOOR_MM)
    tips = regressor.copy()
    tips[4] = np.eye(778)[777]  # the thumb's tip from the mesh's pole
    assert regressor_pa_pjpe_mm(data, tips, n_images=11) > 0.5
    assert regressor_pa_pjpe_mm(dataclasses.replace(data, verts=None), regressor, n_images=11) is None


@pytest.mark.real
def test_the_floor_of_real_photographs_is_what_refitting_left(real_dir: Path) -> None:
    data = open_freihand(real_dir / "freihand5", "evaluation")
    regressor = load_hand(real_dir / "hand.npz").joint_regressor
    photographs = photographs_of(data)
    accuracy = score(predict({"t": TrueHand(photographs)}, photographs, regressor, n_images=5)["t"], data)
    floor = regressor_pa_pjpe_mm(data, regressor, n_images=5)
    assert 0.8 < floor < 3.2
    assert accuracy.pa_pjpe_mm == pytest.approx(floor, abs=1e-3)
    assert accuracy.lixel_pa_pjpe_mm == pytest.approx(0, abs=1e-3)
