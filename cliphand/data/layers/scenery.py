"""What a set of layers offers a view: hands, and pictures to put behind and before them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from cliphand.arrays import ByteArray
from cliphand.data.layers.store import FOLDER, MADE_AGAIN, SUFFIXES, Layers, damaged, layer_paths, read_layers
from cliphand.data.photograph import read_image
from cliphand.errors import InputError

PICTURES, THINGS = "backgrounds", "things"
HELD_OUT_STEP = 8  # every eighth picture is for finished evaluation images alone
# Options of `cliphand train` that only layers give a meaning: why, and what to do without them.
NEED_LAYERS = {
    "--difficulty": ("no view is composed", "leave --difficulty out"),
    "--weight-surface": ("nothing tells what a cell shows of the hand", "give --weight-surface 0"),
}
KEPT_PICTURES = 600  # decoded ones a process keeps; 120 MB where they are square


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """What compositions are made from.

    Attributes:
        pictures: files, at least one.
        another: draws the layers of some hand of the set.
        things: files of things cut out, to lie before hands; perhaps none.
    """

    pictures: tuple[Path, ...]
    another: Callable[[np.random.Generator], Layers]
    things: tuple[Path, ...] = ()

    def picture(self, rng: np.random.Generator) -> ByteArray:
        """(H, W, 3) uint8 RGB of one of the pictures; not to be written into."""
        return _read_picture(self.pictures[rng.integers(len(self.pictures))])

    def thing(self, rng: np.random.Generator) -> ByteArray:
        """(H, W, 4) uint8 of one of the things: RGB and coverage."""
        return read_thing(self.things[rng.integers(len(self.things))])


@dataclass(frozen=True, slots=True)
class LayerFolder:
    """The layers of a training split.

    Attributes:
        folder: that holds them.
        count: samples.
        pictures: that may lie behind and before them.
        things: cut out, that may lie before them.
    """

    folder: Path
    count: int
    pictures: tuple[Path, ...]
    things: tuple[Path, ...]

    def read(self, index: int) -> Layers:
        """The layers of a sample.

        Raises:
            InputError: a file is missing or damaged.
        """
        return read_layers(layer_paths(self.folder, index))

    def files(self) -> Iterator[Path]:
        """All files that its views are made from."""
        for index in range(self.count):
            yield from layer_paths(self.folder, index).values()
        yield from self.pictures
        yield from self.things

    def scenery(self) -> Scenery:
        """What its compositions are made from."""
        return Scenery(self.pictures, lambda rng: self.read(int(rng.integers(self.count))), self.things)


def open_layers(root: Path, split: str, count: int) -> LayerFolder | None:
    """The layers of a split, None where it has none.

    Args:
        root: the data set.
        split: `training` or `evaluation`.
        count: samples of the split.

    Raises:
        InputError: there are layers but not of every sample, or pictures to put them before are missing.
    """
    folder = root / split / FOLDER
    if not folder.is_dir():
        return None
    for name, suffix in SUFFIXES.items():
        _refuse_gap(folder / name, suffix, count)
    pictures, things = list_pictures(root), list_things(root)
    for kept, suffix, number in ((PICTURES, ".jpg", max(len(pictures), 1)), (THINGS, ".webp", len(things))):
        _refuse_gap(root / kept, suffix, number)
    return LayerFolder(folder, count, training_pictures(pictures), things)


def _refuse_gap(folder: Path, suffix: str, count: int) -> None:
    """Refuse a folder that lacks one of its first `count` files."""
    there = {path.name for path in folder.glob(f"*{suffix}")}
    missing = next((name for name in (f"{index:08d}{suffix}" for index in range(count)) if name not in there), None)
    if missing is not None:
        raise InputError(f"{folder / missing} does not exist; {MADE_AGAIN}.")


def require_layers(root: Path, split: str, *, option: str) -> None:
    """Refuse an option of `NEED_LAYERS` on a split without layers.

    Raises:
        InputError: it has none.
    """
    if not (root / split / FOLDER).is_dir():
        why, remedy = NEED_LAYERS[option]
        raise InputError(f"{root} holds no layers, so {why}; {remedy}, or render with `cliphand synth --kind layers`.")


def list_pictures(root: Path) -> tuple[Path, ...]:
    """The pictures kept with a set, by number."""
    return tuple(sorted((root / PICTURES).glob("*.jpg")))


def list_things(root: Path) -> tuple[Path, ...]:
    """The things kept with a set, by number."""
    return tuple(sorted((root / THINGS).glob("*.webp")))


def read_thing(path: Path) -> ByteArray:
    """(H, W, 4) uint8: RGB and coverage.

    Raises:
        InputError: the file is damaged.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        raise damaged(path)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), np.uint8)


def training_pictures(pictures: tuple[Path, ...]) -> tuple[Path, ...]:
    """Those that training sees."""
    return tuple(path for number, path in enumerate(pictures) if (number + 1) % HELD_OUT_STEP)


def evaluation_pictures(pictures: tuple[Path, ...]) -> tuple[Path, ...]:
    """Those that training never sees."""
    return pictures[HELD_OUT_STEP - 1 :: HELD_OUT_STEP]


@lru_cache(maxsize=KEPT_PICTURES)
def _read_picture(path: Path) -> ByteArray:
    picture = read_image(path)
    picture.setflags(write=False)
    return picture
