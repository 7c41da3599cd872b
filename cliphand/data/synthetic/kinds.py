"""Kinds of synthetic sets: the full variety, and a narrow one that a small model learns within minutes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SceneKind:
    """What a set's images vary in.

    Attributes:
        turn_deg: largest angle between the hand and a palm held upright to the camera; None turns it every way.
        cluttered: backgrounds with patterns or photographs; otherwise one colour.
        held: whether some hands hold things, or have things before them.
    """

    turn_deg: float | None
    cluttered: bool
    held: bool


KINDS: dict[str, SceneKind] = {
    "varied": SceneKind(turn_deg=None, cluttered=True, held=True),
    "plain": SceneKind(turn_deg=30.0, cluttered=False, held=False),
}
