"""Calibration images: a seeded choice from the training split, never from an evaluation split."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_graphs import planted_workshop, request_on, save_planted_export

from cliphand.config import CropConfig
from cliphand.data.crop import normalise
from cliphand.data.freihand import open_freihand, validation_split
from cliphand.data.views import evaluation_view
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from export.precision.calibration import CalibrationRequest, HeldOut, choose, held_out, overlap, read_calibration
from export.qat.quantise_aware import QuantiseAware

SIDE = 32
CROP = CropConfig()


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=6, size_px=64)


def test_images_are_the_models_crops_of_the_training_split(data: Path) -> None:
    found = read_calibration(CalibrationRequest(data, images=3), CROP, SIDE)
    split = open_freihand(data, "training")
    for file, image in zip(found.files, found.images, strict=True):
        index = int(Path(file).stem)
        assert file == f"training/rgb/{index:08d}.jpg"
        np.testing.assert_array_equal(image, normalise(evaluation_view(split, index, CROP, SIDE).crop, CROP))


@given(n_images=st.integers(1, 300), n_wanted=st.integers(1, 400), seed=st.integers(0, 99))
def test_choice_has_no_image_twice_and_no_more_than_there_are(n_images: int, n_wanted: int, seed: int) -> None:
    chosen = choose(n_images, n_wanted, seed)
    assert len(set(chosen)) == len(chosen) == min(n_images, n_wanted)
    assert set(chosen) <= set(range(n_images))
    assert chosen == sorted(chosen)


def test_the_seed_decides_the_choice() -> None:
    assert choose(1000, 20, 1) == choose(1000, 20, 1)
    assert choose(1000, 20, 1) != choose(1000, 20, 2)


def test_the_hash_follows_the_files_contents(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    request = CalibrationRequest(copy, images=6)
    before = read_calibration(request, CROP, SIDE).sha256
    assert before == read_calibration(CalibrationRequest(data, images=6), CROP, SIDE).sha256
    first, second = copy / "training/rgb/00000000.jpg", copy / "training/rgb/00000001.jpg"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert read_calibration(request, CROP, SIDE).sha256 != before


@pytest.mark.parametrize("inside", ["evaluation", "evaluation/rgb"])
def test_an_evaluation_split_is_refused(data: Path, inside: str) -> None:
    with pytest.raises(InputError, match="is an evaluation split"):
        read_calibration(CalibrationRequest(data / inside), CROP, SIDE)


def test_a_folder_with_nothing_but_an_evaluation_split_is_refused(data: Path, tmp_path: Path) -> None:
    only = tmp_path / "only"
    shutil.copytree(data / "evaluation", only / "evaluation")
    for field in ("K", "xyz", "verts"):
        shutil.copy(data / f"evaluation_{field}.json", only)
    with pytest.raises(InputError, match="is an evaluation split"):
        read_calibration(CalibrationRequest(only), CROP, SIDE)


def test_images_of_both_splits_are_named(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    evaluation = open_freihand(copy, "evaluation")
    training = [copy / "training/rgb/00000002.jpg", copy / "training/rgb/00000003.jpg"]
    training[0].write_bytes(b"another image")
    training[1].write_bytes(evaluation.image_path(5).read_bytes())
    assert overlap(training, evaluation, [4, 5]) == ["00000003.jpg"]
    assert overlap(training, evaluation, [4]) == []


def test_no_image_at_all_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="images is 0"):
        CalibrationRequest(data, images=0)


@pytest.fixture(scope="module")
def versions(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=8, versions=2, size_px=64)


def test_what_the_run_validated_on_is_not_calibrated_on(versions: Path) -> None:
    _, labels = validation_split(8, 0.25, 5)
    request = CalibrationRequest(versions, images=99, held_out=HeldOut(versions / ".." / versions.name, 0.25, 5))
    chosen = {int(Path(file).stem) for file in read_calibration(request, CROP, SIDE).files}
    # In no version of the photograph.
    assert chosen == set(range(16)) - {int(label) + version for label in labels for version in (0, 8)}
    few = dataclasses.replace(request, images=5)
    assert read_calibration(few, CROP, SIDE).sha256 == read_calibration(few, CROP, SIDE).sha256
    assert {int(Path(file).stem) for file in read_calibration(few, CROP, SIDE).files} < chosen


def test_a_share_of_another_folder_or_none_leaves_the_choice_as_it_is(versions: Path, data: Path) -> None:
    plain = CalibrationRequest(versions, images=7, seed=3)
    wanted = read_calibration(plain, CROP, SIDE).files
    assert [int(Path(file).stem) for file in wanted] == choose(16, 7, 3)
    for out in (HeldOut(data, 0.25, 5), HeldOut(versions, 0.0, 5)):
        assert read_calibration(dataclasses.replace(plain, held_out=out), CROP, SIDE).files == wanted


def test_what_was_held_out_is_recorded_with_whether_it_was_left_out_here(
    versions: Path, data: Path, hand_topology: HandTopology, tmp_path: Path
) -> None:
    elsewhere, here = (CalibrationRequest(versions, 4, held_out=HeldOut(at, 0.25, 5)) for at in (data, versions))
    assert CalibrationRequest(versions).held_out_facts() is None
    assert CalibrationRequest(versions, held_out=HeldOut(versions, 0.0, 5)).held_out_facts()["applied"] is False
    folder = save_planted_export(tmp_path / "export", hand_topology)
    for request, applied in ((elsewhere, False), (here, True)):
        with planted_workshop(folder, hand_topology, request_on(versions, calibration=request)) as workshop:
            facts = workshop.maker.facts()
        assert facts["held_out"] == {"fraction": 0.25, "seed": 5, "applied": applied}
        tuned = QuantiseAware(SimpleNamespace(sha256="abc"), request).facts()
        assert tuned["held_out"] == facts["held_out"]


def test_the_share_is_read_from_what_travels_with_the_checkpoint() -> None:
    facts = {"data": "/data/a", "train": {"validation_fraction": 0.1, "seed": 4}}
    assert held_out(facts) == HeldOut(Path("/data/a"), 0.1, 4)
    for odd in ({}, {"train": facts["train"]}, {"data": "/data/a"}, facts | {"train": {"validation_fraction": 0}}):
        assert held_out(odd) is None
    assert held_out(facts | {"train": {"validation_fraction": 0.0, "seed": 4}}) is None
