"""Errors, labels and pictures of engines side by side."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from linear_hand import SIDE

from benchmarks.contestants.exported import Contestant
from benchmarks.measure.accuracy import PredictedHands
from benchmarks.measure.photographs import Photographs
from benchmarks.report.accuracy_sections import accuracy_sections, image_section
from benchmarks.report.measured import Measured, farthest_engine, measure
from benchmarks.report.page import Chart, Sheet
from benchmarks.report.theme import make_palette
from cliphand.config import CropConfig
from cliphand.data.freihand import open_freihand
from cliphand.hand import HandTopology

N_IMAGES = 24


@dataclasses.dataclass
class Named:
    name: str
    precision: str


@pytest.fixture(scope="module")
def photographs(freihand_folder: Callable[..., Path]) -> Photographs:
    data = open_freihand(freihand_folder(n_labels=N_IMAGES, size_px=64), "evaluation")
    return Photographs(data=data, crop=CropConfig(), input_size=SIDE, root="truth")


def off_by(photographs: Photographs, joint: int, errors_mm: np.ndarray) -> PredictedHands:
    """The truth with one joint off, and all vertices with it, sideways."""
    xyz, verts = photographs.data.xyz.copy(), photographs.data.verts.copy()
    xyz[:, joint, 0] += errors_mm / 1000
    verts[:, :, 0] += errors_mm[:, None] / 1000
    return PredictedHands(xyz, verts, xyz)


@pytest.fixture(scope="module")
def measured(photographs: Photographs, hand_topology: HandTopology) -> Measured:
    growing = np.arange(N_IMAGES, dtype=float)
    predictions = {
        "pytorch": off_by(photographs, 8, growing),
        "model.onnx": off_by(photographs, 8, growing + 0.001),
        "model.int8.onnx": off_by(photographs, 8, growing + 5),
    }
    broken = off_by(photographs, 8, growing)
    broken.verts[3, 0, 0] = np.nan
    predictions["model.fp16.onnx"] = broken
    return measure(contestants(predictions), predictions, photographs, hand_topology)


def contestants(predictions: dict[str, PredictedHands]) -> dict[str, Contestant]:
    kinds = {"pytorch": ("pytorch", "fp32"), "model.onnx": ("onnxruntime", "fp32")}
    kinds |= {"model.int8.onnx": ("onnxruntime", "int8"), "model.fp16.onnx": ("onnxruntime", "fp16")}
    return {key: Contestant(Named(*kinds[key]), artefact=key, size_mb=1.0) for key in predictions}


def test_engines_with_finite_output_have_errors_and_are_judged_by_their_own_tolerance(measured: Measured) -> None:
    assert measured.reference == "pytorch fp32"
    assert measured.labels == ["pytorch fp32", "onnxruntime fp32", "onnxruntime int8"]
    verdicts = {row.artefact: (row.tolerance.delta_mm, row.within_tolerance) for row in measured.gate}
    assert verdicts == {"model.onnx": (0.01, True), "model.int8.onnx": (0.3, False), "model.fp16.onnx": (0.1, False)}
    assert farthest_engine(measured) == "onnxruntime int8"


def test_two_graphs_of_one_precision_are_told_apart_by_their_files(
    photographs: Photographs, hand_topology: HandTopology
) -> None:
    predictions = {key: off_by(photographs, 8, np.ones(N_IMAGES)) for key in ("pytorch", "a.onnx", "b.onnx")}
    found = {key: Contestant(Named("onnxruntime", "fp32"), artefact=key, size_mb=1.0) for key in ("a.onnx", "b.onnx")}
    found = {"pytorch": Contestant(Named("pytorch", "fp32"), artefact="x", size_mb=1.0)} | found
    labels = measure(found, predictions, photographs, hand_topology).labels
    assert labels == ["pytorch fp32", "onnxruntime fp32 (a.onnx)", "onnxruntime fp32 (b.onnx)"]


def test_the_joint_that_is_off_is_named_and_its_finger_has_the_largest_error(measured: Measured) -> None:
    pck, joints, conditions = accuracy_sections(measured, make_palette(measured.hands))
    assert "of the index fingertip." in joints.sentences[0]
    values = joints.parts[1].spec["data"]["values"]
    fingers = {value["name"]: value["error_mm"] for value in values if value["label"] == "pytorch fp32"}
    assert max(fingers, key=fingers.get) == "index"
    assert list(fingers) == ["wrist", "thumb", "index", "middle", "ring", "little"]
    assert "onnxruntime fp16 gave NaN or infinity and is left out." in pck.sentences
    assert len(pck.parts[1].rows) == 3
    for chart in conditions.parts:
        assert isinstance(chart, Chart)
        assert f"{N_IMAGES} of {N_IMAGES} drawn" in chart.caption
        means = next(layer["data"]["values"] for layer in chart.spec["layer"] if "data" in layer)
        assert sum(mean["images"] for mean in means if mean["label"] == "pytorch fp32") == N_IMAGES


def test_the_worst_and_the_middling_images_are_shown_beside_the_farthest_engine(measured: Measured) -> None:
    worst, middling = image_section(measured).parts
    assert isinstance(worst, Sheet)
    assert isinstance(middling, Sheet)
    assert [row.title.split(",")[0] for row in worst.rows] == ["00000023.jpg", "00000022.jpg", "00000021.jpg"]
    assert {row.title.split(",")[0] for row in middling.rows} <= {f"000000{index}.jpg" for index in range(10, 14)}
    labels = [picture.label.split(",")[0] for picture in worst.rows[0].pictures]
    assert labels == ["photograph", "truth", "pytorch fp32", "onnxruntime int8"]
    plain, truth, reference, engine = (picture.image for picture in worst.rows[0].pictures)
    assert (plain != truth).any()
    assert (truth != reference).any()
    assert (reference != engine).any()


def test_without_true_joints_the_first_images_are_shown_and_a_sentence_says_what_is_missing(
    measured: Measured, photographs: Photographs
) -> None:
    bare = dataclasses.replace(photographs.data, xyz=None, verts=None)
    unlabelled = dataclasses.replace(photographs, data=bare, root="scale")
    blind = dataclasses.replace(measured, photographs=unlabelled, joint_errors_mm={}, gate=())
    (section,) = accuracy_sections(blind, make_palette(blind.hands))
    assert section.sentences == ["evaluation_xyz.json is not there, so no error can be told."]
    (sheet,) = image_section(blind).parts
    assert [row.title for row in sheet.rows] == ["00000000.jpg", "00000001.jpg", "00000002.jpg"]
    assert [picture.label for picture in sheet.rows[0].pictures] == ["photograph", "pytorch fp32", "onnxruntime int8"]


def test_without_faces_the_skeleton_is_drawn(measured: Measured, hand_topology: HandTopology) -> None:
    bare = dataclasses.replace(hand_topology, faces=np.empty((0, 3), np.int64))
    section = image_section(dataclasses.replace(measured, topology=bare))
    assert "faces of the mesh are not known" in section.sentences[0]
    assert (section.parts[0].rows[0].pictures[1].image != section.parts[0].rows[0].pictures[0].image).any()
