"""How a program ends that cannot go on: one sentence on stderr and exit code 2 instead of a traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cliphand.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT)  # of a disk without room
# What the system answers where a file cannot be written; other failures of it are this project's to mend.
TOLD = (
    *(*FULL, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY),
    *(errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE),
)


@contextmanager
def told_in_one_sentence(program: str, *, debug: bool = False) -> Iterator[None]:
    """End the process with exit code 2 and a sentence on bad input, and on a disk that does not take a file.

    Args:
        program: what the sentence begins with.
        debug: let the error through, for its traceback.
    """
    try:
        yield
    except InputError as error:
        if debug:
            raise
        sentence = str(error)
    except OSError as error:
        if debug or error.errno not in TOLD:
            raise
        place = "a file" if error.filename is None else error.filename
        sentence = f"{place} cannot be written or read ({error.strerror}); {remedy(error)}."
    else:
        return
    sys.stderr.write(f"{program}: {sentence}\n")
    sys.exit(2)


def remedy(error: OSError) -> str:
    """What to do about a file that cannot be written."""
    if error.errno in FULL:
        return "make room and run the same command again"
    return "name another place, or allow writing there"
