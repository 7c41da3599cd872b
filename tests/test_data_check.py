"""cliphand.data.check and `cliphand data check`: every label, image and mask of a folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cliphand.cli.data import app
from cliphand.data.check import check_freihand
from cliphand.data.plausible import write_allowed
from cliphand.errors import InputError

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def intact(freihand_folder: MakeFolder) -> Path:
    return freihand_folder(n_labels=3, versions=2)


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(intact, tmp_path / "data")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def test_facts_say_what_a_split_holds(intact: Path) -> None:
    facts = check_freihand(intact, "training")
    assert (facts.images, facts.labels, facts.versions) == (6, 3, 2)
    assert facts.fields == ("K", "xyz", "verts", "scale")
    assert (facts.masks, facts.empty_masks) == (3, 0)
    assert facts.image_sizes == (((224, 224), 6),)
    assert facts.scale_difference_mm < 1e-9
    assert facts.joints_inside_share == 1


def test_facts_of_absent_labels_are_absent(freihand_folder: MakeFolder) -> None:
    root = freihand_folder(n_labels=2, scale=False, mask=False, evaluation_labels=False)
    facts = check_freihand(root, "evaluation")
    assert facts.fields == ("K",)
    assert facts.masks == 0
    assert facts.scale_difference_mm is facts.joints_inside_share is None


def test_progress_counts_to_the_number_of_images(intact: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_freihand(intact, "training", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_truncated_image_is_named(folder: Path) -> None:
    cut_short(folder / "training" / "rgb" / "00000004.jpg")
    with pytest.raises(InputError, match=r"rgb/00000004\.jpg is a truncated or damaged image .*copy it again"):
        check_freihand(folder, "training")


def test_further_faults_are_counted(folder: Path) -> None:
    for name in ("rgb/00000001.jpg", "rgb/00000005.jpg", "mask/00000002.jpg"):
        cut_short(folder / "training" / name)
    with pytest.raises(InputError, match=r"rgb/00000001\.jpg.* 2 more of 6 images fail too\."):
        check_freihand(folder, "training")


def test_a_mask_of_another_size_is_named(folder: Path) -> None:
    path = folder / "training" / "mask" / "00000001.jpg"
    cv2.imwrite(str(path), np.zeros((112, 224), np.uint8))
    with pytest.raises(InputError, match=r"mask/00000001\.jpg is 224 x 112 pixels but its image is 224 x 224"):
        check_freihand(folder, "training")


def test_masks_without_a_hand_are_counted(folder: Path) -> None:
    path = folder / "training" / "mask" / "00000001.jpg"
    cv2.imwrite(str(path), np.zeros((224, 224), np.uint8))
    assert check_freihand(folder, "training").empty_masks == 1


def test_images_of_one_colour_are_counted_and_said(folder: Path) -> None:
    cv2.imwrite(str(folder / "training" / "rgb" / "00000005.jpg"), np.zeros((224, 224, 3), np.uint8))
    assert check_freihand(folder, "training").flat_images == 1
    printed = CliRunner().invoke(app, ["check", str(folder)], catch_exceptions=False).stdout
    assert "images of one flat colour" in printed
    assert "That each image shows the hand of its label is not checked" in printed


def test_images_of_another_size_are_counted(folder: Path) -> None:
    cv2.imwrite(str(folder / "training" / "rgb" / "00000005.jpg"), np.zeros((240, 320, 3), np.uint8))
    assert check_freihand(folder, "training").image_sizes == (((224, 224), 5), ((320, 240), 1))


@pytest.mark.parametrize(("difference_m", "fails"), [(0.0045, False), (0.0055, True)])
def test_a_scale_must_be_the_bone_it_names(folder: Path, difference_m: float, fails: bool) -> None:
    path = folder / "training_scale.json"
    scales = json.loads(path.read_text())
    scales[2] += difference_m
    path.write_text(json.dumps(scales))
    if fails:
        with pytest.raises(InputError, match=r"training_scale\.json: field 'scale', entry 2"):
            check_freihand(folder, "training")
    else:
        assert check_freihand(folder, "training").scale_difference_mm == pytest.approx(4.5)


def test_joints_outside_the_image_are_counted(folder: Path) -> None:
    path = folder / "training_K.json"
    cameras = json.loads(path.read_text())
    cameras[0][0][2] += 1000  # one of three samples leaves the picture
    path.write_text(json.dumps(cameras))
    write_allowed(folder, ("projection",))
    assert check_freihand(folder, "training").joints_inside_share == pytest.approx(2 / 3)


def test_the_command_prints_a_column_per_split(intact: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(intact)], catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("training", "evaluation", "K, xyz, verts, scale", "224 x 224 (6)", "224 x 224 (3)", "100.00"):
        assert text in result.stdout


def test_the_command_checks_the_split_that_is_there(intact: Path, tmp_path: Path) -> None:
    shutil.copytree(intact / "evaluation", tmp_path / "evaluation")
    for path in intact.glob("evaluation_*.json"):
        shutil.copy(path, tmp_path)
    result = CliRunner().invoke(app, ["check", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "training" not in result.stdout


@pytest.mark.parametrize("split", ["training", "evaluation"])
def test_the_command_fails_on_a_damaged_split(folder: Path, split: str) -> None:
    cut_short(folder / split / "rgb" / "00000000.jpg")
    result = CliRunner().invoke(app, ["check", str(folder)])
    assert isinstance(result.exception, InputError)
    assert f"{split}/rgb/00000000.jpg" in str(result.exception)


def test_the_command_needs_a_split(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "neither a training nor an evaluation split" in str(result.exception)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "split"),
    [("freihand5", "training"), ("freihand5", "evaluation"), ("ge97", "evaluation"), ("rhd3", "evaluation")],
)
def test_real_folders_are_sound(real_dir: Path, name: str, split: str) -> None:
    facts = check_freihand(real_dir / name, split)
    assert facts.image_sizes == (((224, 224), facts.images),)
    assert facts.scale_difference_mm < 1e-3
    assert facts.joints_inside_share == 1
