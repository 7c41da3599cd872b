"""Runs that are killed, stopped, damaged or shared out over processes: none is lost, and none ends otherwise."""

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from torch import distributed
from train_command import arguments, start

from cliphand.checkpoint import load_checkpoint
from cliphand.checkpoint_place import RUN_FILE
from cliphand.claims import work_name
from cliphand.cli import app
from cliphand.errors import InputError, RunError
from cliphand.hand import load_hand, save_hand
from cliphand.training import loop
from cliphand.training.ranks import Rank, train_in_processes
from cliphand.training.run_place import RESUME_FILE, read_history
from cliphand.training.state import SealedState, read_state

LIMIT_S = 900  # for a process to do what is waited for; none comes near it, whatever else runs
# On one machine and thread a resumed run repeats the other's arithmetic; one epoch more or less moves the metrics by
# more than a hundred times this share.
SAME = 1e-5


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=4)


@dataclasses.dataclass(frozen=True)
class Command:
    """`cliphand train` into one folder."""

    data: Path
    hand: Path
    out: Path

    def words(self, *flags: str, **options: object) -> list[str]:
        return arguments(self.data, self.hand, self.out, *flags, **options)

    @property
    def log(self) -> Path:
        return self.out.parent / "log"

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def run(self, *flags: str, **options: object) -> int | None:
        """To its end, in a process."""
        process = start(self.words(*flags, **options), self.log)
        process.join(LIMIT_S)
        return process.exitcode

    def here(self, monkeypatch: pytest.MonkeyPatch, *flags: str, **options: object) -> int:
        """To its end, in this process."""
        monkeypatch.setattr(sys, "argv", ["cliphand", *self.words(*flags, **options)])
        with pytest.raises(SystemExit) as end:
            app.main()
        return int(end.value.code or 0)


@pytest.fixture
def command(data: Path, hand_file: Path, tmp_path: Path) -> Command:
    return Command(data, hand_file, tmp_path / "run")


