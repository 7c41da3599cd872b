"""Labels that cannot be right hands in metres are refused, whatever command opens them, unless their folder says so.

Each row of the tables is one bad input: exit code 2, one sentence that names the file, the sample and the remedy, and
nothing written.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from linear_hand import save_export
from refusal import refused, run

from cliphand.data.freihand import SPLITS, open_freihand
from cliphand.data.plausible import MIN_THUMB_BEFORE_PALM, thumb_before_palm
from cliphand.hand import HandTopology

MIRROR = np.array([-1.0, 1.0, 1.0])
# The mitten is flat: its thumb is bent before the palm here, so that it has a side.
THUMB_M = 0.02
Damage = Callable[[dict[str, np.ndarray]], None]


def write(root: Path, labels: dict[str, np.ndarray], split: str) -> None:
    for field, values in labels.items():
        (root / f"{split}_{field}.json").write_text(json.dumps(values.tolist()))


def read(root: Path, split: str) -> dict[str, np.ndarray]:
    return {
        field: np.array(json.loads((root / f"{split}_{field}.json").read_text()))
        for field in ("K", "xyz", "verts", "scale")
    }


@pytest.fixture(scope="module")
def handed(freihand_folder: Callable[..., Path]) -> Path:
    """Mittens whose thumbs lie before the palm, as a right hand's do."""
    root = freihand_folder(n_labels=3)
    for split in SPLITS:
        labels = read(root, split)
        xyz = labels["xyz"]
        normal = np.cross(xyz[:, 5] - xyz[:, 0], xyz[:, 17] - xyz[:, 0])
        xyz[:, 1:5] += THUMB_M * (normal / np.linalg.norm(normal, axis=-1, keepdims=True))[:, None]
        write(root, labels, split)
        open_freihand(root, split)
    return root


