"""What a process starts ends with it, also where it is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from linear_hand import save_onnx

LIMIT_S = 120  # none comes near it
BY_SUBPROCESS = """
import os, subprocess, sys
child = "import sys; from cliphand.lifeline import end_with_parent; end_with_parent(int(sys.argv[1]));"
child += "print(__import__('os').getpid(), flush=True); import time; time.sleep(10_000)"
subprocess.run([sys.executable, "-c", child, str(os.getpid())])
"""
BY_MULTIPROCESSING = """
import multiprocessing, os, time
from cliphand.lifeline import end_with_parent

def child():
    end_with_parent()
    os.write(1, f"{{os.getpid()}}\\n".encode())
    time.sleep(10_000)

if __name__ == "__main__":
    multiprocessing.get_context("{method}").Process(target=child).start()
    time.sleep(10_000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
@pytest.mark.parametrize(
    "script", [BY_SUBPROCESS, *(BY_MULTIPROCESSING.format(method=name) for name in ("fork", "spawn", "forkserver"))]
)
def test_a_child_ends_when_its_parent_is_killed_and_not_before(tmp_path: Path, script: str) -> None:
    path = tmp_path / "parent.py"
    path.write_text(script)
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.6)  # longer than between two looks
        os.kill(child, signal.SIGINT)  # Ctrl-C reaches it too, and is the parent's to handle
        os.kill(child, 0)
        parent.kill()
    await_that(lambda: not alive(child))


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX does")
@pytest.mark.parametrize(("outlast_s", "ends"), [(10_000, False), (0.1, True)])
def test_a_child_outlasts_sigterm_for_a_while(outlast_s: float, ends: bool) -> None:
    child = f"import os; from cliphand.lifeline import end_with_parent; end_with_parent({os.getpid()}, "
    child += f"outlast_s={outlast_s}); print(flush=True); import time; time.sleep(10_000)"
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        if ends:
            assert process.wait(LIMIT_S) == 128 + signal.SIGTERM
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_the_processes_of_a_killed_bench_end(tmp_path: Path) -> None:
    model = save_onnx(tmp_path / "model.onnx")
    call = f"process_throughput(Path({str(model)!r}), 'onnxruntime', processes=2, seconds=10_000)"
    script = f"from pathlib import Path\nfrom benchmarks.measure.processes import process_throughput\n{call}"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        await_that(lambda: len(children_of(parent.pid)) == 2)
        children = children_of(parent.pid)
        time.sleep(1)  # into their work, or at least their imports
        parent.kill()
    await_that(lambda: not any(alive(child) for child in children))


def await_that(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "ppid=,pid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [int(child) for parent, child in pairs if int(parent) == pid]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for whoever adopted it."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")
