"""Files that are either whole or absent: written under a temporary name, then renamed."""

import errno
import hashlib
import json
import math
import os
import platform
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from cliphand.claims import OWN, FileKind, FolderKind, check_file, check_folder, held, work_name
from cliphand.errors import InputError
from cliphand.told import FULL

LONGEST_SUFFIX = 20  # characters; a longer one is no format's
NO_ROOM = 1 << 16  # bytes free, below which a disk counts as full

SHORT_HASH = 12  # digits of a hash that people read
LARGEST_JSON = 64 * 2**20  # bytes; the benchmark of a large export has one
LARGEST_DEPTH = 32
LONGEST_INTEGER = 4000  # digits; Python itself refuses to read more than 4,300
JSON_WORDS: Mapping[type, str] = {
    type(None): "null",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


@contextmanager
def whole_file(path: Path, kind: FileKind | None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    The temporary name has the suffix of `path`, so that writers which choose a format by suffix still work.

    Args:
        path: the file to write.
        kind: what may be overwritten; None only within a folder that is the writer's own. It has no default, so that
            nobody forgets it.

    Raises:
        InputError: what stands at `path` is not of the kind.
        OSError: it cannot be written; ENOSPC where the disk is full, whatever error the block then ended with.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(path.suffix) <= LONGEST_SUFFIX else ""
    temporary = path.with_name(f"{process_prefix()}{os.getpid()}-{secrets.token_hex(4)}{suffix}")
    try:
        with _full_disk_named(path):
            yield temporary
        if kind is not None:
            check_file(path, kind)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, kind: FolderKind) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; put it in its place when the block ends without an error.

    What `folder` held before is deleted only after the new content stands there. No two processes do this at once; what
    a process left that died in the middle is put right by the next.

    Raises:
        InputError: what stands at `folder` is not of the kind, or another process is writing it.
        OSError: as `whole_file` does.
    """
    check_folder(folder, kind)
    folder = folder.resolve()  # `.` and `..` have a name then
    fresh, old = work_name(folder, "new"), work_name(folder, "old")
    with held(folder):
        if old.exists() and not folder.exists():
            old.rename(folder)
        _remove(fresh, old)
        fresh.mkdir()
        try:
            with _full_disk_named(folder):
                yield fresh
            check_folder(folder, kind)
            _swap(folder, fresh, old)
        finally:
            _remove(fresh, old)


def _swap(folder: Path, fresh: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Name a full disk as the cause of whatever error a library makes of it."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except Exception as error:
        if shutil.disk_usage(path.parent).free >= NO_ROOM:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def process_prefix() -> str:
    """Begins the names of temporary files of this machine; the process's number follows."""
    return f"{OWN}{hashlib.sha256(platform.node().encode()).hexdigest()[:6]}-"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in a folder whose processes, on this machine, have died."""
    prefix = process_prefix()
    for path in folder.glob(f"{prefix}*"):
        number = path.name.removeprefix(prefix).partition("-")[0]
        if number.isdecimal() and not _lives(int(number)):
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # there is no signal that only asks
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_json(path: Path, value: object, kind: FileKind | None) -> None:
    """Write `value` as indented JSON, as `whole_file` does. NaN and infinity are refused (ValueError)."""
    with whole_file(path, kind) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def require_file(path: Path, *, largest_bytes: int | None = None, advice: str = "give the path of a file") -> None:
    """Refuse what is no regular file: a pipe or a device would be read for ever, a folder cannot be.

    Raises:
        InputError: there is no file at `path`, it is something else, or it is larger than `largest_bytes`.
    """
    info = _look(path, advice)
    if not stat.S_ISREG(info.st_mode):
        what = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise InputError(f"{path} is {what}; {advice}.")
    if largest_bytes is not None and info.st_size > largest_bytes:
        raise InputError(f"{path} has {info.st_size} bytes; such a file has at most {largest_bytes}: {advice}.")


def require_folder(path: Path, *, advice: str) -> None:
    """Refuse what is no folder.

    Raises:
        InputError: there is nothing at `path`, or something else.
    """
    if not stat.S_ISDIR(_look(path, advice).st_mode):
        raise InputError(f"{path} is no folder; {advice}.")


def _look(path: Path, advice: str) -> os.stat_result:
    """What stands at a path, links followed.

    Raises:
        InputError: nothing, or it cannot be seen.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} does not exist; {advice}.") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{str(path)!r} cannot be read ({reason}); {advice}.") from None


def read_json_object(path: Path, *, what: str = "a JSON object") -> Mapping[str, object]:
    """Read a JSON object.

    Args:
        path: of the file.
        what: such a file holds, for the sentence about one that holds no object.

    Raises:
        InputError: the file is missing, is not JSON (which knows no NaN), names a key twice, is nested deeper than
            LARGEST_DEPTH, or holds something else than an object.
    """
    require_file(path, largest_bytes=LARGEST_JSON)
    try:
        value = json.loads(
            path.read_bytes(),
            parse_int=short_integer,
            parse_float=_finite,
            parse_constant=_finite,
            object_pairs_hook=_without_doubles,
        )
        _require_shallow(value)
    except (ValueError, RecursionError, OSError) as error:
        raise InputError(f"{path} is not readable as JSON ({json_fault(error)}); write it again.") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {JSON_WORDS[type(value)]}; it must hold {what}.")
    return cast("Mapping[str, object]", value)


def json_fault(error: Exception) -> str:
    """What is wrong with JSON text that could not be read."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def short_integer(text: str) -> int:
    """An integer of JSON, for a decoder's `parse_int`; ValueError for one that no measurement has."""
    if len(text) > LONGEST_INTEGER:
        raise ValueError("a number in it has thousands of digits")
    return int(text)


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
