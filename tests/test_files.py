import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import pytest

from cliphand.claims import FileKind, FolderKind, check_file
from cliphand.errors import InputError
from cliphand.files import read_json_object, remove_leftovers, sha256_of, whole_file, whole_folder, write_json
from cliphand.told import told_in_one_sentence

ANY = FolderKind("a test", lambda folder: ())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_only_when_its_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with whole_file(path, None) as temporary:
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
        with whole_file(path, None) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert names(tmp_path) == ["model.onnx"]
    assert path.read_text() == "old"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a" / "b" / "file", None) as temporary:
        temporary.touch()
    assert (tmp_path / "a" / "b" / "file").is_file()


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "file", None):
        pass
    assert names(tmp_path) == []


def test_json_is_written_whole_and_read_back(tmp_path: Path) -> None:
    value = {"rows": [1, 2.5, None, True], "name": "Hände"}
    write_json(tmp_path / "value.json", value, None)
    assert read_json_object(tmp_path / "value.json") == value
    assert (tmp_path / "value.json").read_text().endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"old": 1}, None)
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"new": value}, None)
    assert read_json_object(path) == {"old": 1}
    assert names(tmp_path) == ["value.json"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not readable as JSON"),
        (b'{"a": 1', "is not readable as JSON"),
        (b"\xff\xfe", "is not readable as JSON"),
        (b'{"a": ' * 100_000, "is not readable as JSON"),
        (b"[1, 2]", "holds a list; it must hold a JSON object"),
        (b"null", "holds null; it must hold a JSON object"),
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
    write_json(tmp_path / "value.json", {"a": 1}, None)
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
    with pytest.raises(OSError, match="refused"), whole_folder(folder, ANY) as fresh:
        (fresh / "weights").write_text("new")
    assert (folder / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def run_killed(program: str, folder: Path) -> None:
    """A process that writes `folder` as a whole and dies by SIGKILL in the middle."""
    head = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom cliphand.claims import FolderKind\n"
        "from cliphand.files import whole_file, whole_folder\n"
        "ANY, target = FolderKind('a test', lambda folder: ()), Path(sys.argv[1])\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", head + program, str(folder)], check=False)
    assert result.returncode == -signal.SIGKILL


def test_killed_while_it_writes_a_folder_nothing_stands_there_and_the_next_leaves_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_killed("with whole_folder(target, ANY) as fresh:\n    (fresh / 'half').write_text('half')\n    die()\n", folder)
    assert not folder.exists()
    with whole_folder(folder, ANY) as fresh:
        assert names(fresh) == []
        (fresh / "weights").write_text("new")
    assert names(tmp_path) == ["run"]
    assert names(folder) == ["weights"]


def test_killed_between_the_two_renames_the_old_folder_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with whole_folder(folder, ANY) as fresh:
        (fresh / "weights").write_text("old")
    run_killed(
        "import cliphand.files\n"
        "rename = Path.rename\n"
        "Path.rename = lambda path, other: (rename(path, other), die())\n"
        "with whole_folder(target, ANY) as fresh:\n    (fresh / 'weights').write_text('new')\n",
        folder,
    )
    assert not folder.exists()

    def fail() -> None:
        with whole_folder(folder, ANY):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (folder / "weights").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_what_a_killed_process_was_writing_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    run_killed(
        "with whole_file(target, None) as half:\n    half.write_text('half')\n    die()\n", tmp_path / "model.onnx"
    )
    (half,) = tmp_path.iterdir()
    assert half.suffix == ".onnx"
    with whole_file(tmp_path / "other.onnx", None) as living:
        living.write_text("whole")
        remove_leftovers(tmp_path)
        assert not half.exists()
    assert names(tmp_path) == ["other.onnx"]


def test_of_two_processes_that_write_one_folder_at_once_one_is_refused_and_the_result_is_whole(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom cliphand.claims import FolderKind\n"
        "from cliphand.errors import InputError\nfrom cliphand.files import whole_folder\n"
        "target, who = Path(sys.argv[1]), sys.argv[2]\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    with whole_folder(target, FolderKind('a test', lambda folder: ())) as fresh:\n"
        "        print('writes', flush=True)\n"
        "        (fresh / 'first').write_text(who); sys.stdin.readline(); (fresh / 'second').write_text(who)\n"
        "except InputError as error:\n    print(error, flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "export")]
    with ExitStack() as stack:
        pair = [
            stack.enter_context(subprocess.Popen([*command, who], stdin=PIPE, stdout=PIPE, text=True)) for who in "ab"
        ]
        said = [said_by(process) for process in pair]
        assert said == ["ready", "ready"]
        for process in pair:
            tell(process)
        said = [said_by(process) for process in pair]
        writer = pair[said.index("writes")]
        tell(writer)
    assert sum("another process is writing" in line for line in said) == 1
    assert names(tmp_path) == ["export"]
    assert {path.read_text() for path in (tmp_path / "export").iterdir()} == {"ab"[said.index("writes")]}
    assert names(tmp_path / "export") == ["first", "second"]


def said_by(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_name_of_255_characters_is_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 250}.json"
    write_json(path, {"a": 1}, None)
    assert names(tmp_path) == [path.name]
    with whole_folder(tmp_path / ("f" * 255), ANY) as fresh:
        (fresh / "a").touch()
    assert (tmp_path / ("f" * 255) / "a").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_and_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    write_json(tmp_path / "value.json", {"old": 1}, None)

    def full(path: Path, text: str) -> None:
        path.touch()
        raise OSError(number, os.strerror(number))

    def write() -> None:
        with told_in_one_sentence("cliphand"):
            write_json(tmp_path / "value.json", {"new": 1}, None)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SystemExit) as stop:
        write()
    assert stop.value.code == 2
    said = f"cliphand: {tmp_path / 'value.json'} cannot be written or read ({os.strerror(number)}); make room and run"
    assert capsys.readouterr().err == f"{said} the same command again, or name another place.\n"
    assert names(tmp_path) == ["value.json"]
    assert read_json_object(tmp_path / "value.json") == {"old": 1}


def test_whatever_a_library_makes_of_a_full_disk_it_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        with whole_file(tmp_path / "model.pt2", None) as temporary:
            temporary.touch()
            raise RuntimeError("file write failed")

    with pytest.raises(RuntimeError):
        fail()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(OSError, match=r"No space left on device: '.*model\.pt2'"):
        fail()
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root mounts a small disk")
def test_a_small_disk_that_is_full_keeps_the_old_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no disk may be mounted here")
    try:
        write_json(disk / "value.json", {"old": 1}, None)
        with pytest.raises(OSError, match="No space left"):
            write_json(disk / "value.json", {"new": "x" * 200_000}, None)
        assert read_json_object(disk / "value.json") == {"old": 1}
        assert names(disk) == ["value.json"]
        (disk / "rest").write_bytes(bytes(60_000))
        with pytest.raises(InputError, match="make room"):
            check_file(disk / "other.json", FileKind("a test", lambda path: True))
        with pytest.raises(InputError, match="where a disk is mounted"), whole_folder(disk, ANY):
            pass
    finally:
        subprocess.run(["umount", str(disk)], check=True)