@pytest.fixture
def folder(handed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(handed, tmp_path / "data")


def scaled(factor: float, *fields: str) -> Damage:
    def change(labels: dict[str, np.ndarray]) -> None:
        for field in fields:
            labels[field] = labels[field] * factor

    return change


def mirrored(labels: dict[str, np.ndarray]) -> None:
    for field in ("xyz", "verts"):
        labels[field] = labels[field] * MIRROR


def left_in_part(labels: dict[str, np.ndarray]) -> None:
    for field in ("xyz", "verts"):
        labels[field][1] = labels[field][1] * MIRROR


def another_order(labels: dict[str, np.ndarray]) -> None:
    labels["xyz"] = labels["xyz"][:, ::-1]  # fingertips first, wrist last


def another_sample(labels: dict[str, np.ndarray]) -> None:
    labels["verts"] = np.roll(labels["verts"] + [[[0]], [[0.1]], [[0.2]]], 1, axis=0)


def apart(labels: dict[str, np.ndarray]) -> None:
    labels["verts"] = labels["verts"] + (0.0, 0.06, 0.0)


def root_relative(labels: dict[str, np.ndarray]) -> None:
    labels["verts"] = labels["verts"] - labels["xyz"][:, :1] + (0, 0, 1)


def one_in_millimetres(labels: dict[str, np.ndarray]) -> None:
    labels["xyz"][2] *= 1000


def collapsed(labels: dict[str, np.ndarray]) -> None:
    labels["xyz"] = labels["xyz"][:, :1] + 1e-4 * (labels["xyz"] - labels["xyz"][:, :1])


def behind(labels: dict[str, np.ndarray]) -> None:
    labels["xyz"][1, :, 2] *= -1


def larger_image(labels: dict[str, np.ndarray]) -> None:
    labels["K"][:, :2] *= 4


def shifted_camera(labels: dict[str, np.ndarray]) -> None:
    labels["K"][:, 0, 2] += 500


def doubled_camera(labels: dict[str, np.ndarray]) -> None:
    labels["K"][:, :2] *= 2


def upside_down(labels: dict[str, np.ndarray]) -> None:
    labels["K"] = labels["K"][:, ::-1]


def transposed(labels: dict[str, np.ndarray]) -> None:
    labels["K"] = labels["K"].swapaxes(1, 2)


# what is wrong: how the labels become so, the file that the sentence names, and what it says
IMPLAUSIBLE: dict[str, tuple[Damage, str, str]] = {
    "millimetres": (scaled(1000, "xyz", "verts", "scale"), "xyz", "must be in metres; these look like millimetres"),
    "centimetres": (scaled(100, "xyz", "verts", "scale"), "xyz", "must be in metres; these look like centimetres"),
    "joints in millimetres": (scaled(1000, "xyz"), "xyz", "is a hand of"),
    "one sample in millimetres": (one_in_millimetres, "xyz", "entry 2 is a hand of"),
    "joints of no extent": (collapsed, "xyz", "is a hand of"),
    "hands of twice their size": (scaled(2, "xyz", "verts", "scale"), "xyz", "is a hand of"),
    "joints in another order": (another_order, "xyz", r"has a bone 0-9 .* of .* mm.*FreiHAND's order"),
    "vertices in millimetres": (scaled(1000, "verts"), "verts", "does not hold its sample's joints"),
    "vertices of another sample": (another_sample, "verts", "must be of the same sample"),
    "vertices 6 cm away": (apart, "verts", "does not hold its sample's joints"),
    "vertices about the wrist": (root_relative, "verts", "in the camera frame"),
    "scale in millimetres": (scaled(1000, "scale"), "scale", "they must agree within 5 mm"),
    "scale of another bone": (scaled(2, "scale"), "scale", "they must agree within 5 mm"),
    "left hands": (mirrored, "xyz", r"is a left hand.* \(2 more samples fail too\).*data allow .* chirality"),
    "a left hand among right ones": (left_in_part, "xyz", "entry 1 is a left hand"),
    "hands behind the camera": (behind, "xyz", "entry 1 has points behind the camera"),
    "a camera of larger images": (larger_image, "K", "outside of its image .* of 224 x 224 pixels"),
    "a camera that looks elsewhere": (shifted_camera, "K", r"pixel \(\d+, \d+\), outside of its image"),
    "a camera of images twice as large": (doubled_camera, "K", r"only \d+ % of the joints .* data allow .* projection"),
    "a camera matrix upside down": (upside_down, "K", "is no camera matrix"),
    "a transposed camera matrix": (transposed, "K", "is no camera matrix"),
}


@pytest.mark.parametrize("case", IMPLAUSIBLE)
def test_implausible_labels_are_refused(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, field, says = IMPLAUSIBLE[case]
    labels = read(folder, "evaluation")
    change(labels)
    write(folder, labels, "evaluation")
    sentence = refused(capsys, "data", "check", folder, watched=folder)
    assert f"evaluation_{field}.json" in sentence
    assert re.search(says, sentence), sentence


def test_vertices_in_an_order_that_is_not_the_folders_hand_are_refused(
    folder: Path, hand_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(hand_file, folder / "hand.npz")
    labels = read(folder, "evaluation")
    labels["verts"] = labels["verts"][:, np.random.default_rng(0).permutation(labels["verts"].shape[1])]
    write(folder, labels, "evaluation")
    assert "hand.npz is not the hand of these labels" in refused(capsys, "data", "check", folder, watched=folder)


DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 5000
# what is wrong: the file's text, made of one entry, and what the sentence says
NO_LABELS: dict[str, tuple[str, str]] = {
    "brackets in thousands": (DEEP, r"it is nested too deeply, after 0 entries\); get the file again"),
    "an entry of brackets in thousands": (f"[1, {DEEP}]", "it is nested too deeply, after 1 entries"),
    "a number of thousands of digits": (f"[{LONG}, 1, 1]", "a number in it has thousands of digits, after 0 entries"),
    "an object": ('{"0": 0.03}', "an object is given where a list is wanted"),
    "text": ("scale", "something else is given where a list is wanted"),
    "booleans": ("[true, true, true]", "entry 0 holds something else than numbers; it must be one number"),
    "lists": ("[[1, 2], 1, 1]", r"entry 0 has the shape \(2,\); it must be one number"),
}


@pytest.mark.parametrize("case", NO_LABELS)
def test_a_file_that_holds_no_labels_is_refused_in_our_words(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, says = NO_LABELS[case]
    (folder / "evaluation_scale.json").write_text(text)
    sentence = refused(capsys, "data", "check", folder, watched=folder)
    assert "evaluation_scale.json: field 'scale'" in sentence
    assert re.search(says, sentence), sentence
    assert "recursion" not in sentence
    assert "set_int_max_str_digits" not in sentence


# every command that opens labels, on a folder whose labels are in millimetres
COMMANDS: dict[str, tuple[str, ...]] = {
    "data check": ("data", "check", "DATA"),
    "train": ("train", "--data", "DATA", "--hand", "HAND", "--out", "OUT", "--backbone-weights", "none"),
    "bench": ("bench", "EXPORT", "--data", "DATA"),
    "score": ("score", "PREDICTIONS", "--data", "DATA"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_opens_labels_refuses_millimetres(
    command: str,
    folder: Path,
    hand_file: Path,
    hand_topology: HandTopology,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictions = read(folder, "evaluation")["xyz"].tolist()
    (tmp_path / "pred.json").write_text(json.dumps([predictions, []]))
    for split in SPLITS:
        labels = read(folder, split)
        scaled(1000, "xyz", "verts", "scale")(labels)
        write(folder, labels, split)
    places = {
        "DATA": folder,
        "HAND": hand_file,
        "OUT": tmp_path / "out",
        "EXPORT": save_export(tmp_path / "export", hand_topology),
        "PREDICTIONS": tmp_path / "pred.json",
    }
    arguments = [places.get(word, word) for word in COMMANDS[command]]
    sentence = refused(capsys, *arguments, watched=tmp_path)
    assert "_xyz.json: field 'xyz', entry 0 is a hand of" in sentence
    assert f"cliphand data allow {folder} extent" in sentence


def test_what_a_folder_allows_by_name_passes_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in SPLITS:
        labels = read(folder, split)
        mirrored(labels)
        write(folder, labels, split)
    assert run(capsys, "data", "allow", folder, "chirality")[0] == 0
    code, out, _ = run(capsys, "data", "check", folder)
    assert (code, "chirality" in out) == (0, True)
    scaled(1000, "xyz")(labels)
    write(folder, labels, "evaluation")
    assert "is a hand of" in refused(capsys, "data", "check", folder, watched=folder)


ALLOWED = {
    "an unknown name": '{"allow": ["everything"]}',
    "no list": '{"allow": "chirality"}',
    "another key": '{"skip": ["chirality"]}',
    "no JSON": "chirality",
}


@pytest.mark.parametrize("case", ALLOWED)
def test_a_plausibility_file_that_says_something_else_is_refused(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "plausibility.json").write_text(ALLOWED[case])
    assert "plausibility.json" in refused(capsys, "data", "check", folder, watched=folder)


def test_an_unknown_check_cannot_be_allowed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no check 'hands'; valid are extent" in refused(
        capsys, "data", "allow", folder, "hands", watched=folder
    )


PREDICTED = {
    "millimetres": (1000.0, 2, "predictions must be in metres: divide millimetres by 1000"),
    "centimetres": (100.0, 2, "predictions must be in metres"),
    "half the size": (0.3, 0, "warning: the predicted hands measure"),
    "the size of hands": (1.0, 0, ""),
}


@pytest.mark.parametrize("case", PREDICTED)
def test_predictions_of_another_unit_are_not_scored_in_silence(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    factor, code, says = PREDICTED[case]
    (folder / "pred.json").write_text(json.dumps([(factor * read(folder, "evaluation")["xyz"]).tolist(), []]))
    got, _, err = run(capsys, "score", folder / "pred.json", "--data", folder)
    assert (got, says in err) == (code, True)
    assert bool(err) == bool(says)


@pytest.mark.real
@pytest.mark.parametrize("name", ["freihand5", "ge97", "rhd3"])
def test_thumbs_of_real_right_hands_lie_before_the_palm_and_those_of_their_mirror_images_behind(
    real_dir: Path, name: str
) -> None:
    xyz = open_freihand(real_dir / name, "evaluation").xyz
    assert thumb_before_palm(xyz).min() > -MIN_THUMB_BEFORE_PALM
    assert thumb_before_palm(xyz * MIRROR).max() < MIN_THUMB_BEFORE_PALM
