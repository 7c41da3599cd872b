"""One hand in layers, with its labels and a finished picture of it, from (seed, split, index) alone."""

from pathlib import Path

import cv2
import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.camera import root_and_bone
from cliphand.config import AugmentConfig
from cliphand.data.layers.compose import compose
from cliphand.data.layers.scenery import Scenery, evaluation_pictures, training_pictures
from cliphand.data.layers.store import Layers, encode_layers, layer_matrix
from cliphand.data.overlay import project
from cliphand.data.synthetic.exposure import encode_mask_image, encode_photo
from cliphand.data.synthetic.kinds import SceneKind
from cliphand.data.synthetic.layered import render_layers
from cliphand.data.synthetic.placement import SIDE_PX, random_placement
from cliphand.data.synthetic.rigged_hand import random_hand
from cliphand.data.synthetic.sample import SPLITS, Labels, Sample, round_labels
from cliphand.data.synthetic.scene import Stage, build_scene
from cliphand.data.synthetic.shading import random_look

LEAST_SHOWN = 0.5  # of the hand's outline that the rest of the scene must leave free
TRIES = 8
FINISHED = AugmentConfig(rotation_deg=0, scale=0, shift=0, colour=0.15, blur_px=1.0, noise=0.03, difficulty=1.0)


def make_layered_sample(
    stage: Stage,
    *,
    seed: int,
    split: str,
    index: int,
    kind: SceneKind,
    pictures: tuple[Path, ...],
    things: tuple[Path, ...] = (),
) -> Sample:
    """Make sample `index` of a split; nothing else decides its bytes.

    Args:
        stage: the hand.
        seed: of the data set, not negative.
        split: one of SPLITS; only training keeps its layers.
        index: from 0.
        kind: what the set varies in.
        pictures: of the set, to put behind and before the hand.
        things: of the set, to put before the hand.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    labels, layers = _shown_hand(rng, stage, kind)
    to_layers = layer_matrix(project(labels.xyz, labels.K))
    known = training_pictures(pictures) if split == "training" else evaluation_pictures(pictures)
    made = compose(
        rng,
        layers,
        np.linalg.inv(to_layers),
        side_px=SIDE_PX,
        scenery=Scenery(known, lambda _: layers, things),
        config=FINISHED,
    )
    return Sample(
        photo=encode_photo(rng, made.crop),
        mask=encode_mask_image(made.seen >= 128),
        labels=labels,
        layers=encode_layers(layers) if split == "training" else {},
    )


def _shown_hand(rng: np.random.Generator, stage: Stage, kind: SceneKind) -> tuple[Labels, Layers]:
    """Draw until at least half of the hand can be seen."""
    for _ in range(TRIES):
        hand = random_hand(rng, stage.model, kind=kind)
        view = random_placement(rng, hand.joints, kind)
        look = random_look(rng)
        scene = build_scene(rng, stage, hand, view, kind=kind)
        labels = round_labels(stage, hand, view)
        to_layers = layer_matrix(project(labels.xyz, labels.K))
        root_m, bone_m = root_and_bone(labels.xyz)
        K = to_layers @ labels.K
        layers = render_layers(rng, stage, scene, K, look, root_m=float(root_m), bone_m=float(bone_m))
        outline = _outline_px(project(labels.verts, K), stage.model.topology.faces, len(layers.cover))
        if layers.cover[..., 1].sum() / 255 >= LEAST_SHOWN * outline:
            break
    return labels, layers


def _outline_px(verts_uv: FloatArray, faces: IntArray, side_px: int) -> float:
    """Pixels that the whole hand would cover."""
    canvas = np.zeros((side_px, side_px), np.uint8)
    triangles = np.round(verts_uv[faces] * 16).astype(np.int32)
    for triangle in triangles:
        cv2.fillConvexPoly(canvas, triangle, 1, cv2.LINE_8, 4)
    return float(canvas.sum())
