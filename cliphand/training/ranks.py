"""A run in several processes of one machine, which this one starts and ends.

Each process sees its own part of every batch. Gradients are averaged, the contrastive term reaches over all processes
(`contrast`), and batch norm uses the statistics of a process's own part. Its running statistics are averaged before
every validation, which each process does on all samples: so all judge the model that is saved, and no sample counts
more than another.
"""

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import lightning
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.nn.modules.batchnorm import _BatchNorm

from cliphand.errors import InputError, RunError
from cliphand.lifeline import LEFT_S, end_with_parent

Job = TypeVar("Job")


@dataclass(frozen=True, slots=True)
class Rank:
    """Which process of a run this is."""

    number: int
    processes: int

    @property
    def writes(self) -> bool:
        """Whether it is the one that writes."""
        return self.number == 0


ALONE = Rank(0, 1)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where and how the processes find each other: through a file, so that no port can be taken by others."""

    backend: str
    file: Path
    rank: Rank


def data_parallel() -> DDPStrategy:
    """How the processes that `train_in_processes` started train together."""
    return DDPStrategy(
        cluster_environment=LightningEnvironment(),
        broadcast_buffers=False,  # validation's forward passes would wait for each other, and have not equally many
        static_graph=True,  # the same parts of the network in every step, without those that no term needs
    )


class MeanStatistics(Callback):
    """Gives every process the mean of all processes' running statistics before a validation."""

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Average them."""
        if trainer.world_size == 1:
            return
        for layer in pl_module.modules():
            if isinstance(layer, _BatchNorm):
                for statistic in (layer.running_mean, layer.running_var):
                    if statistic is not None:
                        distributed.all_reduce(statistic)
                        statistic.div_(trainer.world_size)


def train_in_processes(train: Callable[[Job, Rank], None], job: Job, processes: int, *, backend: str) -> None:
    """Start the processes, wait for them, and end all when one fails.

    Args:
        train: what each does; a function of a module.
        job: its first argument; is pickled.
        processes: how many.
        backend: through which they talk: `gloo` or `nccl`.

    Raises:
        InputError: as `train`.
        RunError: as `train`, or a process ended in another way.
    """
    context = _context()
    started: list[BaseProcess] = []
    pipes: list[Connection] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for number in range(processes):
                ours, theirs = context.Pipe(duplex=False)
                rank = Rank(number, processes)
                meet = Meeting(backend, Path(folder) / "store", rank)
                process = context.Process(target=_run, args=(theirs, train, job, meet))
                process.start()
                theirs.close()
                started.append(process)
                pipes.append(ours)
            _await(started, pipes)
        finally:
            for child in started:
                child.kill()
            for child in started:
                child.join()


def _context() -> SpawnContext | ForkServerContext:
    """How processes begin: none runs the command line again, and where the system can fork, one alone imports."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["cliphand.training.loop"])
    return context


def _await(processes: Sequence[BaseProcess], pipes: Sequence[Connection]) -> None:
    """Wait until all have ended well.

    Raises:
        InputError: a process sent it.
        RunError: the same, or it ended without a word.
    """
    running = dict(enumerate(processes))
    while running:
        wait([*(process.sentinel for process in running.values()), *(pipes[number] for number in running)])
        for number in list(running):  # a word first: it says why the others end
            try:
                if pipes[number].poll():
                    raise pipes[number].recv()
            except EOFError:  # it has ended
                running[number].join()
                if running[number].exitcode == 0:
                    del running[number]
        codes = {number: process.exitcode for number, process in running.items() if process.exitcode not in (None, 0)}
        if codes:
            number = min(codes, key=lambda number: codes[number] or 0)  # one that was killed, not those it left
            raise RunError(
                f"training process {number} of {len(processes)} {_ending(codes[number])}; what was saved stays: go on "
                "with --resume."
            )


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}, most often because memory ran out"
    return f"failed (exit code {code}, its last words are above)"


def _run(pipe: Connection, train: Callable[[Job, Rank], None], job: Job, meeting: Meeting) -> None:
    """A process: train, and send the error if there is one."""
    end_with_parent(outlast_s=LEFT_S)
    rank = meeting.rank
    os.environ |= {"LOCAL_RANK": str(rank.number), "NODE_RANK": "0", "WORLD_SIZE": str(rank.processes)}
    try:
        distributed.init_process_group(
            meeting.backend, init_method=meeting.file.as_uri(), rank=rank.number, world_size=rank.processes
        )
        train(job, rank)
        distributed.destroy_process_group()
    except (InputError, RunError) as error:
        pipe.send(error)
        threading.Event().wait()  # to be ended: by ending itself it would make the others fail, each with its own words
