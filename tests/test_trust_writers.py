"""No command removes or overwrites what it did not write: every command that writes, on every state of its target.

A refusal is one sentence that names the target, exit code 2, and leaves everything as it was; it comes before any work.
"""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import typer
from linear_hand import save_export
from typer.core import TyperGroup

from cliphand.claims import FolderKind, check_folder, held
from cliphand.cli.app import app, main
from cliphand.hand import HandTopology

Words = list[str]
State = Callable[[Path], None]
LONG = "n" * 300


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory, hand_topology: HandTopology) -> Path:
    return save_export(tmp_path_factory.mktemp("writers") / "export", hand_topology)


# What each command is called with to write `target`; its inputs need not exist, since the target comes first.
FILES: dict[str, Callable[[Path, Path], Words]] = {
    "score --json": lambda target, _: ["score", "predictions.json", "--data", "data", "--json", str(target)],
    "data check --picture": lambda target, _: ["data", "check", "data", "--picture", str(target)],
    "doctor --json": lambda target, _: ["doctor", "--json", str(target)],
    "licences --json": lambda target, _: ["licences", "--json", str(target)],
    "inspect --json": lambda target, export: ["inspect", str(export), "--json", str(target)],
    "hand --out": lambda target, _: ["hand", "MANO_RIGHT.pkl", "--out", str(target)],
    "import-released --json": lambda target, _: ["import-released", "w.pth.tar", "--out", "c", "--json", str(target)],
    "bench --json": lambda target, export: ["bench", str(export), "--data", "data", "--json", str(target)],
    "bench --predictions": lambda target, export: ["bench", str(export), "--data", "d", "--predictions", str(target)],
    "report --out": lambda target, export: ["report", str(export), "--out", str(target)],
    "predict": lambda target, export: ["predict", str(_photograph(target)), "--export", str(export)],
    "predict, picture": lambda target, export: ["predict", str(_photograph(target)), "--export", str(export)],
}
FOLDERS: dict[str, Callable[[Path, Path], Words]] = {
    "export --out": lambda target, _: ["export", "runs/a/best", "--out", str(target), "--no-tensorrt"],
    "train --out": lambda target, _: ["train", "--data", "data", "--out", str(target)],
    "synth --out": lambda target, _: ["synth", "--out", str(target), "--train", "1", "--evaluation", "1"],
    "quickstart --out": lambda target, _: ["quickstart", "--out", str(target)],
    "import-released --out": lambda target, _: ["import-released", "w.pth.tar", "--out", str(target)],
}
NAMES = {
    "data check --picture": "sheet.png",
    "report --out": "report.html",
    "predict": "photo.hand.json",
    "predict, picture": "photo.hand.png",
}
INTO = ("train --out", "synth --out", "quickstart --out")  # write into a folder, so that a link to one will do


def _photograph(target: Path) -> Path:
    """Beside whose name `predict` writes the target."""
    return target.with_name(target.name.partition(".hand.")[0] + ".jpg")


def text(target: Path) -> None:
    target.write_text("three years of work")


def json_list(target: Path) -> None:
    target.write_text("[[[0, 0, 0]], []]")


def other_json(target: Path) -> None:
    target.write_text(json.dumps({"rows": [], "machine": {}, "model": "mine"}))


def quotation(target: Path) -> None:
    """A text that ends in the words of every mark."""
    target.write_text("Written by cliphand hand, report and predict. tEXtSoftware\0Written by cliphand predict")


def deep_json(target: Path) -> None:
    target.write_text('{"a": ' * 20_000)


def folder(target: Path) -> None:
    target.mkdir()


def full_folder(target: Path) -> None:
    target.mkdir()
    (target / "thesis.txt").write_text("three years of work")


def trained(target: Path) -> None:
    """What was lost once: somebody's text and the checkpoint of another run."""
    (target / "best").mkdir(parents=True)
    (target / "best" / "model.safetensors").write_bytes(b"weights")
    (target / "thesis.txt").write_text("three years of work")


def hidden(target: Path) -> None:
    (target / ".git").mkdir(parents=True)


def link_to_file(target: Path) -> None:
    (target.parent / "elsewhere").write_text("three years of work")
    target.symlink_to(target.parent / "elsewhere")


def link_to_folder(target: Path) -> None:
    full_folder(target.parent / "elsewhere")
    target.symlink_to(target.parent / "elsewhere")


def link_to_empty_folder(target: Path) -> None:
    (target.parent / "elsewhere").mkdir()
    target.symlink_to(target.parent / "elsewhere")


def link_to_nothing(target: Path) -> None:
    target.symlink_to(target.parent / "nowhere")


def pipe(target: Path) -> None:
    os.mkfifo(target)


FILE_STATES: tuple[State, ...] = (
    *(text, json_list, other_json, quotation, deep_json),
    *(folder, full_folder, link_to_file, link_to_folder, link_to_nothing, pipe),
)
FOLDER_STATES: tuple[State, ...] = (
    *(text, full_folder, trained, hidden, link_to_file, link_to_folder, link_to_empty_folder, link_to_nothing, pipe),
)
CASES = [
    *((command, state) for command in FILES for state in FILE_STATES),
    *(
        (command, state)
        for command in FOLDERS
        for state in FOLDER_STATES
        if not (command in INTO and state is link_to_empty_folder)
    ),
]
COMMANDS = FILES | FOLDERS


