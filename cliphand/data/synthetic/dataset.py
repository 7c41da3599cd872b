"""Write a synthetic data set in FreiHAND's layout, so that a stop at any moment loses no more than a few images."""

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import cv2

from cliphand.claims import check_folder as check_place
from cliphand.claims import held
from cliphand.data.layers.scenery import list_pictures, list_things
from cliphand.data.layers.store import FOLDER, SUFFIXES, layer_paths
from cliphand.data.synthetic.hand_model import HandModel, build_hand_model, load_hand_model, save_hand_model
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.labels import (
    drop_work,
    join_parts,
    mask_path,
    n_parts,
    part_of,
    part_size,
    photo_path,
    sweep,
    unpack_lists,
    write_part,
)
from cliphand.data.synthetic.layered_sample import make_layered_sample
from cliphand.data.synthetic.pictures import write_pictures
from cliphand.data.synthetic.plan import SYNTHETIC, WORK, Plan, check_folder, record_of, write_record
from cliphand.data.synthetic.preview import write_preview
from cliphand.data.synthetic.sample import SPLITS, make_sample
from cliphand.data.synthetic.scene import Stage, prepare_stage
from cliphand.errors import InputError
from cliphand.files import whole_file
from cliphand.hand import HAND_NAME, save_hand
from cliphand.lifeline import end_with_parent

Progress = Callable[[int, int], None]  # images done, images in all
Task = tuple[str, int]  # split, part
_ORDER = SPLITS[::-1]  # evaluation first: a set cut short can still be evaluated on
_QUEUED_PER_WORKER = 3
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def make_dataset(plan: Plan, *, workers: int, progress: Progress | None = None) -> None:
    """Make the set, or what is missing of it.

    Args:
        plan: what to make.
        workers: processes; 0 renders in this one.
        progress: called with images done and images in all.

    Raises:
        InputError: the folder holds something else, another process is writing it, the extra `synthetic` is missing,
            or the disk is full (the images finished until then are left as a readable data set).
    """
    check_place(plan.root, SYNTHETIC)
    with held(plan.root):
        found = check_folder(plan)
        if found is None or not found.complete or found != record_of(plan, complete=True):
            _make(plan, workers, progress or (lambda done, total: None))


def _make(plan: Plan, workers: int, progress: Progress) -> None:
    """Make what is missing; what is there belongs to the plan."""
    try:
        plan.root.mkdir(parents=True, exist_ok=True)
        write_record(plan.root, record_of(plan, complete=False))
        progress(0, plan.training + plan.evaluation)  # building the hand takes seconds
        for split in SPLITS:
            sweep(plan.root, split)
            unpack_lists(plan.root, split)
        model = _stored_model(plan)
        save_hand(model.topology, plan.root / HAND_NAME)
        if KINDS[plan.kind].layered:
            write_pictures(plan.root, seed=plan.seed, photos=plan.photos)
        _render_missing(plan, workers, progress)
        for split in SPLITS:
            join_parts(plan.root, split, n_parts(plan.count(split)))
        write_preview(plan.root, model.topology.faces)
        write_record(plan.root, record_of(plan, complete=True))
        drop_work(plan.root)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _leave_readable(plan)


def _stored_model(plan: Plan) -> HandModel:
    """The hand, kept in the work folder for the workers."""
    path = _model_path(plan.root)
    if not path.exists():
        save_hand_model(build_hand_model(), path)
    return load_hand_model(path)


def _model_path(root: Path) -> Path:
    return root / WORK / "hand_model.npz"


def _render_missing(plan: Plan, workers: int, progress: Progress) -> None:
    """Render every part that has no labels yet."""
    total = plan.training + plan.evaluation
    tasks: list[Task] = []
    done = 0
    for split in _ORDER:
        for part in range(n_parts(plan.count(split))):
            wanted = len(part_of(plan.count(split), part))
            if part_size(plan.root, split, part) == wanted:
                done += wanted
            else:
                tasks.append((split, part))
    progress(done, total)
    for split, part in _finished(plan, tasks, workers):
        done += len(part_of(plan.count(split), part))
        progress(done, total)


def _finished(plan: Plan, tasks: list[Task], workers: int) -> Iterator[Task]:
    """Render parts, here or in worker processes, and yield each when it is done."""
    if not workers:
        for task in tasks:
            yield _render_part(plan, task)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    with _one_thread_each(), pool:
        waiting = iter(tasks)
        running: set[Future[Task]] = set()
        try:
            while True:
                for task in waiting:
                    running.add(pool.submit(_render_part, plan, task))
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
    return prepare_stage(load_hand_model(path))


def _render_part(plan: Plan, task: Task) -> Task:
    """Render the images of one part and write its labels last."""
    split, part = task
    stage = _stage(_model_path(plan.root))
    kind = KINDS[plan.kind]
    pictures, things = list_pictures(plan.root), list_things(plan.root)
    labels = []
    for index in part_of(plan.count(split), part):
        if kind.layered:
            sample = make_layered_sample(
                stage, seed=plan.seed, split=split, index=index, kind=kind, pictures=pictures, things=things
            )
        else:
            sample = make_sample(stage, seed=plan.seed, split=split, index=index, photos=plan.photos, kind=kind)
        _write_bytes(photo_path(plan.root, split, index), sample.photo)
        if split == "training":  # FreiHAND has no masks for evaluation
            _write_bytes(mask_path(plan.root, split, index), sample.mask)
        for name, path in layer_paths(plan.root / split / FOLDER, index).items():
            if name in sample.layers:
                _write_bytes(path, sample.layers[name])
        labels.append(sample.labels)
    write_part(plan.root, split, part, labels)
    return task


def _write_bytes(path: Path, content: bytes) -> None:
    with whole_file(path, None) as temporary:
        temporary.write_bytes(content)


def _leave_readable(plan: Plan) -> None:
    """After the disk ran full: keep the images up to the first missing one, and write their lists.

    Raises:
        InputError: always, saying what is there and what to do.
    """
    _model_path(plan.root).unlink(missing_ok=True)  # room for the lists' first lines
    kept = {split: _keep_whole(plan.root, split) for split in SPLITS}
    try:
        for split in SPLITS:
            join_parts(plan.root, split, n_parts(kept[split]), consume=True)
        drop_work(plan.root)
    except OSError:
        raise InputError(
            f"the disk that holds {plan.root} is full, even for the labels; make room and run the same command again."
        ) from None
    raise InputError(
        f"the disk that holds {plan.root} is full; {kept['training']} of {plan.training} training and "
        f"{kept['evaluation']} of {plan.evaluation} evaluation images are there and can be used; make room and run "
        "the same command again for the others."
    )


def _keep_whole(root: Path, split: str) -> int:
    """Delete what lies beyond the first part that is missing; how many images are left."""
    parts = 0
    while part_size(root, split, parts):
        parts += 1
    count = sum(part_size(root, split, part) for part in range(parts))
    sweep(root, split)
    for folder in ("rgb", "mask", *(f"{FOLDER}/{name}" for name in SUFFIXES)):
        for path in (root / split / folder).glob("*.*"):
            if int(path.stem) >= count:
                path.unlink()
    for path in (root / WORK / split).glob("*.txt"):
        if int(path.stem) >= parts:
            path.unlink()
    return count
