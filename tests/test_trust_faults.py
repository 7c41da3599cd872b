"""Commands killed at any moment and started again: nothing half-written is taken for whole, and the end is the same."""

import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import cv2
import onnx
import pytest
import torch
from forked import server_with
from small_hand import TINY

from cliphand.checkpoint import save_checkpoint
from cliphand.claims import is_marked
from cliphand.config import CropConfig
from cliphand.files import sha256_of
from cliphand.hand import HandTopology, load_hand
from cliphand.kinds import REPORT
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel, level_templates
from engines.artefact.manifest import HAND_NAME, read_manifest
from engines.choice.choose import BENCH_NAME
from export.folder.write import GRAPH_NAME

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's processes")

LONGEST_S = 500.0
KILLS_IN_A_ROW = 2  # what is started again may be killed again
# Of each command in the plain run, and under `-m slow`: 4 and 40 in all.
KILLS = pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])


@dataclass(frozen=True)
class Command:
    """A command line and what is to be looked at where it was killed.

    Attributes:
        words: after `cliphand`; `{folder}` stands for where it writes.
        check: raises where the folder holds something half-written under a whole file's name. Also given the folder of
            a run that nobody disturbed, once there is one.
        result: of a folder: what must be the same however often the command was killed on its way.
        before: puts into an empty place what stands there before the command.
    """

    words: tuple[str, ...]
    check: Callable[[Path, Path], None]
    result: Callable[[Path], object]
    before: Callable[[Path], object] = lambda folder: None


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    """Processes that start with the libraries imported, so that a kill hits the command's own work."""
    return server_with(
        "cliphand.cli.app",
        "export.folder.write",
        "benchmarks.bench.run",
        "benchmarks.report.build",
        "engines.runtimes.eager",
        "built_hand",
    )


