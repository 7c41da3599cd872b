"""Energy of the processor package over a stretch of work, where Linux lets it be read (RAPL counters)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
JOULES_PER_MICROJOULE = 1e-6


@dataclass(frozen=True, slots=True)
class Energy:
    """Of one call, everything that the package did meanwhile included; or why it cannot be told."""

    joules: float | None
    reason: str | None


def energy_of(call: Callable[[], object], *, seconds: float, powercap: Path = POWERCAP) -> Energy:
    """Repeat a call for some time and divide what the packages used by the number of calls."""
    zones = sorted(powercap.glob("*-rapl:?"))
    if not zones:
        return Energy(
            None, f"{powercap} has no RAPL zone: this machine, or its virtual machine, does not report energy"
        )
    try:
        before = [_read(zone) for zone in zones]
        calls, end = 0, time.monotonic() + seconds
        while calls == 0 or time.monotonic() < end:
            call()
            calls += 1
        used = sum(_used(zone, start) for zone, start in zip(zones, before, strict=True))
    except (OSError, ValueError) as error:
        return Energy(None, f"RAPL cannot be read ({error}); Linux reserves it for root")
    return Energy(used * JOULES_PER_MICROJOULE / calls, None)


def _read(zone: Path) -> int:
    return int((zone / "energy_uj").read_text())


def _used(zone: Path, before: int) -> int:
    """Microjoules since `before`; the counter starts again at its largest value."""
    now = _read(zone)
    return now - before if now >= before else now + int((zone / "max_energy_range_uj").read_text()) - before
