"""One FreiHAND label file as one array: parsed sample by sample, checked, and cached as .npy where it is large.

The vertices of FreiHAND's training set are 1.5 GB of JSON text: whole, their Python lists would take several
gigabytes of memory and every start of a command a minute.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.errors import InputError
from cliphand.files import json_fault, require_file, short_integer, whole_file
from cliphand.hand import N_JOINTS, N_VERTICES

FIELD_SHAPES: dict[str, tuple[int, ...]] = {"K": (3, 3), "xyz": (N_JOINTS, 3), "verts": (N_VERTICES, 3), "scale": ()}
CACHE_FROM_BYTES = 8 * 2**20  # smaller files are parsed faster than anyone notices
BLOCK_CHARACTERS = 16 * 2**20
_SPACE = " \t\r\n"
_log = logging.getLogger(__name__)


def read_labels(path: Path, field: str) -> FloatArray:
    """Read the labels of one field.

    Args:
        path: a JSON list with one entry per sample.
        field: a key of `FIELD_SHAPES`.

    Returns:
        (N, *shape of the field) float64, read-only; backed by the cache's file where there is one.

    Raises:
        InputError: the file is missing, is not such a list, or an entry has a wrong shape or value; the sentence
            names file, field and index.
    """
    require_file(path, advice=f"field '{field}' needs it")
    if path.stat().st_size < CACHE_FROM_BYTES:
        return _parse(path, field)
    cache = cache_path(path)
    cached = _load_cache(cache, field) if cache is not None else None
    if cached is not None:
        return cached
    labels = _parse(path, field)
    if cache is not None:
        _save_cache(cache, labels)
    return labels


def cache_path(path: Path) -> Path | None:
    """Where the parsed form of a label file is kept, or None where the machine has no home folder.

    The name holds the file's place, size and time of change, so that a changed file is parsed again.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    stat = path.stat()
    return folder / "cliphand" / f"{path.stem}-{place}-{stat.st_size}-{stat.st_mtime_ns}.npy"


def _load_cache(cache: Path, field: str) -> FloatArray | None:
    """The cached array, mapped into memory, or None where it is missing or broken."""
    try:
        labels = np.load(cache, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(labels, np.ndarray) or labels.dtype != np.float64 or labels.shape[1:] != FIELD_SHAPES[field]:
        return None
    return labels if len(labels) and np.isfinite(labels).all() else None


def _save_cache(cache: Path, labels: FloatArray) -> None:
    """Write the cache and drop what is left of older states of the same file."""
    try:
        with whole_file(cache, None) as temporary, temporary.open("wb") as stream:
            np.save(stream, labels, allow_pickle=False)
        stem_and_place = cache.name.rsplit("-", 2)[0]
        for old in cache.parent.glob(f"{stem_and_place}-*.npy"):
            if old != cache:
                old.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s cannot be written (%s); the labels will be parsed again next time.", cache, error)


def _parse(path: Path, field: str) -> FloatArray:
    entries: list[FloatArray] = []
    try:
        with path.open(encoding="utf-8") as stream:
            entries.extend(_entry(path, field, i, value) for i, value in enumerate(_json_elements(stream)))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: field '{field}' is not a JSON list with one entry per sample ({_reason(error)}, after "
            f"{len(entries)} entries); get the file again."
        ) from None
    except OSError as error:
        raise InputError(f"{path}: field '{field}' cannot be read ({error.strerror}).") from None
    if not entries:
        raise InputError(f"{path}: field '{field}' has no entries; it needs one per sample.")
    labels = np.stack(entries)
    labels.flags.writeable = False
    return labels


def _reason(error: ValueError | RecursionError) -> str:
    """Why a file is no list, without positions: they count from the block that was read."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return error.reason if isinstance(error, UnicodeDecodeError) else json_fault(error)


def _entry(path: Path, field: str, index: int, value: object) -> FloatArray:
    """One sample's label, checked."""
    shape = FIELD_SHAPES[field]
    where = f"{path}: field '{field}', entry {index}"
    wanted = f"{shape} numbers" if shape else "one number"
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"{where} has rows of unequal length; it must be {wanted}.") from None
    if array.dtype.kind not in "iuf":
        raise InputError(f"{where} holds something else than numbers; it must be {wanted}.")
    if shape == () and array.shape == (1,):
        array = array[0]
    if array.shape != shape:
        raise InputError(f"{where} has the shape {array.shape}; it must be {wanted}.")
    if not np.isfinite(array).all():
        raise InputError(f"{where} holds NaN or infinity; every number must be finite.")
    fault = _FAULTS[field](array)
    if fault:
        raise InputError(f"{where} {fault}.")
    return array.astype(np.float64)


def _camera_fault(K: FloatArray) -> str:
    good = K[0, 0] > 0 and K[1, 1] > 0 and K[1, 0] == 0 and (K[2] == (0, 0, 1)).all()
    return "" if good else "is no camera matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy"


def _depth_fault(points_m: FloatArray) -> str:
    return "" if points_m[:, 2].min() > 0 else "has points behind the camera; every z must be positive"


def _scale_fault(scale_m: FloatArray) -> str:
    return "" if scale_m > 0 else f"is {scale_m}; the length of a bone must be positive"


_FAULTS = {"K": _camera_fault, "xyz": _depth_fault, "verts": _depth_fault, "scale": _scale_fault}


def _json_elements(stream: TextIO) -> Iterator[object]:
    """The elements of one JSON list, decoded one by one from a stream that is read in blocks.

    Raises:
        ValueError: the stream is not exactly one JSON list, or holds an integer that is too long.
        RecursionError: an element is nested too deeply.
    """
    decoder = json.JSONDecoder(parse_int=short_integer)
    text = stream.read(BLOCK_CHARACTERS).lstrip(_SPACE)
    if not text.startswith("["):
        given = "an object" if text.startswith("{") else "something else"
        raise json.JSONDecodeError(f"{given} is given where a list is wanted", text, 0)
    position, separator = 1, "["
    while separator != "]":
        position = _skip_space(text, position)
        if separator == "[" and text[position : position + 1] == "]":
            position += 1
            break
        try:
            value, end = decoder.raw_decode(text, position)
            end = _skip_space(text, end)
            # Without its delimiter a number may go on in the next block.
            if text[end : end + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, end)
        except json.JSONDecodeError:
            block = stream.read(BLOCK_CHARACTERS)
            if not block:
                raise
            text, position = text[position:] + block, 0
            continue
        yield value
        position, separator = end + 1, text[end]
    rest = text[position:] + stream.read()
    if rest.strip(_SPACE):
        raise json.JSONDecodeError("Extra data", rest, 0)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in _SPACE:
        position += 1
    return position
