import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cliphand.errors import InputError
from cliphand.hand import BONES, JOINT_NAMES, PARENTS, HandTopology, check_topology, load_hand, save_hand


def arrays_of(topology: HandTopology) -> dict[str, np.ndarray]:
    return {name: getattr(topology, name).copy() for name in ("faces", "template", "joint_regressor")}


def test_joints_run_from_the_wrist_along_each_finger_to_its_tip() -> None:
    assert len(JOINT_NAMES) == len(PARENTS) == 21
    assert (JOINT_NAMES[0], JOINT_NAMES[4], JOINT_NAMES[9], JOINT_NAMES[20]) == (
        "wrist",
        "thumb fingertip",
        "middle MCP",
        "little fingertip",
    )
    assert PARENTS[:9] == (-1, 0, 1, 2, 3, 0, 5, 6, 7)
    assert len(BONES) == 20
    assert (0, 17) in BONES
    assert (16, 17) not in BONES


def test_what_is_saved_is_loaded_to_the_bit(hand_topology: HandTopology, tmp_path: Path) -> None:
    save_hand(hand_topology, tmp_path / "hand.npz")
    loaded = load_hand(tmp_path / "hand.npz")
    for name, array in arrays_of(hand_topology).items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert [path.name for path in tmp_path.iterdir()] == ["hand.npz"]


def test_single_precision_and_short_indices_are_widened(hand_topology: HandTopology, tmp_path: Path) -> None:
    arrays = arrays_of(hand_topology)
    np.savez(
        tmp_path / "hand.npz",
        faces=arrays["faces"].astype(np.uint16),
        template=arrays["template"].astype(np.float32),
        joint_regressor=arrays["joint_regressor"].astype(np.float32),
    )
    loaded = load_hand(tmp_path / "hand.npz")
    assert (loaded.faces.dtype, loaded.template.dtype, loaded.joint_regressor.dtype) == (np.int64, float, float)
    np.testing.assert_array_equal(loaded.faces, hand_topology.faces)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("faces", np.zeros((1538, 4), int), r"'faces' is int64 \(1538, 4\); it must be \(1538, 3\)"),
        ("faces", np.zeros((1538, 3)), "'faces' is float64"),
        ("faces", np.full((1538, 3), 778), "'faces' points outside the 778 vertices"),
        ("faces", np.full((1538, 3), -1), "'faces' points outside the 778 vertices"),
        ("template", np.zeros((777, 3)), "'template' is float64"),
        ("template", np.full((778, 3), np.nan), "'template' holds NaN"),
        ("joint_regressor", np.zeros((16, 778)), "'joint_regressor' is float64"),
        ("joint_regressor", np.zeros((21, 778)), "rows of 'joint_regressor' sum to 0.000..0.000, not 1"),
        ("joint_regressor", np.full((21, 778), np.inf), "'joint_regressor' holds NaN or infinity"),
    ],
)
def test_a_wrong_array_is_refused_by_name(
    hand_topology: HandTopology, tmp_path: Path, name: str, value: np.ndarray, says: str
) -> None:
    path = tmp_path / "hand.npz"
    np.savez(path, **(arrays_of(hand_topology) | {name: value}))
    with pytest.raises(InputError, match=says) as caught:
        load_hand(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["faces", "template", "joint_regressor"])
def test_a_missing_array_is_refused_by_name(hand_topology: HandTopology, name: str) -> None:
    arrays = arrays_of(hand_topology)
    del arrays[name]
    with pytest.raises(InputError, match=f"the file has no array '{name}'"):
        check_topology(arrays, source="the file")


def npy_bytes() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


def object_archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, faces=np.array([{}], object))
    return stream.getvalue()


def archive_of_text() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("faces", "template", "joint_regressor"):
            archive.writestr(name, "text")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", npy_bytes(), object_archive(), archive_of_text()],
    ids=["empty", "text", "a lone array", "pickled objects", "text members"],
)
def test_a_file_that_is_no_archive_of_arrays_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hand.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_hand(path)
    assert str(path) in str(caught.value)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_an_archive_with_a_pickle_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    np.savez(tmp_path / "hand.npz", faces=np.array([Payload(marker)], object))
    with pytest.raises(InputError, match="is not a readable npz archive"):
        load_hand(tmp_path / "hand.npz")
    assert not marker.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_is_refused(hand_topology: HandTopology, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "hand.npz"
    save_hand(hand_topology, path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[len(content) // 4] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        load_hand(path)


def test_a_missing_file_says_which_command_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist; `cliphand hand MANO_RIGHT.pkl --out hand.npz`"):
        load_hand(tmp_path / "hand.npz")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        load_hand(tmp_path)