def snapshot(root: Path) -> dict[str, object]:
    """Everything under a folder, links not followed."""
    return {
        str(path.relative_to(root)): (
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else path.stat().st_mode
        )
        for path in root.rglob("*")
    }


def run(words: Words, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and stderr of the command line, in this process."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "argv", ["cliphand", *words])
    monkeypatch.setattr(sys, "stderr", said)
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0), said.getvalue()


def refused(words: Words, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence of a command that must refuse and change nothing under `root`."""
    before = snapshot(root)
    monkeypatch.chdir(root)
    code, said = run(words, monkeypatch)
    assert code == 2, said
    assert "Traceback" not in said
    said = said.splitlines()[-1]  # after what a progress bar may have left
    assert said.startswith("cliphand: ")
    assert said.endswith(".")
    assert snapshot(root) == before
    return said


@pytest.mark.parametrize(("command", "state"), CASES, ids=[f"{command}, {state.__name__}" for command, state in CASES])
def test_what_a_command_did_not_write_stays(
    command: str, state: State, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / NAMES.get(command, "target")
    state(target)
    said = refused(COMMANDS[command](target, export), tmp_path, monkeypatch)
    assert str(target) in said
    if state in (full_folder, trained, hidden) and command in FOLDERS:
        assert "thesis.txt" in said or ".git" in said or "not empty" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_where_nothing_can_be_written_is_said_at_once(
    command: str, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = NAMES.get(command, "target")
    (tmp_path / "file").write_text("no folder")
    said = refused(COMMANDS[command](tmp_path / "file" / name, export), tmp_path, monkeypatch)
    assert f"{tmp_path / 'file'} is no folder" in said
    said = refused(COMMANDS[command](tmp_path / "new" / (LONG + name), export), tmp_path, monkeypatch)
    assert "over 255 bytes" in said or "File name too long" in said
    for error, words in ((errno.EROFS, "name a place that can be written to"), (errno.ENOSPC, "make room")):

        def refuse(*, error: int = error, **_: object) -> None:
            raise OSError(error, os.strerror(error))

        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "TemporaryFile", refuse)
            said = refused(COMMANDS[command](tmp_path / name, export), tmp_path, patch)
        assert os.strerror(error) in said
        assert words in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_folder_is_said_at_once(
    command: str, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    said = refused(COMMANDS[command](closed / NAMES.get(command, "target"), export), tmp_path, monkeypatch)
    assert "Permission denied" in said


@pytest.mark.parametrize("command", ["export --out", "synth --out", "quickstart --out"])
def test_a_folder_that_another_process_writes_is_refused_until_it_dies(
    command: str, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom cliphand.claims import held\n"
        "with held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(10_000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        try:
            other.stdout.readline()
            assert "another process is writing" in refused(COMMANDS[command](target, export), tmp_path, monkeypatch)
        finally:
            other.send_signal(signal.SIGKILL)
    with held(target):
        assert not target.exists()


def _commands(command: click.Command, name: str = "") -> Iterator[tuple[str, list[click.Parameter]]]:
    """Each command and group, by the words that call it, and its parameters."""
    yield name, command.params
    if isinstance(command, TyperGroup):
        for word, below in command.commands.items():
            yield from _commands(below, f"{name} {word}".strip())


def test_every_option_that_names_an_output_has_its_row() -> None:
    outputs = {
        f"{name} {option}"
        for name, parameters in _commands(typer.main.get_command(app))
        for parameter in parameters
        for option in parameter.opts
        if option in ("--out", "--json", "--predictions", "--picture")
    }
    assert outputs - set(COMMANDS) == {"predict --out", "predict --picture"}  # whose files have rows


def test_a_folder_that_one_stands_in_is_no_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_folder(Path(), FolderKind("cliphand export", lambda folder: []))


def test_the_states_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    places = 4 * len(COMMANDS)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(COMMANDS)} writers, {len(CASES)} states of targets and {places} bad places refused\n")
    assert len(CASES) + places >= 200


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_command_never_writes_over_its_input(here: Path, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "MANO.pkl").write_bytes(b"\x80\x02}.")
    (here / "predictions.json").write_text("[[], []]")
    (here / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (here / "photo.hand.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for words, named in (
        (["hand", "MANO.pkl", "--out", "MANO.pkl"], "MANO.pkl"),
        (["score", "predictions.json", "--data", "d", "--json", "predictions.json"], "predictions.json"),
        (["import-released", "w.pth.tar", "--out", "photo.png"], "photo.png"),
        (["predict", "photo.jpg", "photo.hand.png", "--export", str(export)], "photo.hand.png"),
        (["inspect", str(export), "--json", str(export / "manifest.json")], "manifest.json"),
    ):
        assert named in refused(words, here, monkeypatch)


def test_two_photographs_of_one_name_do_not_share_a_file(
    here: Path, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["predict", "a/photo.jpg", "b/photo.jpg", "--out", "out", "--export", str(export)]
    assert "would both be written to" in refused(words, here, monkeypatch)
