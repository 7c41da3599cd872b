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
from cliphand.data.freihand import open_freihand
from cliphand.data.label_sheet import COLUMNS, TILE_PX, spread
from cliphand.data.plausible import CHECKS, write_allowed
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
    facts = check_freihand(open_freihand(intact, "training"))
    assert (facts.images, facts.labels, facts.versions) == (6, 3, 2)
    assert facts.fields == ("K", "xyz", "verts", "scale")
    assert (facts.masks, facts.empty_masks) == (3, 0)
    assert facts.image_sizes == (((224, 224), 6),)
    assert facts.scale_difference_mm < 1e-9
    assert facts.joints_inside_share == 1


def test_facts_of_absent_labels_are_absent(freihand_folder: MakeFolder) -> None:
    root = freihand_folder(n_labels=2, scale=False, mask=False, evaluation_labels=False)
    facts = check_freihand(open_freihand(root, "evaluation"))
    assert facts.fields == ("K",)
    assert facts.masks == 0
    assert facts.scale_difference_mm is facts.joints_inside_share is None
    assert facts.checks == ()


def test_only_checks_that_were_made_are_told(intact: Path, freihand_folder: MakeFolder, hand_file: Path) -> None:
    assert check_freihand(open_freihand(intact, "training")).checks == (*CHECKS, "projection")  # there is no hand.npz
    root = freihand_folder(n_labels=2, scale=False)
    shutil.copy(hand_file, root / "hand.npz")
    write_allowed(root, ("bone",))
    checks = check_freihand(open_freihand(root, "training")).checks
    assert checks == ("extent", "agreement", "chirality", "projection", "hand")


