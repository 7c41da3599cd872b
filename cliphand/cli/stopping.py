"""Ctrl-C and SIGTERM end a long command within seconds and in order."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WITHIN_S = 3.0
SHOW_CURSOR = "\x1b[?25h"


class Stopped(BaseException):
    """A signal arrived; no `except Exception` may take it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(advice: Callable[[], str], *, within_s: float = WITHIN_S) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the command with exit code 128 + the signal's number, and a line on stderr.

    The block is left by an exception, so that what it opened is closed. Where that takes longer, as in the middle of a
    long computation outside Python, the process ends at once: a block must leave nothing half-written under a final
    name.

    Args:
        advice: what the line says after the signal's name.
        within_s: how long the block has to end.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    ended = threading.Event()
    with _wakeup() as wakeup, _handlers():
        watch = threading.Thread(target=_end_in_time, args=(wakeup, ended, advice, within_s), daemon=True)
        watch.start()
        try:
            yield
        except Stopped as stop:
            sys.stderr.write(_line(stop.number, advice))
            raise typer.Exit(128 + stop.number) from None
        finally:
            ended.set()


def _line(number: int, advice: Callable[[], str]) -> str:
    return f"cliphand: stopped by {signal.Signals(number).name}; {advice()}\n"


def _end_in_time(wakeup: socket.socket, ended: threading.Event, advice: Callable[[], str], within_s: float) -> None:
    """End the process when a signal has come and the block has not ended in time."""
    while received := wakeup.recv(1):  # the interpreter writes the signal's number, whatever the main thread does
        if received[0] in SIGNALS and not ended.wait(within_s):
            sys.stderr.write((SHOW_CURSOR if sys.stderr.isatty() else "") + _line(received[0], advice))
            sys.stderr.flush()
            os._exit(128 + received[0])


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
def _handlers() -> Iterator[None]:
    """Raise `Stopped` in the main thread, once."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
