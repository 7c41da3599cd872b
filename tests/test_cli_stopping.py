"""Ctrl-C and SIGTERM end every command with its sentence and exit code, whatever runs in it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from linear_hand import save_export

from cliphand.cli.stopping import stoppable
from cliphand.hand import HandTopology

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX does")
LIMIT_S = 120  # none comes near it
IN_A_BENCHMARK = """
from benchmarks.measure import speed
from cliphand.cli.app import main

begin = speed.measure_interleaved

def measure(*arguments, **options):
    print("ready", flush=True)
    return begin(*arguments, **options)

speed.measure_interleaved = measure
main()
"""
IN_ANY_COMMAND = """
import time
from cliphand.cli import app

def sleep(**options):
    print("ready", flush=True)
    time.sleep(1000)

app.app = sleep
app.main()
"""


def told_after(script: str, number: int, *words: object) -> tuple[int, str]:
    """Exit code and stderr of a command line that is sent a signal when it has said that it is ready."""
    command = [sys.executable, "-c", script, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    return process.returncode, said


def test_ctrl_c_ends_a_benchmark_of_openvino_in_one_sentence(
    freihand_folder: Callable[..., Path], hand_topology: HandTopology, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    export = save_export(tmp_path / "export", hand_topology)
    before = sorted(path.name for path in export.iterdir())
    words = ["bench", export, "--data", freihand_folder(n_labels=1), "--engine", "openvino", "--threads", "1"]
    endless = ["--calls", "1000000", "--seconds", "1000", "--interval", "0"]
    code, said = told_after(IN_A_BENCHMARK, signal.SIGINT, *words, *endless)
    assert code == 130, said
    assert said.splitlines()[-1] == "cliphand: stopped by SIGINT; the same command starts again."
    assert "Traceback" not in said
    assert sorted(path.name for path in export.iterdir()) == before


@pytest.mark.parametrize(
    ("command", "number", "advice"),
    [
        ("score", signal.SIGTERM, "the same command starts again."),
        ("synth", signal.SIGINT, "the same command goes on where it stopped."),
    ],
)
def test_a_signal_ends_every_command_in_one_sentence(command: str, number: signal.Signals, advice: str) -> None:
    code, said = told_after(IN_ANY_COMMAND, number, command)
    assert (code, said) == (128 + number, f"cliphand: stopped by {number.name}; {advice}\n")


def test_a_signal_that_was_to_be_ignored_stays_ignored() -> None:
    """As a script's job in the background is started."""
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{IN_ANY_COMMAND}"
    code, said = told_after(ignoring.replace("time.sleep(1000)", "time.sleep(0.5)"), signal.SIGINT, "score")
    assert (code, said) == (0, "")


@pytest.mark.parametrize("closing", ["pass", "raise RuntimeError('a worker is gone')"])
def test_nothing_runs_after_a_block_that_was_stopped(closing: str) -> None:
    script = (
        "import atexit, threading, time\n"
        "from cliphand.cli.stopping import stoppable\n"
        "atexit.register(time.sleep, 1000)\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "with stoppable(lambda: 'go on.', within_s=1000):\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(1000)\n"
        "    finally:\n"
        f"        {closing}\n"
    )
    code, said = told_after(script, signal.SIGTERM)
    assert code == 143
    assert said == "cliphand: stopped by SIGTERM; go on.\n"


def test_a_block_that_does_not_end_is_ended() -> None:
    script = (
        "import time\n"
        "from cliphand.cli.stopping import stoppable\n"
        "with stoppable(lambda: 'go on.', within_s=0.1):\n"
        "    while True:\n"
        "        try:\n"
        "            print('ready', flush=True)\n"
        "            time.sleep(1000)\n"
        "        except BaseException:\n"
        "            pass\n"
    )
    code, said = told_after(script, signal.SIGINT)
    assert code == 130
    assert said == "cliphand: stopped by SIGINT; go on.\n"


def test_a_signal_that_arrives_in_a_finaliser_ends_a_block_without_a_traceback() -> None:
    """A run has some hundred finalisers and callbacks an epoch: import locks, connections, weak references."""
    script = (
        "import time\n"
        "from cliphand.cli.stopping import stoppable\n"
        "class Finalised:\n"
        "    def __del__(self):\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(1000)\n"
        "with stoppable(lambda: 'go on.', within_s=0.1):\n"
        "    Finalised()\n"
        "    time.sleep(1000)\n"
    )
    code, said = told_after(script, signal.SIGTERM)
    assert (code, said) == (143, "cliphand: stopped by SIGTERM; go on.\n")


def test_a_block_without_a_signal_leaves_the_handlers_as_they_were() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stoppable(lambda: ""):
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
