import json
from pathlib import Path

import pytest

from cliphand.errors import InputError
from cliphand.files import read_json_object, sha256_of, whole_file, whole_folder, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_its_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".onnx"
        written = temporary.stat().st_ino
    assert names(tmp_path) == ["model.onnx"]
    assert path.read_text() == "new"
    assert path.stat().st_ino == written  # renamed, not copied: a reader never meets half of it


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("old")

    def fail_half_way() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert names(tmp_path) == ["model.onnx"]
    assert path.read_text() == "old"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a" / "b" / "file") as temporary:
        temporary.touch()
    assert (tmp_path / "a" / "b" / "file").is_file()


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "file"):
        pass
    assert names(tmp_path) == []


def test_json_is_written_whole_and_read_back(tmp_path: Path) -> None:
    value = {"rows": [1, 2.5, None, True], "name": "Hände"}
    write_json(tmp_path / "value.json", value)
    assert read_json_object(tmp_path / "value.json") == value
    assert (tmp_path / "value.json").read_text().endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"new": value})
    assert read_json_object(path) == {"old": 1}
    assert names(tmp_path) == ["value.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not readable as JSON"),
        (b'{"a": 1', "is not readable as JSON"),
        (b"\xff\xfe", "is not readable as JSON"),
        (b'{"a": ' * 100_000, "is not readable as JSON"),
        (b"[1, 2]", "holds a JSON list"),
        (b"null", "holds a JSON NoneType"),
    ],
)
def test_a_file_without_a_json_object_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json_object(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json does not exist"):
        read_json_object(tmp_path / "absent.json")
    with pytest.raises(InputError, match="is a folder; give the path of a file"):
        read_json_object(tmp_path)


def test_the_hash_is_sha_256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_text_is_indented_for_people(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"a": 1})
    assert (tmp_path / "value.json").read_text() == json.dumps({"a": 1}, indent=1) + "\n"


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "weights").write_text("old")
    rename = Path.rename

    def refuse_fresh(path: Path, target: Path) -> Path:
        if path.name.endswith(".new"):
            raise OSError("refused")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_fresh)
    with pytest.raises(OSError, match="refused"), whole_folder(folder) as fresh:
        (fresh / "weights").write_text("new")
    assert (folder / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
