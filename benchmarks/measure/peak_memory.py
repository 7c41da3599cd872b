"""Largest memory that a call takes on top of what its process holds already, as the Linux kernel counts it."""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): sets the peak resident size to the present one
KIB = 1024


def peak_bytes(call: Callable[[], object]) -> int | None:
    """Peak resident size during a call, less that before it; None where the system does not tell.

    The call runs twice: what it keeps from its first run (caches, thread pools) is not part of its peak.
    """
    call()
    try:
        gc.collect()
        # Freed memory that the C library holds back would hide what the call takes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = _status_bytes("VmRSS")
        RESET.write_text(RESET_PEAK)
    except (OSError, AttributeError):
        return None
    result = call()
    peak = _status_bytes("VmHWM")
    del result
    return max(0, peak - before)


def resident_peak_bytes() -> int | None:
    """Largest resident size of this process so far; None where the system does not tell.

    `getrusage` will not do: a process that a large one starts inherits that one's peak.
    """
    try:
        return _status_bytes("VmHWM")
    except OSError:
        return None


def _status_bytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{STATUS} has no {field}")
    return int(found.group(1)) * KIB
