"""Who wrote what stands at a path: a command removes and overwrites only what it wrote itself.

Nothing is kept beside the outputs to know them by; each says itself whose it is. JSON by the keys that only its command
writes, PNG, npz and HTML by a mark near their end (`marked_kind`), a folder by the file in it that does (`FolderKind`).
A command checks its targets before its work, and what writes them checks again before it replaces anything.
"""

import hashlib
import json
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cliphand.errors import InputError
from cliphand.told import remedy

OWN = ".cliphand-"  # begins the names of locks and of what is being written
LARGEST_JSON = 1 << 28  # bytes; what this project writes and looks at is far smaller
TAIL = 256  # bytes at a file's end that hold the mark
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
LONGEST_NAME = 255  # bytes, where the system does not say
SHOWN = 3  # names that a sentence lists


@dataclass(frozen=True, slots=True)
class FileKind:
    """A file that one command writes.

    Attributes:
        writer: the command.
        is_own: whether the regular file at a path is such an output.
    """

    writer: str
    is_own: Callable[[Path], bool]


@dataclass(frozen=True, slots=True)
class FolderKind:
    """A folder that one command writes.

    Attributes:
        writer: the command.
        foreign: names in a folder, not empty, that are no part of such an output.
        replaced: whether the folder is replaced as a whole, and not only written into.
    """

    writer: str
    foreign: Callable[[Path], Collection[str]]
    replaced: bool = True


def json_kind(writer: str, *keys: Collection[str]) -> FileKind:
    """JSON objects that have at least the keys of one of the collections."""
    return FileKind(writer, lambda path: has_keys(path, *keys))


def has_keys(path: Path, *keys: Collection[str]) -> bool:
    """Whether a file holds a JSON object with all keys of one of the collections."""
    try:
        value = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST_JSON else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and any(set(group) <= set(value) for group in keys)


def marked_kind(writer: str) -> FileKind:
    """Files of any format whose end holds the mark of their writer."""
    return FileKind(writer, lambda path: is_marked(path, writer))


def mark_of(writer: str) -> str:
    """The words by which a picture, an archive or a page says who wrote it."""
    return f"Written by {writer}"


def is_marked(path: Path, writer: str) -> bool:
    """Whether a file's end holds a writer's mark; text that only quotes it does not count."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(max(0, path.stat().st_size - TAIL))
            tail = stream.read()
    except OSError:
        return False
    mark = mark_of(writer).encode()
    framed = {b"\x89PNG": _text_chunk(writer) + PNG_END, b"PK\x03\x04": mark, b"<!do": b"<!-- " + mark + b" -->\n"}
    return head in framed and tail.endswith(framed[head])


def marked_png(png: bytes, writer: str) -> bytes:
    """A PNG with its writer's mark in a text chunk before its end."""
    return png.removesuffix(PNG_END) + _text_chunk(writer) + PNG_END


def _text_chunk(writer: str) -> bytes:
    content = b"tEXtSoftware\0" + mark_of(writer).encode()
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def mark_archive(path: Path, writer: str) -> None:
    """Put the writer's mark into a zip archive's comment, which readers of npz ignore."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = mark_of(writer).encode()


def check_file(path: Path, kind: FileKind) -> None:
    """Refuse a path at which a command cannot or must not write a file; nothing is written.

    Raises:
        InputError: the path is too long, is a folder, a link or a device, holds a file that is neither empty nor the
            command's own, or lies where nothing can be written.
    """
    mode = _mode(path)
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder and `{kind.writer}` writes a file; name a file.")
        _check_plain(path, mode, wanted=stat.S_ISREG)
        if path.stat().st_size and not kind.is_own(path):
            raise InputError(
                f"{path} is there and was not written by `{kind.writer}`; name another file, or move it away."
            )
    _check_place(path)


def check_folder(folder: Path, kind: FolderKind) -> None:
    """Refuse a path at which a command cannot or must not write a folder; nothing is written.

    Raises:
        InputError: the path is too long, is a file, a link or a mount point, holds something that is not the
            command's own, or lies where nothing can be written.
    """
    mode = _mode(folder)
    if mode is not None:
        if stat.S_ISREG(mode):
            raise InputError(f"{folder} is a file and `{kind.writer}` writes a folder; name a folder.")
        if kind.replaced or not folder.is_dir():
            _check_plain(folder, mode, wanted=stat.S_ISDIR)
        if kind.replaced and folder.resolve().is_mount():
            raise InputError(f"{folder} is where a disk is mounted and cannot be replaced; name a folder in it.")
        foreign = sorted(kind.foreign(folder)) if any(folder.iterdir()) else []
        if foreign:
            more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
            raise InputError(
                f"{folder} holds {', '.join(foreign[:SHOWN])}{more}, which `{kind.writer}` did not write; name "
                "another folder, or move that away."
            )
    _check_place(folder)


def _mode(path: Path) -> int | None:
    """What stands at a path, a link not followed; None for nothing."""
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{_short(path)} cannot be written ({_reason(error)}); name another place.") from None


def _check_plain(path: Path, mode: int, *, wanted: Callable[[int], bool]) -> None:
    if stat.S_ISLNK(mode):
        raise InputError(f"{path} is a symbolic link, which would be replaced; name what it points to, or another.")
    if not wanted(mode):
        raise InputError(f"{path} is a device, a pipe or a socket; name another place.")


def _check_place(path: Path) -> None:
    """Refuse a path whose nearest existing folder is none, or takes no file."""
    for folder in path.absolute().parents:
        mode = _mode(folder)
        if mode is None:
            continue
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder, so {_short(path)} cannot be written; name another place.")
        longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else LONGEST_NAME
        if any(len(os.fsencode(name)) > longest for name in path.parts):
            raise InputError(f"{_short(path)} cannot be written (a name in it has over {longest} bytes); shorten it.")
        try:
            with tempfile.TemporaryFile(dir=folder, prefix=OWN) as probe:
                probe.write(bytes(4096))
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {folder} takes no file ({_reason(error)}); {remedy(error)}."
            ) from None
        return


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _short(path: Path) -> str:
    """A path for a sentence: a name that is too long is cut."""
    text = str(path)
    return text if len(text) <= TAIL else f"{text[: TAIL // 2]}..."


def work_name(path: Path, role: str) -> Path:
    """Where a lock, or a folder on its way to `path`, stands: beside it, under a short name of its own."""
    tag = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    return path.with_name(f"{OWN}{tag}.{role}")


@contextmanager
def held(target: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Let no other process write `target` within the block; the hold ends with the process, however it ends.

    Within the process the hold may be taken again. Missing parents of `target` are made.

    Args:
        target: file or folder.
        wait_s: how long another process may go on holding it.

    Raises:
        InputError: another process holds it.
    """
    from filelock import FileLock, Timeout

    target = target.resolve()  # one lock, whatever links lead there
    target.parent.mkdir(parents=True, exist_ok=True)
    name = work_name(target, "lock")
    lock = FileLock(name, is_singleton=True, thread_local=False)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise InputError(f"another process is writing {target}; wait for its end, or name another place.") from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):
                name.unlink()  # while it is held: who opened it meanwhile sees that it has no name any more
        lock.release()
