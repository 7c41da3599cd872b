"""Render images of a planned set, in this process or in several."""

import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2

from cliphand.data.layers.scenery import list_pictures, list_things
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.labels import write_part
from cliphand.data.synthetic.layered_sample import make_layered_sample
from cliphand.data.synthetic.plan import WORK, Plan
from cliphand.data.synthetic.rigged_hand import RiggedHand, build_rigged_hand, load_rigged_hand, save_rigged_hand
from cliphand.data.synthetic.sample import Sample, make_sample
from cliphand.data.synthetic.scene import Stage, prepare_stage
from cliphand.data.synthetic.staging import image_files, staged
from cliphand.errors import InputError
from cliphand.files import whole_file
from cliphand.lifeline import end_with_parent

_QUEUED_PER_WORKER = 3
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Task(NamedTuple):
    """What is rendered in one go.

    Attributes:
        split: of the images.
        images: their numbers.
        part: of the labels, that they are; None where their labels are there.
    """

    split: str
    images: tuple[int, ...]
    part: int | None


def stored_model(plan: Plan) -> RiggedHand:
    """The hand, kept in the work folder for the workers."""
    path = model_path(plan.root)
    if not path.exists():
        save_rigged_hand(build_rigged_hand(), path)
    return load_rigged_hand(path)


def model_path(root: Path) -> Path:
    """Where the workers find the hand."""
    return root / WORK / "hand_model.npz"


def rendered(plan: Plan, tasks: list[Task], workers: int) -> Iterator[Task]:
    """Render, here or in worker processes, and yield each task when it is done."""
    if not workers:
        for task in tasks:
            yield _render(plan, task)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    with _one_thread_each(), pool:
        waiting = iter(tasks)
        running: set[Future[Task]] = set()
        try:
            while True:
                for task in waiting:
                    running.add(pool.submit(_render, plan, task))
                    if len(running) >= workers * _QUEUED_PER_WORKER:
                        break
                if not running:
                    return
                ready, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield future.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process was killed, most often because memory ran out; run the same command again with "
                "fewer --workers, it goes on where it stopped."
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started inside use one thread: more would fight over the cores and could change rounding."""
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@lru_cache(maxsize=1)
def _stage(path: Path) -> Stage:
    """The hand, loaded once per process."""
    cv2.setNumThreads(0)
    return prepare_stage(load_rigged_hand(path))


def _render(plan: Plan, task: Task) -> Task:
    """Render images: a part's are staged and its labels written last, others go to their places."""
    layered = KINDS[plan.kind].layered
    place = plan.root if task.part is None else staged(plan.root)
    labels = []
    for index in task.images:
        sample = _sample(plan, task.split, index)
        made = {"photo": sample.photo, "mask": sample.mask, **sample.layers}
        for name, path in image_files(place, task.split, index, layered=layered).items():
            _write_bytes(path, made[name])
        labels.append(sample.labels)
    if task.part is not None:
        write_part(plan.root, task.split, task.part, labels)
    return task


def _sample(plan: Plan, split: str, index: int) -> Sample:
    stage, kind = _stage(model_path(plan.root)), KINDS[plan.kind]
    if not kind.layered:
        return make_sample(stage, seed=plan.seed, split=split, index=index, photos=plan.backgrounds.used, kind=kind)
    return make_layered_sample(
        stage,
        seed=plan.seed,
        split=split,
        index=index,
        kind=kind,
        pictures=list_pictures(plan.root),
        things=list_things(plan.root),
    )


def _write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path, None) as temporary:
        temporary.write_bytes(content)
