"""One image and its labels, from (seed, split, index) alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.overlay import project
from cliphand.data.synthetic.background import linear_background, plain_background
from cliphand.data.synthetic.exposure import develop, encode_mask, encode_photo, expose, frame
from cliphand.data.synthetic.kinds import DEFAULT_KIND, SceneKind
from cliphand.data.synthetic.lights import random_light
from cliphand.data.synthetic.placement import Placement, random_placement, render_matrix
from cliphand.data.synthetic.render import Picture, render
from cliphand.data.synthetic.rigged_hand import PosedHand, random_hand
from cliphand.data.synthetic.scene import Stage, build_scene
from cliphand.data.synthetic.shading import random_look
from cliphand.hand import MIDDLE_MCP, MIDDLE_PIP

SPLITS = ("training", "evaluation")
DECIMALS = 6  # labels are written to the micrometre
LEAST_SEEN = 0.35  # of the hand's outline that things in front must leave free
LEAST_SEEN_PX = 350
TRIES = 6


@dataclass(frozen=True, slots=True)
class Labels:
    """K: (3, 3) pixels. xyz: (21, 3), verts: (778, 3) metres, camera frame. scale: |joint 9 - joint 10| in metres."""

    K: FloatArray
    xyz: FloatArray
    verts: FloatArray
    scale: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What is written for one image.

    Attributes:
        photo, mask: JPEG bytes, 224 px.
        labels: as they are written.
        layers: content of the layers' files by their names, empty without layers.
    """

    photo: bytes
    mask: bytes
    labels: Labels
    layers: Mapping[str, bytes] = field(default_factory=dict)


def make_sample(
    stage: Stage, *, seed: int, split: str, index: int, photos: tuple[Path, ...] = (), kind: SceneKind = DEFAULT_KIND
) -> Sample:
    """Make image `index` of a split; nothing else decides its bytes.

    Args:
        stage: the hand.
        seed: of the data set, not negative.
        split: one of SPLITS.
        index: from 0.
        photos: the user's backgrounds.
        kind: what the set varies in.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    hand, view, picture = _seen_hand(rng, stage, kind)
    background = linear_background(rng, photos) if kind.cluttered else plain_background(rng)
    light = expose(rng, picture.colour, picture.coverage, background)
    labels = round_labels(stage, hand, view)
    image = frame(rng, develop(rng, light), project(labels.verts, labels.K))
    return Sample(encode_photo(rng, image), encode_mask(picture.hand), labels)


def round_labels(stage: Stage, hand: PosedHand, view: Placement) -> Labels:
    """The labels of a hand before a camera, as they are written."""
    verts = np.round(view.place(hand.mesh), DECIMALS)
    xyz = np.round(stage.model.topology.joint_regressor @ verts, DECIMALS)
    scale = round(float(np.linalg.norm(xyz[MIDDLE_MCP] - xyz[MIDDLE_PIP])), DECIMALS)
    return Labels(np.round(view.K, DECIMALS), xyz, verts, scale)


def _seen_hand(rng: np.random.Generator, stage: Stage, kind: SceneKind) -> tuple[PosedHand, Placement, Picture]:
    """Draw until enough of the hand can be seen."""
    for _ in range(TRIES):
        hand = random_hand(rng, stage.model, kind=kind)
        view = random_placement(rng, hand.joints, kind)
        look, light = random_look(rng), random_light(rng)
        scene = build_scene(rng, stage, hand, view, kind=kind)
        picture = render(rng, stage, scene, render_matrix(view.K), look, light)
        if picture.hand.sum() >= max(LEAST_SEEN_PX, LEAST_SEEN * _outline_px(view, hand)):
            break
    return hand, view, picture


def _outline_px(view: Placement, hand: PosedHand) -> float:
    """Roughly the pixels that the whole hand covers: half of the box around it."""
    pixels = project(view.place(hand.mesh), render_matrix(view.K))
    return float(0.5 * np.prod(np.ptp(pixels, axis=0)))
