"""A time limit for a run of many measurements: what does not fit is left out with a word, never cut short."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cliphand.config import require

SECONDS_PER_MINUTE = 60.0


@dataclass(slots=True)
class Budget:
    """Time that is left.

    Attributes:
        minutes: in all.
        clock: seconds that only grow.
        started: when the time began.
    """

    minutes: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        require(self.minutes > 0, f"the time limit is {self.minutes} minutes; it must be positive.")
        self.started = self.clock()

    @property
    def left_s(self) -> float:
        """Seconds left; negative when the time is up."""
        return self.minutes * SECONDS_PER_MINUTE - (self.clock() - self.started)

    def require_time(self) -> None:
        """Refuse to begin anything when the time is up.

        Raises:
            InputError: it is.
        """
        require(self.left_s > 0, f"the {self.minutes:g} minutes are up; give more with --minutes.")
