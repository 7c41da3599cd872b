"""How much of the sky and of each lamp reaches a point of the scene."""

import cv2
import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.arm import RING_M
from cliphand.data.synthetic.lights import Lamp
from cliphand.data.synthetic.mesh import cross, unit
from cliphand.data.synthetic.scene import Scene, Stage
from cliphand.data.synthetic.tracer import LIFT_M, Tracer

AMBIENT_RAYS = 8
FADE_M = 0.03  # the hand's shade on its forearm ends after about this length
BEHIND = -0.25  # cosine below which no light of a lamp can matter
PENUMBRA_PX = (3, 5)  # what a small and a large lamp's single rays are averaged over


def ambient_light(stage: Stage, scene: Scene, tracer: Tracer) -> FloatArray:
    """(V,) share of the sky that each vertex sees; measured on the hand, 1 on things."""
    share = np.ones(len(scene.vertices), np.float32)
    on_hand = stage.model.smooth @ _measured(scene, tracer)
    share[: len(on_hand)] = on_hand
    around = len(stage.model.rim)
    fade = np.exp(-RING_M / FADE_M)[:, None]
    on_arm = 1 - fade * (1 - on_hand[stage.model.rim])
    share[len(on_hand) : len(on_hand) + around * len(RING_M)] = on_arm.ravel()
    return share


def _measured(scene: Scene, tracer: Tracer) -> FloatArray:
    """(n_skinned,) share of AMBIENT_RAYS that leave the scene."""
    normals = scene.normals[: scene.n_skinned]
    origins = scene.vertices[: scene.n_skinned] + 2 * LIFT_M * normals
    helper = np.where(np.abs(normals[:, :1]) < 0.7, np.array([1, 0, 0], np.float32), np.array([0, 1, 0], np.float32))
    side = unit(cross(normals, helper))
    up = cross(normals, side)
    index = np.arange(AMBIENT_RAYS, dtype=np.float32) + 0.5
    height, turn = np.sqrt(1 - index / AMBIENT_RAYS), np.pi * (1 + 5**0.5) * index  # a sunflower, cosine-weighted
    flat = np.sqrt(1 - height**2)
    rays = (
        normals[:, None] * height[:, None]
        + side[:, None] * (flat * np.cos(turn))[:, None]
        + up[:, None] * (flat * np.sin(turn))[:, None]
    )
    free = ~tracer.occluded(np.repeat(origins, AMBIENT_RAYS, axis=0), rays.reshape(-1, 3))
    return np.asarray(free.reshape(-1, AMBIENT_RAYS).mean(axis=1), np.float32)


def lamp_light(
    rng: np.random.Generator,
    tracer: Tracer,
    lamp: Lamp,
    *,
    origins: FloatArray,
    normals: FloatArray,
    pixels: IntArray,
    side_px: int,
) -> FloatArray:
    """(N,) share of a lamp that each point sees: one ray to a random spot of the lamp, averaged over near pixels.

    Args:
        rng: source of randomness.
        tracer: the scene.
        lamp: the lamp.
        origins: (N, 3) points just above the surface.
        normals: (N, 3) unit.
        pixels: (N,) y * side_px + x of the pixel that each point is seen in.
        side_px: of the picture.
    """
    direction = lamp.direction.astype(np.float32)
    spread = rng.standard_normal(origins.shape, np.float32) * np.float32(lamp.radius / 2)
    facing = np.flatnonzero(normals @ direction > BEHIND)
    seen = np.zeros(len(origins), np.float32)
    seen[facing] = ~tracer.occluded(origins[facing], direction + spread[facing])
    width = PENUMBRA_PX[int(lamp.radius > 0.1)]
    lit, met = (
        cv2.blur(
            np.bincount(pixels[facing], weights, side_px**2).reshape(side_px, side_px).astype(np.float32),
            (width, width),
        ).ravel()
        for weights in (seen[facing], None)
    )
    seen[facing] = lit[pixels[facing]] / met[pixels[facing]]
    return seen
