"""A child process ends with the process that started it, also where that one was killed."""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread, Timer
from types import FrameType

POLL_S = 0.5
LEFT_S = 10.0  # a parent that was stopped has ended long before


def end_with_parent(parent_id: int | None = None, *, outlast_s: float = 0.0) -> None:
    """End this process at once when its parent has ended, and not before: Ctrl-C is the parent's to handle.

    SIGTERM may be meant for this process alone, or reach its whole group, of which the parent too handles it.

    To be called first of all, in the main thread of the child.

    Args:
        parent_id: of a parent that started this process by `subprocess`; None where `multiprocessing` did.
        outlast_s: how long after SIGTERM this process works on, so that a parent that handles it ends in order.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if outlast_s:
        _outlast_sigterm(outlast_s)
    signal.set_wakeup_fd(-1)  # a forked child has its parent's
    Thread(target=_follow, args=(_parents_end(parent_id),), daemon=True).start()


def _outlast_sigterm(seconds: float) -> None:
    def end_later(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        later = Timer(seconds, os._exit, (128 + number,))
        later.daemon = True
        later.start()

    signal.signal(signal.SIGTERM, end_later)


def _follow(wait_for_end: Callable[[], None]) -> None:
    wait_for_end()
    os._exit(1)


def _parents_end(parent_id: int | None) -> Callable[[], None]:
    """A function that returns when the parent has ended."""
    if parent_id is not None:

        def poll() -> None:
            while os.getppid() == parent_id:  # an orphan is given another parent
                time.sleep(POLL_S)

        return poll
    parent = parent_process()
    if parent is None:
        raise RuntimeError("multiprocessing did not start this process; its parent's id is needed.")
    sentinel = parent.sentinel

    def watch() -> None:
        wait([sentinel])

    return watch
