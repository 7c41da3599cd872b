"""How work that takes long tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all; 0 where nobody knows