def test_progress_counts_to_the_number_of_images(intact: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_freihand(open_freihand(intact, "training"), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_truncated_image_is_named(folder: Path) -> None:
    cut_short(folder / "training" / "rgb" / "00000004.jpg")
    with pytest.raises(InputError, match=r"rgb/00000004\.jpg is a truncated or damaged image .*copy it again"):
        check_freihand(open_freihand(folder, "training"))


def test_further_faults_are_counted(folder: Path) -> None:
    for name in ("rgb/00000001.jpg", "rgb/00000005.jpg", "mask/00000002.jpg"):
        cut_short(folder / "training" / name)
    with pytest.raises(InputError, match=r"rgb/00000001\.jpg.* 2 more of 6 images fail too\."):
        check_freihand(open_freihand(folder, "training"))


def test_a_mask_of_another_size_is_named(folder: Path) -> None:
    path = folder / "training" / "mask" / "00000001.jpg"
    cv2.imwrite(str(path), np.zeros((112, 224), np.uint8))
    with pytest.raises(InputError, match=r"mask/00000001\.jpg is 224 x 112 pixels but its image is 224 x 224"):
        check_freihand(open_freihand(folder, "training"))


def test_masks_without_a_hand_are_counted(folder: Path) -> None:
    path = folder / "training" / "mask" / "00000001.jpg"
    cv2.imwrite(str(path), np.zeros((224, 224), np.uint8))
    assert check_freihand(open_freihand(folder, "training")).empty_masks == 1


def test_images_of_one_colour_are_counted_and_said(folder: Path) -> None:
    cv2.imwrite(str(folder / "training" / "rgb" / "00000005.jpg"), np.zeros((224, 224, 3), np.uint8))
    assert check_freihand(open_freihand(folder, "training")).flat_images == 1
    printed = CliRunner().invoke(app, ["check", str(folder)], catch_exceptions=False).stdout
    assert "sound" not in printed
    assert "but 1 of 9 images are of one flat colour and show no hand" in " ".join(printed.split())
    assert "Not looked at: whether an image shows the hand of its label" in printed


def test_images_of_another_size_are_counted(folder: Path) -> None:
    cv2.imwrite(str(folder / "training" / "rgb" / "00000005.jpg"), np.zeros((240, 320, 3), np.uint8))
    assert check_freihand(open_freihand(folder, "training")).image_sizes == (((224, 224), 5), ((320, 240), 1))


@pytest.mark.parametrize(("difference_m", "fails"), [(0.0045, False), (0.0055, True)])
def test_a_scale_must_be_the_bone_it_names(folder: Path, difference_m: float, fails: bool) -> None:
    path = folder / "training_scale.json"
    scales = json.loads(path.read_text())
    scales[2] += difference_m
    path.write_text(json.dumps(scales))
    if fails:
        with pytest.raises(InputError, match=r"training_scale\.json: field 'scale', entry 2"):
            check_freihand(open_freihand(folder, "training"))
    else:
        assert check_freihand(open_freihand(folder, "training")).scale_difference_mm == pytest.approx(4.5)


def test_joints_outside_the_image_are_counted(folder: Path) -> None:
    path = folder / "training_K.json"
    cameras = json.loads(path.read_text())
    cameras[0][0][2] += 1000  # one of three samples leaves the picture
    path.write_text(json.dumps(cameras))
    write_allowed(folder, ("projection",))
    assert check_freihand(open_freihand(folder, "training")).joints_inside_share == pytest.approx(2 / 3)


def test_the_command_prints_a_column_per_split(intact: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(intact)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "flat colour and show no hand" not in result.stdout
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
    facts = check_freihand(open_freihand(real_dir / name, split))
    assert facts.image_sizes == (((224, 224), facts.images),)
    assert facts.scale_difference_mm < 1e-3
    assert facts.joints_inside_share == 1


def sheet_of(folder: Path, picture: Path) -> tuple[np.ndarray, str]:
    """The picture, RGB, and what the command said."""
    result = CliRunner().invoke(app, ["check", str(folder), "--picture", str(picture)], catch_exceptions=False)
    assert result.exit_code == 0
    return cv2.imread(str(picture))[..., ::-1], " ".join(result.stdout.split())


def tile(sheet: np.ndarray, number: int) -> np.ndarray:
    row, column = divmod(number, COLUMNS)
    return sheet[row * TILE_PX : (row + 1) * TILE_PX, column * TILE_PX : (column + 1) * TILE_PX]


def test_the_picture_shows_each_samples_joints_over_its_image(intact: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sheet.png"
    sheet, said = sheet_of(intact, picture)
    assert sheet.shape == (2 * TILE_PX, COLUMNS * TILE_PX, 3)  # a row of each split
    assert f"{picture}: skeletons over 6 of 6 training images: 0, 1, 2, 3, 4, 5." in said
    assert f"{picture}: skeletons over 3 of 3 evaluation images: 0, 1, 2." in said
    data = open_freihand(intact, "training")
    for index in (0, 4):  # the second is sample 1 in its second version
        uv = data.joints_uv(data.label_index(index))
        low, high = uv.min(axis=0), uv.max(axis=0)
        inside_tile = TILE_PX / 2 + (uv - (low + high) / 2) * TILE_PX / (2.0 * (high - low).max())
        for column, row in inside_tile.round().astype(int):
            assert tile(sheet, index)[row - 1 : row + 2, column - 1 : column + 2].min(axis=-1).max() > 240  # a joint
    assert not np.array_equal(tile(sheet, 1), tile(sheet, 4))  # one sample, two backgrounds
    sheet_of(intact, picture)  # its own earlier output it writes over


def test_the_picture_shows_joints_that_belong_to_another_image(intact: Path, folder: Path, tmp_path: Path) -> None:
    """What no check of numbers can tell: two images exchanged, their labels not."""
    images = [folder / "training" / "rgb" / f"{index:08d}.jpg" for index in (0, 1)]
    contents = [path.read_bytes() for path in images]
    for path, content in zip(images, reversed(contents), strict=True):
        path.write_bytes(content)
    right, _ = sheet_of(intact, tmp_path / "right.png")
    wrong, _ = sheet_of(folder, tmp_path / "wrong.png")
    changed = [not np.array_equal(tile(right, number), tile(wrong, number)) for number in range(6)]
    assert changed == [True, True, False, False, False, False]


def test_what_is_drawn_is_spread_over_the_whole_set() -> None:
    assert spread(5) == [0, 1, 2, 3, 4]
    shown = spread(32_560)
    assert (len(shown), shown[0], shown[-1]) == (24, 0, 32_559)
    assert max(np.diff(shown)) - min(np.diff(shown)) <= 1


@pytest.mark.parametrize(
    ("name", "says"), [("sheet.jpg", "is written as PNG; name a file that ends in .png"), ("sheet.png", "no joints")]
)
def test_a_picture_that_cannot_be_is_refused_before_the_check(
    name: str, says: str, freihand_folder: MakeFolder, tmp_path: Path
) -> None:
    root = freihand_folder(n_labels=2, evaluation_labels=False)
    shutil.rmtree(root / "training")
    for path in root.glob("training_*.json"):
        path.unlink()
    cut_short(root / "evaluation" / "rgb" / "00000000.jpg")
    result = CliRunner().invoke(app, ["check", str(root), "--picture", str(tmp_path / name)])
    assert isinstance(result.exception, InputError)
    assert says in str(result.exception)
    assert not (tmp_path / name).exists()


def test_no_picture_is_written_of_a_damaged_split(folder: Path, tmp_path: Path) -> None:
    cut_short(folder / "training" / "rgb" / "00000005.jpg")
    result = CliRunner().invoke(app, ["check", str(folder), "--picture", str(tmp_path / "sheet.png")])
    assert isinstance(result.exception, InputError)
    assert not (tmp_path / "sheet.png").exists()
