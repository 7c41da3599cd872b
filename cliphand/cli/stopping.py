"""Ctrl-C and SIGTERM end a command within seconds and in order."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WITHIN_S = 2.0
SHOW_CURSOR = "\x1b[?25h"
STARTS_AGAIN = "the same command starts again."
GOES_ON = "the same command goes on where it stopped."
ADVICE = {"quickstart": GOES_ON, "synth": GOES_ON}  # by command; `train` has its own


class Stopped(BaseException):
    """A signal arrived; no `except Exception` may take it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(advice: Callable[[], str], *, within_s: float = WITHIN_S) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process with exit code 128 + the signal's number, and a line on stderr.

    The block is left by an exception, so that what it opened is closed. When it has ended, or has not in time, as in
    the middle of a long computation outside Python, the process ends at once: nothing after the block runs, the
    interpreter's shut-down included, and a block must leave nothing half-written under a final name. Where Python lets
    no exception out, as in a finaliser, the signal's is lost there without a word, and the block ends in time or is
    ended. A signal that the process was started to ignore stays ignored.

    Args:
        advice: what the line says after the signal's name.
        within_s: how long after the signal the block has to end.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    end = _End(advice)
    with _wakeup() as wakeup, _handlers() as arrived, _finalisers_silent_after(arrived):
        watch = threading.Thread(target=_end_in_time, args=(wakeup, end, within_s), daemon=True)
        watch.start()
        try:
            yield
        finally:
            if arrived:  # also where another error hides the signal's: a worker that it ended as well is missed
                end(arrived[0])


class _End:
    """The end of the process after a signal, by the first thread that calls it.

    Args:
        advice: of `stoppable`.
    """

    def __init__(self, advice: Callable[[], str]) -> None:
        self.advice = advice
        self.first = threading.Lock()

    def __call__(self, number: int) -> None:
        """Say it and end; does not return."""
        self.first.acquire()  # for good
        try:
            shown = SHOW_CURSOR if sys.stderr.isatty() else ""
            with suppress(OSError):  # nobody may be reading any more
                sys.stdout.flush()
            with suppress(OSError):
                sys.stderr.write(f"{shown}cliphand: stopped by {signal.Signals(number).name}; {self.advice()}\n")
                sys.stderr.flush()
        finally:
            os._exit(128 + number)


def _end_in_time(wakeup: socket.socket, end: _End, within_s: float) -> None:
    """End the process when a signal has come and the block has not ended in time."""
    while received := wakeup.recv(1):  # the interpreter writes the signal's number, whatever the main thread does
        if received[0] in SIGNALS:
            time.sleep(within_s)
            end(received[0])


@contextmanager
def _wakeup() -> Iterator[socket.socket]:
    """A socket that receives the number of every signal as a byte; it ends with the block."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()


@contextmanager
def _handlers() -> Iterator[list[int]]:
    """Raise `Stopped` in the main thread, once, and note the signal; a process forked from this one ignores both."""
    owner, arrived = os.getpid(), list[int]()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        arrived.append(number)
        raise Stopped(number)

    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _finalisers_silent_after(arrived: Sequence[int]) -> Iterator[None]:
    """Once a signal has arrived, print no traceback of what a finaliser or a callback raises: mostly `Stopped`."""
    before = sys.unraisablehook

    def tell(unraisable: "sys.UnraisableHookArgs") -> None:
        if not arrived:
            before(unraisable)

    sys.unraisablehook = tell
    try:
        yield
    finally:
        sys.unraisablehook = before
