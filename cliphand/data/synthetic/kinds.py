"""Kinds of synthetic sets: the full variety, and a narrow one that a small model learns within minutes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SceneKind:
    """What a set's images vary in.

    Attributes:
        gesture_share: of hands that show a gesture, with its variations; the others' fingers bend at will.
        crop_options: of `cliphand train`, that cut these hands well.
        repertoire: whether gestures are of all families of poses, or those with a name alone.
        turn_deg: largest angle between the hand and a palm held upright to the camera; None turns it every way.
        extent_px: smallest, median and largest extent of the joints in the written image.
        extent_spread: standard deviation of the extent's logarithm.
        shift_px: standard deviation of the hand's place about the middle of the image, on both axes.
        cluttered: backgrounds with patterns or photographs; otherwise one colour.
        held: whether some hands hold things, or have things before them.
        layered: whether the hand is rendered light by light, to be put before a new background at every view.
        familiar: share of hands seen as people show and see them; the others are turned by `turn_deg`.
    """

    gesture_share: float
    turn_deg: float | None
    extent_px: tuple[float, float, float]
    extent_spread: float
    shift_px: float
    cluttered: bool
    held: bool
    layered: bool = False
    familiar: float = 0.0
    repertoire: bool = False
    crop_options: str = "--crop-side 200"


KINDS: dict[str, SceneKind] = {
    # FreiHAND's extents, somewhat larger and less central so that other photographs are covered too.
    "varied": SceneKind(
        gesture_share=0.5,
        turn_deg=None,
        extent_px=(55.0, 88.0, 165.0),
        extent_spread=0.33,
        shift_px=15.0,
        cluttered=True,
        held=True,
    ),
    "plain": SceneKind(
        gesture_share=1.0,
        turn_deg=20.0,
        extent_px=(110.0, 140.0, 170.0),
        extent_spread=0.1,
        shift_px=5.0,
        cluttered=False,
        held=False,
    ),
    "layers": SceneKind(
        gesture_share=0.85,
        turn_deg=None,
        extent_px=(55.0, 110.0, 205.0),
        extent_spread=0.35,
        shift_px=12.0,
        cluttered=True,
        held=True,
        layered=True,
        familiar=0.6,
        repertoire=True,
        crop_options="--crop joints --crop-margin 1.4",
    ),
}
DEFAULT_KIND = KINDS["varied"]
