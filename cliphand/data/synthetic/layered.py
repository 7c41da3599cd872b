"""Render a hand light by light, with what covers what and where on the hand each pixel lies."""

import cv2
import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.data.layers.dense import canonical, to_bytes
from cliphand.data.layers.store import LAYER_PX, LIGHT_SPAN, SURFACE_PX, Layers
from cliphand.data.synthetic.hair import with_hair
from cliphand.data.synthetic.lights import Light, single_lights
from cliphand.data.synthetic.render import Traced, interpolate, receive, trace
from cliphand.data.synthetic.scene import SKIN, Scene, Stage
from cliphand.data.synthetic.shading import Look, illuminate, surface
from cliphand.data.synthetic.tracer import Tracer

SMALLEST_LEVEL_PX = 7
DRAWN_ON_PX = 3  # the surface goes on beyond the hand's outline by so much
DARK = np.zeros(3)


def render_layers(
    rng: np.random.Generator, stage: Stage, scene: Scene, K: FloatArray, look: Look, *, root_m: float, bone_m: float
) -> Layers:
    """Render a scene.

    Args:
        rng: source of randomness for the lights' directions and their soft shadows.
        stage: what images share.
        scene: the triangles.
        K: (3, 3) for the layers' frame.
        look: the materials.
        root_m: depth of the wrist.
        bone_m: length of bone 0-9.
    """
    light = single_lights(rng)
    tracer = Tracer(scene.vertices, scene.faces)
    traced = trace(tracer, scene, K, LAYER_PX)
    points, visible = receive(rng, stage, scene, tracer, traced, K, light.lamps)
    albedo, normal, nail = surface(points, look, stage.maps)
    skin = (with_hair(rng, points, albedo), normal, nail)
    sky = illuminate(points, look, Light(light.up, light.sky, light.ground, ()), skin, ())
    lit = [sky]
    for lamp, seen in zip(light.lamps, visible, strict=True):
        lit.append(illuminate(points, look, Light(light.up, DARK, DARK, (lamp,)), skin, [seen]))
    on_hand = traced.hits.face < scene.n_hand_faces
    covered = np.stack([np.ones(len(on_hand)), on_hand, points.material != SKIN], axis=1).astype(np.float32)
    cover = traced.picture(covered)
    lights = tuple(_encoded(drawn_on(traced.picture(part), cover[..., 0])) for part in lit)
    return Layers(lights, _levels(cover), _surface(stage, scene, traced, root_m=root_m, bone_m=bone_m))


def _encoded(light: FloatArray) -> ByteArray:
    """Linear light as its square root."""
    return _levels(np.sqrt(np.maximum(light, 0) / LIGHT_SPAN))


def _levels(values: FloatArray) -> ByteArray:
    """[0, 1] as 0 to 255."""
    return np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)


def drawn_on(values: FloatArray, cover: FloatArray) -> FloatArray:
    """Values (S, S, C), weighed by their coverage (S, S), unweighed and continued smoothly where there is none."""
    levels = [(values, cover)]
    while len(levels[-1][1]) > SMALLEST_LEVEL_PX:
        own, share = levels[-1]
        half_px = -(-len(share) // 2)
        levels.append((resized(own, half_px), resized(share, half_px)))
    own, share = levels[-1]
    filled: FloatArray = np.broadcast_to(own.sum(axis=(0, 1)) / max(float(share.sum()), 1e-6), own.shape)
    for own, share in reversed(levels):
        larger = cv2.resize(np.asarray(filled, np.float32), share.shape[::-1], interpolation=cv2.INTER_LINEAR)
        filled = np.asarray(own + (1 - np.minimum(share, 1))[..., None] * larger)
    return filled


def resized(image: FloatArray, side_px: int) -> FloatArray:
    """(side_px, side_px, ...) mean of the pixels below each."""
    return np.asarray(cv2.resize(image, (side_px, side_px), interpolation=cv2.INTER_AREA), np.float32)


def _surface(stage: Stage, scene: Scene, traced: Traced, *, root_m: float, bone_m: float) -> ByteArray:
    """(SURFACE_PX, SURFACE_PX, 4): canonical coordinates and depth, from the rays that met the hand."""
    hits = traced.hits
    place = interpolate(np.concatenate([scene.fields[:, :3], scene.vertices[:, 2:]], axis=1), scene, hits)
    values = np.ones((len(place), 5), np.float32)
    values[:, :3] = canonical(place[:, :3], stage.model.topology.template)
    values[:, 3] = (place[:, 3] - root_m) / bone_m
    values *= (hits.face < scene.n_hand_faces)[:, None]
    small = resized(traced.picture(values), SURFACE_PX)
    weight = small[..., 4]
    filled = drawn_on(small[..., :4], weight)
    near = cv2.dilate((weight > 0).astype(np.uint8), np.ones((2 * DRAWN_ON_PX + 1,) * 2, np.uint8))
    return np.asarray(to_bytes(filled[..., :3], filled[..., 3]) * near[..., None], np.uint8)