def run_command(words: tuple[str, ...], log: Path) -> None:
    """In a process of its own: `cliphand WORDS`."""
    from cliphand.cli.app import main

    with log.open("w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        sys.argv = ["cliphand", *words]
        main()


def begin(server: ForkServerContext, command: Command, folder: Path) -> ForkServerProcess:
    words = tuple(word.format(folder=folder) for word in command.words)
    process = server.Process(target=run_command, args=(words, folder.parent / "log.txt"))
    process.start()
    return process


def finish(server: ForkServerContext, command: Command, folder: Path) -> float:
    """Run to the end; seconds."""
    start = time.monotonic()
    process = begin(server, command, folder)
    process.join(LONGEST_S)
    assert process.exitcode == 0, (folder.parent / "log.txt").read_text()
    return time.monotonic() - start


Done = tuple[Path, float]  # the folder that a command wrote when nobody disturbed it, and its seconds


def undisturbed(server: ForkServerContext, command: Command, root: Path) -> Done:
    folder = place(command, root)
    return folder, finish(server, command, folder)


class Change:
    """True once files of a folder, or beside it, have come or gone so many times, and a little later."""

    def __init__(self, folder: Path, *, times: int, wait_s: float) -> None:
        self.folder, self.left, self.wait_s = folder, times, wait_s
        self.seen = self._names()

    def __call__(self) -> bool:
        now = self._names()
        self.left -= now != self.seen
        self.seen = now
        if self.left:
            return False
        time.sleep(self.wait_s)
        return True

    def _names(self) -> set[str]:
        return {f"{folder}/{name}" for folder, _, files in os.walk(self.folder.parent) for name in files}


def moments(rng: random.Random, folder: Path, duration_s: float) -> Iterator[Callable[[], bool]]:
    """By turns: once files change, and after a random share of the time that an undisturbed run takes."""
    while True:
        yield Change(folder, times=rng.randint(2, 6), wait_s=rng.uniform(0, 0.02))  # the log comes first
        end = time.monotonic() + rng.uniform(0.02, 0.98) * duration_s
        yield lambda end=end: time.monotonic() >= end


def kill(process: ForkServerProcess, moment: Callable[[], bool]) -> bool:
    """Kill a process as soon as `moment` is true; whether it was still at work."""
    while process.is_alive() and not moment():
        time.sleep(0.0005)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def survive(server: ForkServerContext, command: Command, root: Path, *, kills: int, done: Done | None = None) -> None:
    """Kill the command again and again, look at what it left each time, and let it end.

    Args:
        server: starts processes.
        command: what to run.
        root: for the folders that it writes.
        kills: processes that must die at work; one that ended before its moment does not count.
        done: an undisturbed run, where there is one already.
    """
    whole, duration_s = done or undisturbed(server, command, root / "whole")
    command.check(whole, whole)
    expected = command.result(whole)
    rng, count = random.Random(kills), 0  # noqa: S311
    for attempt in range(4 * kills):
        folder = place(command, root / str(attempt))
        for moment, _ in zip(moments(rng, folder, duration_s), range(KILLS_IN_A_ROW), strict=False):
            count += kill(begin(server, command, folder), moment)
            command.check(folder, whole)
            if count == kills:
                break
        finish(server, command, folder)
        command.check(folder, whole)
        assert command.result(folder) == expected, attempt
        shutil.rmtree(folder.parent)
        if count == kills:
            return
    pytest.fail(f"only {count} of the processes were still at work when they were killed")


def place(command: Command, root: Path) -> Path:
    """The folder that a command may write, in a place of its own, as it is before."""
    root.mkdir()
    command.before(root / "out")
    return root / "out"


def content(folder: Path) -> dict[str, bytes]:
    """Every file under a folder that is not a temporary one."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def data(freihand_folder: Callable[..., Path]) -> Path:
    return freihand_folder(n_labels=2)


@pytest.fixture(scope="module")
def checkpoint(data: Path, hand_topology: HandTopology, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "best"
    torch.manual_seed(0)
    hand = HandModel(TINY, level_templates(hand_topology, TINY.levels))
    save_checkpoint(
        folder,
        model=ClipHand(hand, None),
        model_config=TINY,
        crop=CropConfig(rule="whole"),
        topology=hand_topology,
        train=None,
        facts={"data": str(data)},
    )
    return folder


@pytest.fixture(scope="module")
def export(checkpoint: Path) -> Command:
    return Command(("export", str(checkpoint), "--out", "{folder}", "--no-tensorrt"), check_export, content)


def check_export(folder: Path, whole: Path) -> None:
    """There is no export, or all of it."""
    if not folder.exists():
        return
    manifest = read_manifest(folder)
    for name, artefact in manifest.artefacts.items():
        assert sha256_of(folder / name) == artefact.sha256
    onnx.checker.check_model(folder / GRAPH_NAME)
    load_hand(folder / HAND_NAME)


@pytest.fixture(scope="module")
def exported(server: ForkServerContext, export: Command, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return undisturbed(server, export, tmp_path_factory.mktemp("exports") / "whole")


@pytest.mark.parametrize(
    ("older", "kills"),
    [(True, 1), pytest.param(True, 5, marks=pytest.mark.slow), pytest.param(False, 5, marks=pytest.mark.slow)],
)
def test_an_export_is_whole_or_absent(
    server: ForkServerContext, export: Command, exported: Done, tmp_path: Path, older: bool, kills: int
) -> None:
    if older:
        export = dataclasses.replace(export, before=lambda folder: shutil.copytree(exported[0], folder))
    survive(server, export, tmp_path, kills=kills, done=exported)


@pytest.fixture(scope="module")
def bench(exported: Done, data: Path) -> Command:
    def before(folder: Path) -> None:
        shutil.copytree(exported[0], folder)
        keys = ("machine", "export", "protocol", "root", "speed")
        (folder / BENCH_NAME).write_text(json.dumps(dict.fromkeys(keys) | {"rows": [], "note": "an older one"}))

    quick = ("--calls", "3", "--seconds", "5", "--cold-starts", "0", "--side-by-side", "0", "--energy", "0")
    words = ("bench", "{folder}", "--data", str(data), "--engine", "onnxruntime", "--threads", "1", *quick)
    return Command(words, check_bench, bench_result, before)


def check_bench(folder: Path, whole: Path) -> None:
    """The benchmark's file is the older one or the new one, whole; the export is as it was."""
    found = json.loads((folder / BENCH_NAME).read_text())
    assert found.get("note") == "an older one" or len(found["rows"]) == 2
    check_export(folder, whole)


def bench_result(folder: Path) -> object:
    """What does not depend on the clock."""
    found = json.loads((folder / BENCH_NAME).read_text())
    facts = ("engine", "precision", "batch", "pa_pjpe_mm", "within_gate")
    return [[row[name] for name in facts] for row in found["rows"]], found["data"], found["export"]["checkpoint_sha256"]


@KILLS
def test_a_benchmarks_file_is_the_older_or_the_new_one(
    server: ForkServerContext, bench: Command, tmp_path: Path, kills: int
) -> None:
    survive(server, bench, tmp_path, kills=kills)


@pytest.fixture(scope="module")
def report(exported: Done, data: Path) -> Command:
    words = ("report", "{folder}", "--data", str(data), "--engine", "onnxruntime", "--threads", "1")
    return Command(words, check_report, report_result, lambda folder: shutil.copytree(exported[0], folder))


def check_report(folder: Path, whole: Path) -> None:
    """Page and pictures under their own names are whole."""
    page = folder / "report.html"
    if page.exists():
        assert is_marked(page, REPORT.writer)  # at its very end
        assert set(content(folder)) == set(content(whole))
    for picture in folder.rglob("report_figures/*.png"):
        assert cv2.imread(str(picture)) is not None
    check_export(folder, whole)


def report_result(folder: Path) -> object:
    """The names of all files, and the page's sections, headings and verdict; times are in everything else."""
    page = (folder / "report.html").read_text()
    return sorted(content(folder)), re.findall(r'<section id="\w+"|<h\d>[^<]*', page), "Gate passed" in page


@KILLS
def test_a_report_is_whole_or_absent(server: ForkServerContext, report: Command, tmp_path: Path, kills: int) -> None:
    pytest.importorskip("vl_convert", reason="needs the extra 'report'")
    survive(server, report, tmp_path, kills=kills)


@KILLS
def test_a_synthetic_set_ends_with_the_same_bytes(server: ForkServerContext, tmp_path: Path, kills: int) -> None:
    pytest.importorskip("anny", reason="needs the extra 'synthetic'")
    words = ("synth", "--out", "{folder}", "--train", "9", "--evaluation", "2", "--seed", "5", "--workers", "1")
    survive(server, Command(words, check_synth, content), tmp_path, kills=kills)


def check_synth(folder: Path, whole: Path) -> None:
    """What has a picture's or a list's name is that of an undisturbed run."""
    expected = content(whole)
    for name, found in content(folder).items():
        if Path(name).suffix in (".jpg", ".png") or name.startswith(("training_", "evaluation_")):
            assert found == expected[name], name
