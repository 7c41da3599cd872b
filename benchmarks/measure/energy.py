"""Energy of the processor packages over a stretch of work, where Linux lets it be read (RAPL counters)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
JOULES_PER_MICROJOULE = 1e-6
PACKAGE = "package"  # begins the name of a processor's zone; others hold parts of it, or the whole platform


@dataclass(frozen=True, slots=True)
class Energy:
    """Of one image, everything that the packages did meanwhile included; or why it cannot be told."""

    joules: float | None
    reason: str | None


def energy_of(call: Callable[[], object], *, seconds: float, images: int = 1, powercap: Path | None = None) -> Energy:
    """Repeat a call for some time and divide what the packages used by the number of images.

    Args:
        call: runs a batch.
        seconds: for how long, at least one call.
        images: in a batch.
        powercap: Linux's folder of energy counters; None is where it always is.
    """
    folder = powercap or POWERCAP
    try:
        zones = [zone for zone in sorted(folder.glob("*-rapl:*")) if (zone / "name").read_text().startswith(PACKAGE)]
        if not zones:
            return Energy(None, "energy: this machine, or its virtual machine, reports none (no RAPL counter)")
        before = [_read(zone) for zone in zones]
        calls, end = 0, time.monotonic() + seconds
        while calls == 0 or time.monotonic() < end:
            call()
            calls += 1
        used = sum(_used(zone, start) for zone, start in zip(zones, before, strict=True))
    except (OSError, ValueError) as error:
        return Energy(None, f"energy: RAPL cannot be read ({error}); Linux reserves it for root")
    return Energy(used * JOULES_PER_MICROJOULE / (calls * images), None)


def _read(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


def _used(zone: Path, before: int) -> int:
    """Microjoules since `before`; the counter starts again at its largest value."""
    now = _read(zone)
    return now - before if now >= before else now + int((zone / "max_energy_range_uj").read_text()) - before
