"""The data set on disk: same bytes however it is made, never half, never over something else."""

import errno
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
from refusal import refused, run
from typer.testing import CliRunner

pytest.importorskip("anny", reason="the extra 'synthetic' is not installed")

from cliphand.cli.app import app
from cliphand.data.freihand import open_freihand
from cliphand.data.synthetic import rendering, staging
from cliphand.data.synthetic.dataset import RENDERING, make_dataset
from cliphand.data.synthetic.labels import CHUNK
from cliphand.data.synthetic.plan import WORK, Plan, make_plan, record_of
from cliphand.data.synthetic.record import RECORD, read_record, write_record
from cliphand.data.synthetic.rigged_hand import build_rigged_hand, save_rigged_hand
from cliphand.errors import InputError
from cliphand.files import process_prefix
from cliphand.hand import N_JOINTS, N_VERTICES, load_hand

NO_PROCESS = 1 << 23  # above the largest number of a process

TRAIN, EVALUATION, SEED = CHUNK + 2, 2, 5


def plan(root: Path, train: int = TRAIN, evaluation: int = EVALUATION, seed: int = SEED) -> Plan:
    return make_plan(root, training=train, evaluation=evaluation, seed=seed, backgrounds=None)


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reference") / "set"
    make_dataset(plan(root), workers=0)
    return root


def stop_after(images: int) -> Callable[[str, int, int], None]:
    def progress(what: str, done: int, total: int) -> None:
        if what == RENDERING and done >= images:
            raise KeyboardInterrupt

    return progress


def test_the_folder_is_freihands_and_the_reader_takes_it(reference: Path) -> None:
    for split, count in (("training", TRAIN), ("evaluation", EVALUATION)):
        data = open_freihand(reference, split)  # type: ignore[arg-type]
        assert (len(data), data.n_labels, data.n_versions) == (count, count, 1)
        assert data.verts is not None
        assert data.xyz is not None
        assert np.asarray(data.verts).shape == (count, N_VERTICES, 3)
        assert np.asarray(data.xyz).shape == (count, N_JOINTS, 3)
        assert cv2.imread(str(data.image_path(count - 1))) is not None
    assert sorted(path.name for path in reference.iterdir()) == sorted(
        [
            *(
                f"{split}_{field}.json"
                for split in ("training", "evaluation")
                for field in ("K", "xyz", "verts", "scale")
            ),
            "training",
            "evaluation",
            "hand.npz",
            "preview.png",
            RECORD,
        ]
    )
    assert load_hand(reference / "hand.npz").faces.shape == (1538, 3)


def test_joints_are_the_regressors_of_the_written_hand(reference: Path) -> None:
    hand = load_hand(reference / "hand.npz")
    verts = np.array(json.loads((reference / "training_verts.json").read_text()))
    xyz = np.array(json.loads((reference / "training_xyz.json").read_text()))
    np.testing.assert_allclose(hand.joint_regressor @ verts, xyz, atol=1e-6)


def test_preview_shows_images_with_overlays(reference: Path) -> None:
    sheet = cv2.imread(str(reference / "preview.png"))
    assert sheet is not None
    assert sheet.shape[1] == 4 * 3 * 224
    first = cv2.imread(str(reference / "training" / "rgb" / "00000000.jpg"))
    np.testing.assert_array_equal(sheet[:224, :224], first)
    assert (sheet[:224, 224:448] != first).any()
    assert (sheet[:224, 448:672] != first).any()


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_count_does_not_change_a_byte(reference: Path, tmp_path: Path, workers: int) -> None:
    make_dataset(plan(tmp_path / "set"), workers=workers)
    assert content(tmp_path / "set") == content(reference)


