"""A child process ends with the process that started it, also where that one was killed."""

import os
import signal
import time
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread

POLL_S = 0.5


def end_with_parent(parent_id: int | None = None) -> None:
    """End this process at once when its parent has ended, and not before: Ctrl-C is the parent's to handle.

    To be called first of all, in the main thread of the child.

    Args:
        parent_id: of a parent that started this process by `subprocess`; None where `multiprocessing` did.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)  # a forked child has its parent's
    Thread(target=_follow, args=(_parents_end(parent_id),), daemon=True).start()


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