@pytest.fixture(scope="module")
def undisturbed(data: Path, hand_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing happened to."""
    made = Command(data, hand_file, tmp_path_factory.mktemp("undisturbed") / "run")
    assert made.run() == 0, made.said()
    return made.out


@pytest.fixture
def copy(undisturbed: Path, command: Command) -> Command:
    """The command whose folder holds what `undisturbed` left."""
    shutil.copytree(undisturbed, command.out)
    return command


def await_that(happened: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_whole(out: Path) -> None:
    """Nothing half-written is taken for whole, and no epoch is told twice."""
    for name in ("last", "best"):
        if (out / name).exists():
            load_checkpoint(out / name)
    if (out / RESUME_FILE).exists():
        read_state(out / RESUME_FILE)
    epochs = [entry["epoch"] for entry in read_history(out)]
    assert epochs == list(range(len(epochs)))
    table = out / "csv" / "metrics.csv"
    if table.exists():
        with table.open() as stream:
            assert [int(row["epoch"]) for row in csv.DictReader(stream)] == list(range(len(epochs)))


def check_equal(out: Path, undisturbed: Path) -> None:
    check_whole(out)
    ours, theirs = read_history(out), read_history(undisturbed)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=SAME)
    for name in ("last", "best"):
        one, other = (load_file(folder / name / "model.safetensors") for folder in (out, undisturbed))
        for key, value in other.items():
            torch.testing.assert_close(one[key], value, rtol=SAME, atol=SAME)


def test_two_processes_train_as_one_does(freihand_folder: Callable[..., Path], hand_file: Path, tmp_path: Path) -> None:
    """The same global batch, every term of the loss, and a resumption between the epochs."""
    data = freihand_folder(n_labels=5, versions=2)
    one, two = (Command(data, hand_file, tmp_path / name) for name in ("one", "two"))
    terms = {"weight_clip": 0.1, "prompt_joints": 2}
    shared = terms | {"batch": 2, "devices": 2}
    commands = [
        one.words(batch=4, epochs=2, **terms),
        two.words(epochs=1, **shared),
        two.words("--resume", epochs=2, **shared),
    ]
    script = Path(__file__).parent / "two_processes.py"
    done = subprocess.run(
        [sys.executable, script, json.dumps(commands)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    alone, shared_out = read_history(one.out), read_history(two.out)
    assert len(alone) == len(shared_out) == 2
    for ours, theirs in zip(shared_out, alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    moved = alone[1]["loss"] / alone[0]["loss"]
    assert abs(moved - 1) > 1e-2  # what an epoch does is more than is allowed
    check_whole(two.out)


def fail(how: str, rank: Rank) -> None:
    """The second process fails; the first waits for it, for ever."""
    if rank.number == 0:
        distributed.barrier()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise {"bad input": InputError, "run": RunError, "bug": ValueError}[how]("in a sentence")


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("bad input", InputError, r"^in a sentence$"),
        ("run", RunError, r"^in a sentence$"),
        ("killed", RunError, r"process 1 of 2 was ended by SIGKILL.*--resume"),
        ("bug", RunError, r"process [01] of 2 failed \(exit code 1, its last words are above\).*--resume"),
    ],
)
def test_a_process_that_fails_ends_the_others(how: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        train_in_processes(fail, how, 2, backend="gloo")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_the_processes_of_a_killed_run_end(command: Command) -> None:
    with training(command, devices=2, workers=1) as pid:
        found, new = {pid}, {pid}
        while new:
            new = {child for parent in new for child in children_of(parent)} - found
            found |= new
        assert len(found) >= 6  # two processes with a worker each, and the server that forks them
        os.kill(pid, signal.SIGKILL)
        await_that(lambda: not any(alive(each) for each in found))


def test_the_tolerance_of_equal_runs_is_smaller_than_an_epoch(undisturbed: Path) -> None:
    *_, before, last = (entry["val_pa_pjpe_mm"] for entry in read_history(undisturbed))
    assert abs(last - before) > 100 * SAME * last


def test_epochs_are_counted_as_people_count(undisturbed: Path) -> None:
    said = (undisturbed.parent / "log").read_text()
    assert "Epoch 3/3" in said
    assert "Epoch 0" not in said


def kill_until_done(command: Command, *, kills: int, seed: int, workers: int) -> int:
    """Kill the run at random moments and start it again, as its user would, until it is done; how often it died."""
    chance = np.random.default_rng(seed)
    longest_s, died = 3.0, 0
    while True:
        flags = ("--resume",) if (command.out / RUN_FILE).exists() else ()
        process = start(command.words(*flags, workers=workers), command.log)
        if died < kills:
            process.join(chance.uniform(0, longest_s))
            process.kill()
        process.join(LIMIT_S)
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0, command.said()
            if died >= kills:
                return died
            # Too late to kill it: its folder is whole, and another begins.
            shutil.rmtree(command.out)
            longest_s /= 2
            continue
        died += 1
        if command.out.exists():
            check_whole(command.out)


@pytest.mark.parametrize(("workers", "kills"), [(0, 2), (2, 1)])
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(
    command: Command, undisturbed: Path, workers: int, kills: int
) -> None:
    assert kill_until_done(command, kills=kills, seed=workers, workers=workers) == kills
    check_equal(command.out, undisturbed)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_sees_what_an_undisturbed_one_sees(command: Command, undisturbed: Path, workers: int) -> None:
    assert command.run(epochs=2, workers=workers) == 0, command.said()
    assert command.run("--resume", workers=workers) == 0, command.said()
    check_equal(command.out, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_run_killed_many_times_ends_as_an_undisturbed_one(command: Command, undisturbed: Path, seed: int) -> None:
    assert kill_until_done(command, kills=4, seed=seed, workers=seed % 3) == 4
    check_equal(command.out, undisturbed)


@pytest.mark.parametrize("left", ["state alone", "state and history", "an older best"])
def test_what_a_kill_left_undone_after_the_state_is_done_on_resumption(
    copy: Command, undisturbed: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {
        "state alone": ("metrics.json", "csv", "tensorboard", "last", "best"),
        "state and history": ("last",),
        "an older best": ("last", "csv"),
    }
    best = load_checkpoint(undisturbed / "best").facts["epoch"]
    for name in gone[left]:
        if name == "best" and best != 2:
            continue  # an earlier epoch's, which was whole before the last began
        target = copy.out / name
        target.unlink() if target.is_file() else shutil.rmtree(target)
    assert copy.here(monkeypatch, "--resume") == 0
    check_equal(copy.out, undisturbed)


@pytest.mark.parametrize("flags", [(), ("--resume",)])
def test_a_run_without_a_finished_epoch_starts_again(
    command: Command, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise FloatingPointError("the loss is not finite")

    with monkeypatch.context() as patch:
        patch.setattr("lightning.Trainer.fit", broken)
        assert command.here(monkeypatch, epochs=1) == 3
    assert {path.name for path in command.out.iterdir()} <= {RUN_FILE}
    said = capsys.readouterr().err
    assert "no epoch had finished: the same command (without --resume) with a lower --learning-rate" in said
    assert command.here(monkeypatch, *flags, epochs=1) == 0
    assert "No epoch had finished" in capsys.readouterr().out
    assert len(read_history(command.out)) == 1


def test_a_loss_that_is_not_finite_is_one_sentence_and_what_was_saved_stays(
    copy: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(copy.out)
    monkeypatch.setattr("cliphand.training.module.point_l1", lambda *points, **options: points[0].sum() * torch.nan)
    assert copy.here(monkeypatch, "--resume", epochs=4) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "loss is not finite" in said
    assert f"in another --out with --start {copy.out / 'last'} and a lower --learning-rate" in said
    assert content(copy.out).keys() >= before.keys()
    check_whole(copy.out)
    assert len(read_history(copy.out)) == 3
    monkeypatch.undo()
    further = {"out": copy.out.with_name("further"), "start": copy.out / "last", "learning_rate": 1e-4}
    assert copy.here(monkeypatch, epochs=1, **further) == 0


def test_weights_that_the_last_step_spoilt_are_not_saved(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(module: torch.nn.Module, *_: object) -> None:
        next(module.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr("cliphand.training.module.HandTraining.on_train_batch_end", spoil)
    assert command.here(monkeypatch, batch=4, epochs=1) == 3  # one step, whose own loss was finite
    assert "is not finite" in capsys.readouterr().err
    assert not (command.out / RESUME_FILE).exists()


class Executed:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.proof,)


def sealed(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    """A state that is whole, and wrong."""
    state = dict(read_state(path))
    change(state)
    SealedState(None).save_checkpoint(state, path)


def first_weight(state: dict[str, object]) -> str:
    return next(iter(state["state_dict"]))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "of ten bytes": lambda path: path.write_bytes(b"0123456789"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1000]),
    "half of it": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "a text": lambda path: path.write_text("state"),
    "another zip": lambda path: shutil.copy(path.parent / "hand.npz", path),
    "a safetensors file": lambda path: shutil.copy(path.parent / "last" / "model.safetensors", path),
    "a pickle with code": lambda path: torch.save({"state_dict": Executed(path.parent / "proof")}, path),
    "an unsealed state": lambda path: torch.save(torch.load(path, weights_only=True), path),
    "a byte changed": lambda path: path.write_bytes(
        b"".join((path.read_bytes()[:999], b"!", path.read_bytes()[1000:]))
    ),
    "bytes at its end": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "of other keys": lambda path: sealed(path, lambda state: state["state_dict"].pop(first_weight(state))),
    "of other shapes": lambda path: sealed(
        path, lambda state: state["state_dict"].update({first_weight(state): torch.zeros(7)})
    ),
    "of another epoch": lambda path: sealed(path, lambda state: state["callbacks"]["RunRecorder"]["history"].pop()),
    "of another run": lambda path: sealed(
        path, lambda state: state["callbacks"]["RunRecorder"].update({"run": "0" * 64})
    ),
    "without parts": lambda path: sealed(path, lambda state: state.pop("callbacks")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_refused_and_nothing_is_touched(
    copy: Command, hand_file: Path, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(hand_file, copy.out / "hand.npz")
    DAMAGES[damage](copy.out / RESUME_FILE)
    before = content(copy.out)
    assert copy.here(monkeypatch, "--resume", epochs=4) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert RESUME_FILE in said
    assert content(copy.out) == before


def other_hand(command: Command) -> dict[str, object]:
    hand = load_hand(command.hand)
    path = command.out.parent / "other.npz"
    save_hand(dataclasses.replace(hand, template=hand.template * 1.0001), path)
    return {"hand": path}


def other_data(command: Command) -> dict[str, object]:
    path = command.out.parent / "other"
    shutil.copytree(command.data, path)
    labels = json.loads((path / "training_xyz.json").read_text())
    labels[0][0][0] += 1e-6
    (path / "training_xyz.json").write_text(json.dumps(labels))
    return {"data": path}


OTHERS: dict[str, tuple[Callable[[Command], dict[str, object]], str]] = {
    "hand": (other_hand, "another hand"),
    "data": (other_data, "other data"),
    "start": (
        lambda command: {"start": command.out / "best"},
        "was started with no --start, and is now to go on with --start ",
    ),
    "option": (
        lambda command: {"batch": 3},
        "was started with --batch 2, and is now to go on with --batch 3; resume with what",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_resuming_with_something_else_is_refused(
    copy: Command, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = OTHERS[other]
    options, before = change(copy), content(copy.out)
    assert copy.here(monkeypatch, "--resume", epochs=4, **options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert content(copy.out) == before


def test_the_same_data_in_another_place_is_the_same(
    copy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(copy.data, tmp_path / "moved")
    assert copy.here(monkeypatch, "--resume", data=tmp_path / "moved") == 0


def test_a_folder_of_something_else_is_refused(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command.out.mkdir()
    (command.out / "thesis.txt").write_text("mine")
    assert command.here(monkeypatch) == 2
    assert "holds thesis.txt, which `cliphand train` did not write" in capsys.readouterr().err
    assert [path.name for path in command.out.iterdir()] == ["thesis.txt"]


def test_a_run_whose_state_is_gone_is_not_written_over(
    copy: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy.out / RESUME_FILE).unlink()
    before = content(copy.out)
    assert copy.here(monkeypatch) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert copy.here(monkeypatch, "--resume") == 2
    assert f"holds no {RESUME_FILE}" in capsys.readouterr().err
    assert content(copy.out) == before


def test_two_processes_do_not_train_in_one_folder(
    copy: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cliphand.training.run_place.LOCK_S", 0.1)
    with FileLock(work_name(copy.out, "lock")):
        assert copy.here(monkeypatch, "--resume", epochs=4) == 2
    assert "another process is writing" in capsys.readouterr().err


@contextmanager
def training(command: Command, *, own_group: bool = False, **options: object) -> Iterator[int]:
    """The id of a long run whose first epoch has finished; it is over at the end."""
    process = start(command.words(epochs=10_000, **options), command.log, own_group=own_group)
    try:
        await_that((command.out / "csv" / "metrics.csv").exists)
        yield int(process.pid or 0)
        process.join(LIMIT_S)
        command.log.open("a").write(f"\nexit code {process.exitcode}\n")
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize(("number", "options"), [(signal.SIGINT, {"workers": 2}), (signal.SIGTERM, {"workers": 0})])
def test_a_signal_ends_a_run_in_order(command: Command, number: signal.Signals, options: dict[str, object]) -> None:
    with training(command, **options) as pid:
        os.kill(pid, number)
    said = command.said()
    assert f"exit code {128 + number}" in said
    assert f"stopped by {number.name}" in said
    assert "go on with --resume" in said
    assert "Traceback" not in said
    check_whole(command.out)
    epochs = len(read_history(command.out))
    assert command.run("--resume", epochs=epochs + 1) == 0, command.said()
    assert len(read_history(command.out)) == epochs + 1


@pytest.mark.skipif(sys.platform == "win32", reason="signals a group as POSIX does")
def test_a_signal_to_the_whole_group_ends_a_run_in_order(command: Command) -> None:
    with training(command, own_group=True, workers=2) as pid:
        os.killpg(pid, signal.SIGTERM)
    said = command.said()
    assert f"exit code {128 + signal.SIGTERM}" in said
    assert said.count("stopped by SIGTERM") == 1
    assert "go on with --resume" in said
    assert "Traceback" not in said
    check_whole(command.out)


def children_of(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == pid and stat[0] != "Z":
                    found.append(int(folder.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_runs_workers_end(command: Command) -> None:
    with training(command, workers=2) as pid:
        workers = children_of(pid)
        assert len(workers) >= 2
        os.kill(pid, signal.SIGKILL)
        await_that(lambda: not any(alive(worker) for worker in workers))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photograph_that_vanishes_while_training_is_one_sentence(
    workers: int,
    freihand_folder: Callable[..., Path],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = freihand_folder(n_labels=2, size_px=64)
    lost, make = data / "training" / "rgb" / "00000001.jpg", loop.make_trainer

    def lose(*given: object) -> object:
        lost.unlink()
        return make(*given)

    monkeypatch.setattr("cliphand.training.loop.make_trainer", lose)
    code = dataclasses.replace(command, data=data).here(monkeypatch, workers=workers)
    said = capsys.readouterr().err
    assert code == 2
    assert f"cliphand: {lost} does not exist; " in said
    assert "Traceback" not in said
