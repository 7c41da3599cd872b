"""Labels on disk: small files while images are made, FreiHAND's lists in the end.

A part holds the labels of CHUNK images as JSON text, field by field, so that the lists are made by joining texts;
a part's presence says that its images are whole.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TextIO

from cliphand.data.synthetic.plan import WORK
from cliphand.data.synthetic.sample import Labels
from cliphand.files import whole_file

CHUNK = 16
FIELDS = ("K", "xyz", "verts", "scale")
SEPARATOR = "\0"  # between the fields of a part


def part_path(root: Path, split: str, part: int) -> Path:
    """Where the labels of images CHUNK * part and on lie."""
    return root / WORK / split / f"{part:07d}.txt"


def list_path(root: Path, split: str, field: str) -> Path:
    """FreiHAND's list of one field."""
    return root / f"{split}_{field}.json"


def photo_path(root: Path, split: str, index: int) -> Path:
    """FreiHAND's name of an image."""
    return root / split / "rgb" / f"{index:08d}.jpg"


def mask_path(root: Path, split: str, index: int) -> Path:
    """FreiHAND's name of a mask."""
    return root / split / "mask" / f"{index:08d}.jpg"


def n_parts(count: int) -> int:
    """Parts of `count` images."""
    return -(-count // CHUNK)


def part_of(count: int, part: int) -> range:
    """The images of a part."""
    return range(part * CHUNK, min((part + 1) * CHUNK, count))


def write_part(root: Path, split: str, part: int, labels: Sequence[Labels]) -> None:
    """Write the labels of one part, atomically."""
    rows = [(s.K.tolist(), s.xyz.tolist(), s.verts.tolist(), s.scale) for s in labels]
    columns = [[json.dumps(value, allow_nan=False) for value in column] for column in zip(*rows, strict=True)]
    _write_columns(root, split, part, columns)


def _write_columns(root: Path, split: str, part: int, columns: Sequence[Sequence[str]]) -> None:
    """Write a part: its size, then per field its elements, one per line."""
    texts = [str(len(columns[0])), *(",\n".join(column) for column in columns)]
    with whole_file(part_path(root, split, part), None) as temporary:
        temporary.write_text(SEPARATOR.join(texts))


def read_part(root: Path, split: str, part: int) -> list[str]:
    """Per field, the elements of a part: JSON values, separated by commas and line ends."""
    return part_path(root, split, part).read_text().split(SEPARATOR)[1:]


def part_size(root: Path, split: str, part: int) -> int:
    """How many images a part holds, 0 where there is no such part."""
    try:
        with part_path(root, split, part).open() as stream:
            return int(stream.read(8).split(SEPARATOR)[0])
    except FileNotFoundError:
        return 0


def join_parts(root: Path, split: str, parts: int, *, out: Path, consume: bool = False) -> None:
    """Write FreiHAND's lists from the first `parts` parts; an empty split still gets its (empty) lists.

    Args:
        root: the data set.
        split: training or evaluation.
        parts: how many.
        out: folder of the lists.
        consume: delete each part once it is copied, for a disk without room for both.
    """
    with ExitStack() as stack:
        names = [stack.enter_context(whole_file(list_path(out, split, field), None)) for field in FIELDS]
        streams = [stack.enter_context(name.open("w")) for name in names]
        for part in range(parts):
            for stream, text in zip(streams, read_part(root, split, part), strict=True):
                stream.write((",\n" if part else "[\n") + text)
            if consume:
                part_path(root, split, part).unlink()
        for stream in streams:
            stream.write("\n]\n" if parts else "[]\n")
            stream.flush()


def has_lists(root: Path, split: str) -> bool:
    """Whether all lists of a split are there."""
    return all(list_path(root, split, field).exists() for field in FIELDS)


def unpack_lists(root: Path, split: str) -> None:
    """Turn lists that `join_parts` wrote into parts, so that more images can follow; larger parts are kept."""
    for part, columns in enumerate(_list_lines([list_path(root, split, field) for field in FIELDS])):
        if part_size(root, split, part) < len(columns[0]):
            _write_columns(root, split, part, columns)


def _list_lines(paths: Sequence[Path]) -> Iterator[list[list[str]]]:
    """The elements of several lists, CHUNK at a time: one per line between the brackets' lines."""
    with ExitStack() as stack:
        elements = [_elements(stack.enter_context(path.open())) for path in paths]
        while (columns := [list(islice(column, CHUNK)) for column in elements])[0]:
            yield columns


def _elements(stream: TextIO) -> Iterator[str]:
    for line in stream:
        element = line.rstrip("\n").removesuffix(",")
        if element not in "[]":
            yield element
