"""cliphand.data.freihand: folders in FreiHAND's layout, their labels and counts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliphand.data.freihand import open_freihand, validation_split
from cliphand.errors import InputError

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def intact(freihand_folder: MakeFolder) -> Path:
    return freihand_folder(n_labels=3, versions=2)


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(intact, tmp_path / "data")


def edit(path: Path, change: Callable[[list], object]) -> None:
    value = json.loads(path.read_text())
    result = change(value)
    path.write_text(json.dumps(value if result is None else result))


@pytest.mark.parametrize("versions", [1, 2, 3, 4])
def test_versions_are_inferred_from_the_count_of_images(freihand_folder: MakeFolder, versions: int) -> None:
    data = open_freihand(freihand_folder(n_labels=2, versions=versions, verts=False), "training")
    assert (data.n_labels, data.n_versions, len(data)) == (2, versions, 2 * versions)


def test_labels_are_what_the_files_hold(intact: Path) -> None:
    data = open_freihand(intact, "training")
    for field in ("K", "xyz", "verts", "scale"):
        expected = np.array(json.loads((intact / f"training_{field}.json").read_text()))
        np.testing.assert_array_equal(getattr(data, field), expected)
        assert getattr(data, field).dtype == np.float64


def test_every_version_carries_the_labels_and_mask_of_its_sample(intact: Path) -> None:
    data = open_freihand(intact, "training")
    assert [data.label_index(i) for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert data.image_path(4) == intact / "training" / "rgb" / "00000004.jpg"
    assert data.mask_path(4) == intact / "training" / "mask" / "00000001.jpg"
    np.testing.assert_array_equal(data.image_indices([2, 0]), [2, 0, 5, 3])


def test_joints_in_pixels_are_the_projection_by_k(intact: Path) -> None:
    data = open_freihand(intact, "training")
    x, y, z = data.xyz[1, 8]
    K = data.K[1]
    np.testing.assert_allclose(data.joints_uv(1)[8], (K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]))


def test_optional_labels_and_masks_may_be_absent(freihand_folder: MakeFolder) -> None:
    root = freihand_folder(n_labels=2, verts=False, scale=False, mask=False, evaluation_labels=False)
    training, evaluation = open_freihand(root, "training"), open_freihand(root, "evaluation")
    assert training.xyz is not None
    assert training.verts is training.scale is training.mask_path(0) is None
    assert evaluation.xyz is evaluation.verts is evaluation.joints_uv(0) is None


def test_a_scale_may_stand_in_a_list_of_its_own(folder: Path) -> None:
    edit(folder / "training_scale.json", lambda scales: [[scale] for scale in scales])
    assert open_freihand(folder, "training").scale.shape == (3,)


def set_entry(index: int, value: object) -> Callable[[list], object]:
    def change(labels: list) -> None:
        labels[index] = value

    return change


def drop_coordinate(labels: list) -> None:
    labels[1][4].pop()


def set_number(*path: int, to: object) -> Callable[[list], object]:
    def change(labels: list) -> None:
        target = labels
        for index in path[:-1]:
            target = target[index]
        target[path[-1]] = to

    return change


DAMAGED_LABELS = {
    "NaN": ("xyz", set_number(1, 3, 0, to=float("nan")), "entry 1 holds NaN"),
    "infinity": ("verts", set_number(2, 700, 2, to=float("inf")), "entry 2 holds NaN or infinity"),
    "ragged": ("verts", drop_coordinate, "entry 1 has rows of unequal length"),
    "wrong shape": ("xyz", set_entry(2, [[0, 0, 1]] * 20), r"entry 2 has the shape \(20, 3\); it must be \(21, 3\)"),
    "text": ("scale", set_entry(0, "0.03"), "entry 0 holds something else than numbers"),
    "null": ("K", set_entry(0, None), "entry 0 holds something else than numbers"),
    "behind the camera": ("xyz", set_number(0, 5, 2, to=-0.5), "entry 0 has points behind the camera"),
    "vertices behind the camera": ("verts", set_number(0, 5, 2, to=0.0), "entry 0 has points behind the camera"),
    "no focal length": ("K", set_number(2, 0, 0, to=0), "entry 2 is no camera matrix"),
    "transposed K": ("K", set_number(1, 2, 0, to=112), "entry 1 is no camera matrix"),
    "negative scale": ("scale", set_entry(1, -0.03), "entry 1 is -0.03; the length of a bone must be positive"),
    "too few": ("xyz", lambda labels: labels[:-1], "'xyz' has 2 entries but training_K.json has 3"),
    "too many": ("scale", lambda labels: [*labels, 0.03], "'scale' has 4 entries but training_K.json has 3"),
    "empty": ("scale", lambda _: [], "no entries"),
    "no list": ("scale", lambda _: {"scale": [0.03]}, "not a JSON list"),
}


@pytest.mark.parametrize("case", DAMAGED_LABELS)
def test_a_damaged_label_is_an_error_that_names_file_and_field(folder: Path, case: str) -> None:
    field, change, reason = DAMAGED_LABELS[case]
    path = folder / f"training_{field}.json"
    edit(path, change)
    with pytest.raises(InputError, match=reason) as raised:
        open_freihand(folder, "training")
    assert str(path) in str(raised.value)
    assert f"'{field}'" in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "[0.03, 0.03", "[0.03, 0.03,]", "[0.03 0.03]", "[0.03, 0.03] 7", "[0.03, x]", "{0.03]"]
)
def test_broken_json_is_an_error_that_names_the_file(folder: Path, text: str) -> None:
    (folder / "training_scale.json").write_text(text)
    with pytest.raises(InputError, match=r"training_scale\.json: field 'scale' is not a JSON list"):
        open_freihand(folder, "training")


def test_a_label_file_that_is_no_text_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "training_scale.json").write_bytes(b"[\xff\xfe]")
    with pytest.raises(InputError, match=r"training_scale\.json"):
        open_freihand(folder, "training")


@pytest.mark.parametrize("field", ["K", "xyz"])
def test_training_needs_k_and_joints(folder: Path, field: str) -> None:
    (folder / f"training_{field}.json").unlink()
    with pytest.raises(InputError, match=rf"training_{field}\.json does not exist"):
        open_freihand(folder, "training")


def test_evaluation_needs_k(folder: Path) -> None:
    (folder / "evaluation_K.json").unlink()
    with pytest.raises(InputError, match=r"evaluation_K\.json does not exist"):
        open_freihand(folder, "evaluation")


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        open_freihand(tmp_path / "nowhere", "training")


def test_counts_that_do_not_fit_are_an_error_that_names_folder_and_counts(folder: Path) -> None:
    (folder / "training" / "rgb" / "00000005.jpg").unlink()
    with pytest.raises(InputError, match=r"training/rgb holds 5 images for 3 labels"):
        open_freihand(folder, "training")


def test_five_versions_are_too_many(folder: Path) -> None:
    rgb = folder / "training" / "rgb"
    for index in range(6, 15):
        shutil.copy(rgb / "00000000.jpg", rgb / f"{index:08d}.jpg")
    with pytest.raises(InputError, match="holds 15 images for 3 labels; it must hold 1 to 4 times"):
        open_freihand(folder, "training")


def test_a_gap_in_the_numbers_is_an_error_that_names_the_missing_image(folder: Path) -> None:
    rgb = folder / "training" / "rgb"
    (rgb / "00000001.jpg").rename(rgb / "00000006.jpg")
    with pytest.raises(InputError, match=r"6 images but no 00000001\.jpg"):
        open_freihand(folder, "training")


@pytest.mark.parametrize("name", ["hand.jpg", "6.jpg", "000000006.jpg", "00000006.JPG", "00000006.jpeg"])
def test_an_image_with_another_name_is_an_error(folder: Path, name: str) -> None:
    (folder / "training" / "rgb" / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"holds {name}"):
        open_freihand(folder, "training")


def test_files_that_are_no_images_are_left_alone(folder: Path) -> None:
    for name in ("Thumbs.db", ".DS_Store", "._00000000.jpg"):
        (folder / "training" / "rgb" / name).write_bytes(b"")
    assert len(open_freihand(folder, "training")) == 6


def test_a_missing_image_folder_is_an_error(folder: Path) -> None:
    shutil.rmtree(folder / "evaluation" / "rgb")
    with pytest.raises(InputError, match="evaluation/rgb does not exist"):
        open_freihand(folder, "evaluation")


def test_masks_must_be_one_per_sample(folder: Path) -> None:
    (folder / "training" / "mask" / "00000002.jpg").unlink()
    with pytest.raises(InputError, match="training/mask holds 2 masks for 3 labels"):
        open_freihand(folder, "training")


@given(n_labels=st.integers(2, 300), fraction=st.floats(0.001, 0.5), seed=st.integers(0, 2**31))
def test_a_validation_split_deals_out_every_sample_once(n_labels: int, fraction: float, seed: int) -> None:
    train, validation = validation_split(n_labels, fraction, seed)
    assert sorted([*train, *validation]) == list(range(n_labels))
    assert len(validation) == max(round(n_labels * fraction), 1)
    again = validation_split(n_labels, fraction, seed)
    np.testing.assert_array_equal(validation, again[1])


def test_no_version_of_a_validation_sample_is_trained_on(intact: Path) -> None:
    data = open_freihand(intact, "training")
    train, validation = validation_split(data.n_labels, 0.3, 5)
    trained = {data.label_index(int(i)) for i in data.image_indices(train)}
    held_out = {data.label_index(int(i)) for i in data.image_indices(validation)}
    assert not trained & held_out
    assert len(data.image_indices(train)) + len(data.image_indices(validation)) == len(data)


def test_another_seed_holds_out_other_samples() -> None:
    assert set(validation_split(1000, 0.1, 0)[1]) != set(validation_split(1000, 0.1, 1)[1])


def test_no_fraction_holds_out_nothing() -> None:
    train, validation = validation_split(5, 0, 0)
    assert (len(train), len(validation)) == (5, 0)


@pytest.mark.parametrize(("n_labels", "fraction"), [(5, -0.1), (5, 1.0), (1, 0.5), (2, 0.9)])
def test_a_split_that_cannot_be_made_is_an_error(n_labels: int, fraction: float) -> None:
    with pytest.raises(InputError, match="validation fraction"):
        validation_split(n_labels, fraction, 0)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "split", "count", "has_verts"),
    [("freihand5", "training", 5, True), ("ge97", "evaluation", 97, False), ("rhd3", "evaluation", 3, False)],
)
def test_real_folders_open(real_dir: Path, name: str, split: str, count: int, has_verts: bool) -> None:
    data = open_freihand(real_dir / name, split)
    assert (len(data), data.n_versions, data.verts is not None) == (count, 1, has_verts)
