"""Processes forked by a server that has imported what they need, so that each begins with its own work.

Python has one such server for a process, and what it imports is settled when it starts: where another file of tests, or
a run that it made, has started one, it is ended first.
"""

import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

_ours: list[tuple[str, ...]] = []


def server_with(*modules: str) -> ForkServerContext:
    """A context whose server has imported these modules, of which some may be of the tests."""
    context = multiprocessing.get_context("forkserver")
    if _ours != [modules]:
        forkserver._forkserver._stop()
        context.set_forkserver_preload(list(modules))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
            forkserver.ensure_running()
        _ours[:] = [modules]
    return context