@pytest.mark.parametrize(("workers", "images"), [(0, EVALUATION), (2, EVALUATION + CHUNK)])
def test_stopped_and_started_again_it_ends_with_the_same_bytes(
    reference: Path, tmp_path: Path, workers: int, images: int
) -> None:
    root = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        make_dataset(plan(root), workers=workers, progress=stop_after(images))
    for folder in (root, root / WORK / "training"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{process_prefix()}{NO_PROCESS}-0a.jpg").write_bytes(b"half")  # by a killed one
    seen: list[int] = []
    make_dataset(plan(root), workers=0, progress=lambda _, done, __: seen.append(done))
    assert seen[0] >= images  # the first word, before the hand is built; nothing is made twice
    assert content(root) == content(reference)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux's /proc to watch the workers")
def test_killed_with_its_workers_it_goes_on_with_the_same_bytes(reference: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    save_rigged_hand(build_rigged_hand(), root / WORK / "hand_model.npz")
    write_record(root, record_of(plan(root), complete=False))
    code = (
        "from pathlib import Path\n"
        "from cliphand.data.synthetic.dataset import make_dataset\n"
        "from cliphand.data.synthetic.plan import make_plan\n"
        f"root = Path({str(root)!r})\n"
        f"plan = make_plan(root, training={TRAIN}, evaluation={EVALUATION}, seed={SEED}, backgrounds=None)\n"
        "make_dataset(plan, workers=2)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: any((root / WORK).rglob("*.txt")))
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    assert len(workers) >= 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    make_dataset(plan(root), workers=0)
    assert content(root) == content(reference)


def wait_until(condition: Callable[[], bool], *, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def test_finished_set_is_left_alone(reference: Path) -> None:
    before = content(reference)
    make_dataset(plan(reference), workers=0, progress=stop_after(0))
    assert content(reference) == before


def test_more_images_are_added_to_a_finished_set(reference: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    make_dataset(plan(root, train=CHUNK, evaluation=1), workers=0)
    seen: list[int] = []
    make_dataset(plan(root), workers=0, progress=lambda what, done, _: seen.append(done) if what == RENDERING else None)
    assert seen[0] == CHUNK  # the evaluation image is part of a larger part now
    assert content(root) == content(reference)


@pytest.mark.parametrize("images", [0, CHUNK + EVALUATION + 1])
def test_a_larger_run_that_is_stopped_leaves_the_set_as_it_was(
    reference: Path, tmp_path: Path, images: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(reference, tmp_path / "set")
    command = ("synth", "--out", root, "--evaluation", EVALUATION, "--seed", SEED, "--workers", 1, "--train")
    calls: list[int] = []

    def advance(what: str, done: int, total: int) -> None:
        calls.extend([done] * (what == "rendering"))
        if len(calls) > 1 and done >= images:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cliphand.cli.synth.progress_bars", lambda **_: nullcontext(advance))
        assert run(capsys, *command, TRAIN + CHUNK)[0] == 130
    assert max(calls) >= images
    begun = content(root)
    assert {name: begun[name] for name in begun if not name.startswith(WORK)} == content(reference)
    assert any(name.startswith(WORK) for name in begun)
    assert run(capsys, "data", "check", root)[0] == 0
    assert run(capsys, *command, TRAIN)[0] == 0
    assert content(root) == content(reference)


def test_a_full_disk_leaves_the_smaller_set_as_it_was(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    root = shutil.copytree(reference, tmp_path / "set")
    with monkeypatch.context() as patch:
        patch.setattr(rendering, "_write_bytes", fill_up)
        with pytest.raises(InputError, match=f"the {TRAIN} training .* are as they were"):
            make_dataset(plan(root, train=TRAIN + CHUNK), workers=0)
    make_dataset(plan(root), workers=0)
    assert content(root) == content(reference)


def test_a_set_killed_while_its_files_move_in_is_told_as_unfinished_until_it_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small, whole = plan(tmp_path / "set", train=2, evaluation=0), plan(tmp_path / "whole", train=2, evaluation=0)
    with monkeypatch.context() as patch:
        for name in ("photo", "mask"):
            patch.setattr(staging, "_move", killed_after(staging._move, 1 if name == "photo" else 3))
            with pytest.raises(KeyboardInterrupt):
                make_dataset(small, workers=0)
            told = refused(capsys, "data", "check", small.root, watched=small.root)
            assert f"`cliphand synth --out {small.root} --train 2 --evaluation 0 --seed {SEED}" in told
            patch.undo()
    make_dataset(small, workers=0)
    make_dataset(whole, workers=0)
    assert content(small.root) == content(whole.root)


def killed_after(move: Callable[[Path, Path], None], files: int) -> Callable[[Path, Path], None]:
    moved: list[Path] = []

    def stop(path: Path, place: Path) -> None:
        if len(moved) == files:
            raise KeyboardInterrupt
        moved.append(place)
        move(path, place)

    return stop


@pytest.mark.parametrize("words", [("data", "check"), ("train", "--out", "run", "--data")])
def test_a_set_in_the_making_is_told_with_the_command_that_completes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path / "my set", record_of(plan(Path("my set")), complete=False))
    assert refused(capsys, *words, "my set", watched=tmp_path) == (
        f"my set holds an unfinished synthetic set; `cliphand synth --out 'my set' --train {TRAIN} --evaluation "
        f"{EVALUATION} --seed {SEED} --kind varied` completes it."
    )


def test_who_stopped_before_the_set_was_whole_may_ask_for_fewer_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        make_dataset(plan(root, train=2, evaluation=1), workers=0, progress=stop_after(3))
    make_dataset(plan(root, train=1, evaluation=1), workers=0)
    assert len(open_freihand(root, "training")) == 1
    assert not (root / WORK).exists()


def test_damaged_and_missing_images_are_made_again_by_the_same_command(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(reference, tmp_path / "set")
    cut = root / "training" / "rgb" / "00000003.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    for name in ("training/mask/00000001.jpg", "evaluation/rgb/00000001.jpg", "hand.npz"):
        (root / name).unlink()
    words = ("--train", TRAIN, "--evaluation", EVALUATION, "--seed", SEED, "--workers", 1)
    assert run(capsys, "synth", "--out", root, *words)[0] == 0
    assert content(root) == content(reference)


def test_full_disk_leaves_a_readable_set_that_can_go_on(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "set"
    write = rendering._write_bytes
    written = 0

    def fill_up(path: Path, data: bytes) -> None:
        nonlocal written
        written += 1
        if written > EVALUATION + 2 * CHUNK + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(rendering, "_write_bytes", fill_up)
    with pytest.raises(InputError, match=rf"full; {CHUNK} of {TRAIN} training and {EVALUATION} of {EVALUATION}"):
        make_dataset(plan(root), workers=0)
    monkeypatch.setattr(rendering, "_write_bytes", write)
    data = open_freihand(root, "training")
    assert (len(data), data.n_labels) == (CHUNK, CHUNK)
    assert len(open_freihand(root, "evaluation")) == EVALUATION
    assert not (root / WORK).exists()
    make_dataset(plan(root), workers=0)
    assert content(root) == content(reference)


def test_another_error_of_the_disk_is_not_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(rendering, "_write_bytes", fail)
    with pytest.raises(OSError, match="Input/output error"):
        make_dataset(plan(tmp_path / "set", train=1, evaluation=0), workers=0)


def test_a_folder_with_something_else_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        make_dataset(plan(tmp_path), workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"seed": SEED + 1}, f"of seed {SEED}, not {SEED + 1}"),
        ({"train": 3}, f"{TRAIN} training images, more than the 3"),
    ],
)
def test_another_set_is_refused(reference: Path, changed: dict[str, int], sentence: str) -> None:
    before = content(reference)
    with pytest.raises(InputError, match=sentence):
        make_dataset(plan(reference, **changed), workers=0)
    assert content(reference) == before


def test_other_backgrounds_are_refused(reference: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.zeros((64, 64, 3), np.uint8))
    other = make_plan(reference, training=TRAIN, evaluation=EVALUATION, seed=SEED, backgrounds=tmp_path)
    with pytest.raises(InputError, match="other backgrounds"):
        make_dataset(other, workers=0)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"seed": "five"}')
    with pytest.raises(InputError, match="not the record"):
        read_record(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file"):
        make_dataset(plan(file), workers=0)


@pytest.mark.parametrize(
    ("numbers", "flag"), [((0, 0, 0), "--train"), ((1, -1, 0), "--evaluation"), ((1, 0, -1), "--seed")]
)
def test_numbers_out_of_range_are_named(tmp_path: Path, numbers: tuple[int, int, int], flag: str) -> None:
    train, evaluation, seed = numbers
    with pytest.raises(InputError, match=flag):
        make_plan(tmp_path, training=train, evaluation=evaluation, seed=seed, backgrounds=None)


def test_backgrounds_without_pictures_are_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="--backgrounds"):
            make_plan(tmp_path / "set", training=1, evaluation=0, seed=0, backgrounds=folder)


def test_backgrounds_that_cannot_be_read_are_left_out_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walls = tmp_path / "walls"
    walls.mkdir()
    for name in ("a.jpg", "b.png", "c.webp", "d.bmp"):
        cv2.imwrite(str(walls / name), np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
        (walls / f"half-{name}").write_bytes((walls / name).read_bytes()[:-400])
    (walls / "half-d.bmp").unlink()  # half of it is one as well
    (walls / "notes.jpg").write_text("shopping")
    (walls / "empty.png").touch()
    cv2.imwrite(str(walls / "dot.png"), np.zeros((3, 3, 3), np.uint8))
    taken: list[Plan] = []
    monkeypatch.setattr("cliphand.data.synthetic.dataset.make_dataset", lambda plan, **_: taken.append(plan))
    code, _, err = run(capsys, "synth", "--out", tmp_path / "set", "--backgrounds", walls)
    assert code == 0
    assert err == f"6 of 10 pictures in {walls} cannot be read and are left out; the first is {walls / 'dot.png'}.\n"
    assert [path.name for path in taken[0].backgrounds.used] == ["a.jpg", "b.png", "c.webp", "d.bmp"]
    for path in taken[0].backgrounds.used:
        path.unlink()
    told = refused(capsys, "synth", "--out", tmp_path / "set", "--backgrounds", walls, watched=tmp_path)
    assert "holds no .jpg or .png picture that can be read, dot.png for one is none; name another folder." in told


def test_the_command_makes_a_set_and_says_where(tmp_path: Path) -> None:
    root = tmp_path / "set"
    arguments = ["synth", "--out", str(root), "--train", "3", "--evaluation", "1", "--seed", "2", "--workers", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "preview.png" in result.output.replace("\n", "")
    assert len(open_freihand(root, "training")) == 3


def test_a_refused_command_draws_no_bar(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = CliRunner().invoke(app, ["synth", "--out", str(tmp_path), "--train", "1", "--evaluation", "1"])
    assert isinstance(result.exception, InputError)
    assert result.output == ""


def test_the_command_refuses_negative_workers(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["synth", "--out", str(tmp_path / "set"), "--workers", "-1"])
    assert isinstance(result.exception, InputError)
    assert "--workers" in str(result.exception)
