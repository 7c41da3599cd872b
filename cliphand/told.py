"""How a program ends that cannot go on: one sentence on stderr and an exit code instead of a traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cliphand.errors import InputError, RunError
from cliphand.extras import extra_of, not_installed

EXIT_CODES: dict[type[Exception], int] = {InputError: 2, RunError: 3}
FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk without room
NO_ACCESS = "change its permissions, or name another place"
# What the user can do about an answer of the system; other answers are this project's to mend.
REMEDIES = {
    **dict.fromkeys(FULL, "make room and run the same command again, or name another place"),
    errno.EFBIG: "name a place that takes files of this size",
    errno.EROFS: "name a place that can be written to",
    errno.EACCES: NO_ACCESS,
    errno.EPERM: NO_ACCESS,
    errno.EBUSY: "name another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder",
    errno.ELOOP: "name the file itself",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has no more open files",
}
LONGEST = 200  # characters of a name that a sentence shows


@contextmanager
def told_in_one_sentence(program: str, *, debug: bool = False) -> Iterator[None]:
    """End the process with a sentence and its exit code on what the user can mend; see `EXIT_CODES` and `REMEDIES`.

    Args:
        program: what the sentence begins with.
        debug: let the error through, for its traceback.
    """
    try:
        yield
    except tuple(EXIT_CODES) as error:
        if debug:
            raise
        sentence = str(error)
        code = next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    except ModuleNotFoundError as error:
        if debug or extra_of(error.name or "") is None:
            raise
        sentence, code = str(not_installed([str(error.name)], who="this")), EXIT_CODES[InputError]
    except OSError as error:
        if debug or error.errno not in REMEDIES:
            raise
        place = "a file" if error.filename is None else str(error.filename)[:LONGEST]
        sentence, code = f"{place} cannot be written or read ({error.strerror}); {remedy(error)}.", 2
    else:
        return
    sys.stderr.write(f"{program}: {sentence}\n")
    sys.exit(code)


def remedy(error: OSError) -> str:
    """What to do about a file that cannot be written or read."""
    return REMEDIES.get(error.errno or 0, "name another place")
