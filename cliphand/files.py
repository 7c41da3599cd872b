"""Files that are either whole or absent: written under a temporary name, then renamed."""

import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from cliphand.errors import InputError

LARGEST_JSON = 64 * 2**20  # bytes; the benchmark of a large export has one
LARGEST_DEPTH = 32


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    The temporary name ends in `path.name`, so that writers which choose a format by suffix still work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; put it in its place when the block ends without an error.

    What `folder` held before is deleted only after the new content stands there.
    """
    fresh, old = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused (ValueError)."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def require_file(path: Path, *, largest_bytes: int | None = None, advice: str = "give the path of a file") -> None:
    """Refuse what is no regular file: a pipe or a device would be read for ever, a folder cannot be.

    Raises:
        InputError: there is no file at `path`, it is something else, or it is larger than `largest_bytes`.
    """
    try:
        info = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} does not exist; {advice}.") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)!r} cannot be read ({reason}); {advice}.") from None
    if not stat.S_ISREG(info.st_mode):
        what = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise InputError(f"{path} is {what}; {advice}.")
    if largest_bytes is not None and info.st_size > largest_bytes:
        raise InputError(f"{path} has {info.st_size} bytes; such a file has at most {largest_bytes}: {advice}.")


def read_json_object(path: Path) -> Mapping[str, object]:
    """Read a JSON object.

    Raises:
        InputError: the file is missing, is not JSON (which knows no NaN), names a key twice, is nested deeper than
            LARGEST_DEPTH, or holds something else than an object.
    """
    require_file(path, largest_bytes=LARGEST_JSON)
    try:
        value = json.loads(
            path.read_bytes(), parse_float=_finite, parse_constant=_finite, object_pairs_hook=_without_doubles
        )
        _require_shallow(value)
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} is not readable as JSON ({error}); write it again.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a JSON {type(value).__name__}; it must hold an object.")
    return cast("Mapping[str, object]", value)


def _finite(text: str) -> float:
    """A number that is one: JSON has neither NaN nor infinity."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is no finite number")
    return number


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object: which of two values of one key is meant cannot be known."""
    value = dict(pairs)
    if len(value) < len(pairs):
        double = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"key {double[:80]!r} stands there twice")
    return value


def _require_shallow(value: object) -> None:
    """Refuse nesting that no file of ours has, before anything recurses into it."""
    layer = [value]
    for _ in range(LARGEST_DEPTH + 1):
        insides = [node.values() if isinstance(node, dict) else node for node in layer if isinstance(node, dict | list)]
        layer = [child for inside in insides for child in inside]
    if layer:
        raise ValueError(f"it is nested more than {LARGEST_DEPTH} deep")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content.

    Raises:
        InputError: as `require_file`.
    """
    require_file(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
