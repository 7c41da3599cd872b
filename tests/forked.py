"""Processes forked by a server that has imported what they need, so that each begins with its own work.

Python has one such server for a process, and what it imports is settled when it starts: where another file of tests, or
a run that it made, has started one, it is ended first.
"""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_ours: list[tuple[str, ...]] = []


def server_with(*modules: str) -> ForkServerContext:
    """A context whose server has imported these modules."""
    if _ours != [modules]:
        forkserver._forkserver._stop()
        _ours[:] = [modules]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context
