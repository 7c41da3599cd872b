"""A set in the making lies apart, in FreiHAND's layout, until all of it is there: then its files move to their places.

What stood there before, a smaller set, can be used until then, and whatever ends the making leaves it as it was.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from cliphand.data.layers.scenery import PICTURES, THINGS
from cliphand.data.layers.store import FOLDER, layer_paths, read_layers
from cliphand.data.photograph import read_image, read_mask
from cliphand.data.synthetic.labels import FIELDS, list_path, mask_path, photo_path
from cliphand.data.synthetic.plan import WORK
from cliphand.data.synthetic.sample import SPLITS
from cliphand.errors import InputError
from cliphand.files import remove_leftovers
from cliphand.hand import HAND_NAME

PREVIEW = "preview.png"


def staged(root: Path) -> Path:
    """Where the files lie that are to become part of the set at `root`."""
    return root / WORK / "set"


def image_files(root: Path, split: str, index: int, *, layered: bool) -> dict[str, Path]:
    """The files of one image, by what they hold; FreiHAND has no masks for evaluation, and nothing composes it."""
    files = {"photo": photo_path(root, split, index)}
    if split == "training":
        files["mask"] = mask_path(root, split, index)
        files |= layer_paths(root / split / FOLDER, index) if layered else {}
    return files


def is_whole(files: Mapping[str, Path]) -> bool:
    """Whether all files of one image are there and can be decoded."""
    try:
        read_image(files["photo"])
        if "mask" in files:
            read_mask(files["mask"])
        if "light" in files:
            read_layers(files)
    except InputError:
        return False
    return True


def put_in_place(root: Path, counts: Mapping[str, int], *, layered: bool) -> None:
    """Move what is staged, up to the given number of images of each split, into the set; lists follow the images."""
    for split, count in counts.items():
        for index in range(count):
            places = image_files(root, split, index, layered=layered)
            for name, path in image_files(staged(root), split, index, layered=layered).items():
                _move(path, places[name])
    lists = [list_path(staged(root), split, field).name for split in counts for field in FIELDS]
    for name in (*lists, HAND_NAME, PREVIEW):
        _move(staged(root) / name, root / name)


def _move(path: Path, place: Path) -> None:
    """Rename a file, where it has not been already."""
    try:
        path.replace(place)
    except FileNotFoundError:
        if path.exists():  # so the place's folder is missing
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)


def sweep(root: Path) -> None:
    """Remove the temporary files that a killed process left in the set's own folders."""
    for folder in (root, root / PICTURES, root / THINGS, *(root / WORK / split for split in SPLITS)):
        remove_leftovers(folder)


def drop_work(root: Path) -> None:
    """Remove what is not part of the set."""
    shutil.rmtree(root / WORK, ignore_errors=True)
