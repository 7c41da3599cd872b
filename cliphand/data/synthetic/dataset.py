"""Write a synthetic data set in FreiHAND's layout, so that a stop at any moment loses no more than a few images."""

import dataclasses
import errno
from pathlib import Path

from cliphand.claims import check_folder as check_place
from cliphand.claims import held
from cliphand.data.synthetic.kinds import KINDS
from cliphand.data.synthetic.labels import has_lists, join_parts, n_parts, part_of, part_size, unpack_lists
from cliphand.data.synthetic.pictures import write_pictures
from cliphand.data.synthetic.plan import SYNTHETIC, Plan, check_folder, record_of
from cliphand.data.synthetic.preview import write_preview
from cliphand.data.synthetic.record import Record, write_record
from cliphand.data.synthetic.rendering import Task, model_path, rendered, stored_model
from cliphand.data.synthetic.sample import SPLITS
from cliphand.data.synthetic.staging import PREVIEW, drop_work, image_files, is_whole, put_in_place, staged, sweep
from cliphand.errors import InputError
from cliphand.hand import HAND_NAME, save_hand
from cliphand.progress import Progress

CHECKING, MENDING, RENDERING = "checking", "mending", "rendering"
_ORDER = SPLITS[::-1]  # evaluation first: a set cut short can still be evaluated on


def make_dataset(plan: Plan, *, workers: int, progress: Progress | None = None) -> None:
    """Make the set, or what is missing of it; files of a finished set that are missing or damaged are made again.

    Args:
        plan: what to make.
        workers: processes; 0 renders in this one.
        progress: called with CHECKING, MENDING or RENDERING, images done, and images in all; what is there is done.

    Raises:
        InputError: the folder holds something else, another process is writing it, the extra `synthetic` is missing,
            or the disk is full (the images finished until then, or else the set that was there, can be used).
    """
    check_place(plan.root, SYNTHETIC)
    with held(plan.root):
        tell = progress or (lambda what, done, total: None)
        found = check_folder(plan)
        before = found if found and found.complete and all(has_lists(plan.root, split) for split in SPLITS) else None
        if before is not None:
            _mend(dataclasses.replace(plan, training=before.training, evaluation=before.evaluation), workers, tell)
        if before != record_of(plan, complete=True):
            _make(plan, before, workers, tell)
        drop_work(plan.root)


def _mend(plan: Plan, workers: int, progress: Progress) -> None:
    """Make files of a finished set again that are missing or damaged; their labels stay."""
    sweep(plan.root)
    layered = KINDS[plan.kind].layered
    if layered:
        write_pictures(plan.root, seed=plan.seed, photos=plan.backgrounds.used)
    total, done = plan.training + plan.evaluation, 0
    tasks: list[Task] = []
    for split in SPLITS:
        for index in range(plan.count(split)):
            if not is_whole(image_files(plan.root, split, index, layered=layered)):
                tasks.append(Task(split, (index,), None))
            done += 1
            progress(CHECKING, done, total)
    hand = plan.root / HAND_NAME
    if tasks or not hand.exists():
        save_hand(stored_model(plan).topology, hand)
    for number, _ in enumerate(rendered(plan, tasks, workers), 1):
        progress(MENDING, number, len(tasks))


def _make(plan: Plan, before: Record | None, workers: int, progress: Progress) -> None:
    """Make what is missing; what is there belongs to the plan.

    Args:
        plan: what to make.
        before: of the finished set that is there, smaller than the plan's.
        workers: processes.
        progress: as `make_dataset`.
    """
    total = plan.training + plan.evaluation
    try:
        plan.root.mkdir(parents=True, exist_ok=True)
        if before is None:
            write_record(plan.root, record_of(plan, complete=False))
        sweep(plan.root)
        for split in SPLITS if before else ():
            unpack_lists(plan.root, split)
        tasks = _missing(plan)
        done = total - sum(len(task.images) for task in tasks)
        progress(RENDERING, done, total)  # building the hand takes seconds
        model = stored_model(plan)
        save_hand(model.topology, staged(plan.root) / HAND_NAME)
        if KINDS[plan.kind].layered:
            write_pictures(plan.root, seed=plan.seed, photos=plan.backgrounds.used)
        for task in rendered(plan, tasks, workers):
            done += len(task.images)
            progress(RENDERING, done, total)
        for split in SPLITS:
            join_parts(plan.root, split, n_parts(plan.count(split)), out=staged(plan.root))
        write_preview(plan.root, model.topology.faces, staged(plan.root) / PREVIEW)
        _put_in_place(plan)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _leave_readable(plan, before)


def _put_in_place(plan: Plan) -> None:
    """Let the staged files, all that the plan wants, become the set."""
    write_record(plan.root, record_of(plan, complete=False))
    counts = {split: plan.count(split) for split in SPLITS}
    put_in_place(plan.root, counts, layered=KINDS[plan.kind].layered)
    write_record(plan.root, record_of(plan, complete=True))


def _missing(plan: Plan) -> list[Task]:
    """Every part that has no labels yet."""
    tasks = []
    for split in _ORDER:
        for part in range(n_parts(plan.count(split))):
            images = tuple(part_of(plan.count(split), part))
            if part_size(plan.root, split, part) != len(images):
                tasks.append(Task(split, images, part))
    return tasks


def _leave_readable(plan: Plan, before: Record | None) -> None:
    """After the disk ran full: leave the set that was there, or one of the images up to the first missing one.

    Raises:
        InputError: always, saying what is there and what to do.
    """
    full = f"the disk that holds {plan.root} is full"
    if before is not None:
        raise InputError(
            f"{full}; the {before.training} training and {before.evaluation} evaluation images that were there are as "
            "they were; make room and run the same command again for the others."
        )
    model_path(plan.root).unlink(missing_ok=True)  # room for the lists' first lines
    kept = {split: _whole_parts(plan.root, split) for split in SPLITS}
    rest = dataclasses.replace(plan, training=kept["training"][1], evaluation=kept["evaluation"][1])
    try:
        for split, (parts, _) in kept.items():
            join_parts(plan.root, split, parts, out=staged(plan.root), consume=True)
        _put_in_place(rest)
        drop_work(plan.root)
    except OSError:
        raise InputError(f"{full}, even for the labels; make room and run the same command again.") from None
    raise InputError(
        f"{full}; {rest.training} of {plan.training} training and {rest.evaluation} of {plan.evaluation} evaluation "
        "images are there and can be used; make room and run the same command again for the others."
    )


def _whole_parts(root: Path, split: str) -> tuple[int, int]:
    """How many parts there are before the first missing one, and how many images they hold."""
    parts = 0
    while part_size(root, split, parts):
        parts += 1
    return parts, sum(part_size(root, split, part) for part in range(parts))
