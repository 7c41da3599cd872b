"""Rays from the camera into a scene: which pixels are hand, and the light they receive."""

from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import BoolArray, FloatArray, IntArray
from cliphand.data.synthetic.camera import RENDER_PX
from cliphand.data.synthetic.lights import Light
from cliphand.data.synthetic.mesh import unit
from cliphand.data.synthetic.scene import Scene, Stage
from cliphand.data.synthetic.shading import Look, Points, illuminate
from cliphand.data.synthetic.tracer import LIFT_M, Hits, Tracer
from cliphand.data.synthetic.visibility import ambient_light, lamp_light

SUB_PIXELS = np.array([[-0.375, -0.125], [0.125, -0.375], [0.375, 0.125], [-0.125, 0.375]], np.float32)  # turned grid
DEPTH_STEP_M = 0.004
COARSE_PX = 4
INSIDE = -0.2  # a cosine below which a surface is seen from inside, as a sleeve's is


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendered image (RENDER_PX square): linear RGB times coverage, coverage, and the hand's own coverage."""

    colour: FloatArray
    coverage: FloatArray
    hand: FloatArray


def render(rng: np.random.Generator, stage: Stage, scene: Scene, K: FloatArray, look: Look, light: Light) -> Picture:
    """Render a scene; pixels on edges get four rays.

    Args:
        rng: source of randomness for soft shadows.
        stage: what images share.
        scene: the triangles.
        K: (3, 3) for the RENDER_PX image.
        look: the materials.
        light: the light.
    """
    tracer = Tracer(scene.vertices, scene.faces)
    pixels = _pixels_in_view(tracer, K)
    centres = _positions(pixels)
    first = _cast(tracer, centres, K)
    edges = _edges(first, scene, pixels)
    inner, outer = np.flatnonzero(~edges & (first.face >= 0)), np.flatnonzero(edges)
    sub = (centres[outer][:, None] + SUB_PIXELS).reshape(-1, 2)
    hits, rays = _joined(_select(first, inner), _cast(tracer, sub, K)), np.concatenate([centres[inner], sub])
    met = np.flatnonzero(hits.face >= 0)
    layers = np.zeros((len(rays), 5), np.float32)
    layers[met, :3] = _shade(rng, stage, scene, tracer, _select(hits, met), rays[met], K, look, light)
    layers[met, 3] = 1
    layers[met, 4] = hits.face[met] < scene.n_hand_faces
    canvas = np.zeros((RENDER_PX * RENDER_PX, 5), np.float32)
    canvas[pixels[inner]] = layers[: len(inner)]
    canvas[pixels[outer]] = layers[len(inner) :].reshape(-1, len(SUB_PIXELS), 5).mean(axis=1)
    full = canvas.reshape(RENDER_PX, RENDER_PX, 5)
    return Picture(full[..., :3], full[..., 3], full[..., 4])


def _pixels_in_view(tracer: Tracer, K: FloatArray) -> IntArray:
    """(N,) y * RENDER_PX + x of the pixels around those of a coarse grid whose rays hit."""
    axis = np.arange(COARSE_PX // 2, RENDER_PX, COARSE_PX)
    grid = (axis[:, None] * RENDER_PX + axis).ravel()
    met = (_cast(tracer, _positions(grid), K).face >= 0).reshape(len(axis), len(axis)).astype(np.uint8)
    around = cv2.dilate(met, np.ones((3, 3), np.uint8))
    return np.flatnonzero(np.repeat(np.repeat(around, COARSE_PX, axis=0), COARSE_PX, axis=1))


def _positions(pixels: IntArray) -> FloatArray:
    """(N, 2) x and y of pixels."""
    return np.stack([pixels % RENDER_PX, pixels // RENDER_PX], axis=1).astype(np.float32)


def _directions(pixels: FloatArray, K: FloatArray) -> FloatArray:
    """(N, 3) rays of unit depth through pixels."""
    rays = np.ones((len(pixels), 3), np.float32)
    rays[:, :2] = (pixels - K[:2, 2]) / K[[0, 1], [0, 1]]
    return rays


def _cast(tracer: Tracer, pixels: FloatArray, K: FloatArray) -> Hits:
    directions = _directions(pixels, K)
    return tracer.first_hits(np.zeros_like(directions), directions)


def _select(hits: Hits, chosen: np.ndarray) -> Hits:
    return Hits(hits.face[chosen], hits.u[chosen], hits.v[chosen], hits.distance[chosen])


def _joined(a: Hits, b: Hits) -> Hits:
    return Hits(
        np.concatenate([a.face, b.face]),
        np.concatenate([a.u, b.u]),
        np.concatenate([a.v, b.v]),
        np.concatenate([a.distance, b.distance]),
    )


def _edges(hits: Hits, scene: Scene, pixels: IntArray) -> BoolArray:
    """(N,) pixels where material or depth jumps towards a neighbour."""
    label = np.zeros(RENDER_PX * RENDER_PX, np.int32)
    depth = np.zeros(RENDER_PX * RENDER_PX, np.float32)
    met = hits.face >= 0
    label[pixels[met]] = scene.material[hits.face[met]] + 1
    depth[pixels[met]] = hits.distance[met]
    square = (RENDER_PX, RENDER_PX)
    labels, depths = label.reshape(square), depth.reshape(square)
    across = (np.diff(labels, axis=1) != 0) | (np.abs(np.diff(depths, axis=1)) > DEPTH_STEP_M)
    down = (np.diff(labels, axis=0) != 0) | (np.abs(np.diff(depths, axis=0)) > DEPTH_STEP_M)
    jump = np.zeros(square, bool)
    jump[:, :-1] |= across
    jump[:, 1:] |= across
    jump[:-1] |= down
    jump[1:] |= down
    return np.asarray(jump.ravel()[pixels])


def _shade(
    rng: np.random.Generator,
    stage: Stage,
    scene: Scene,
    tracer: Tracer,
    hits: Hits,
    rays: FloatArray,
    K: FloatArray,
    look: Look,
    light: Light,
) -> FloatArray:
    """Linear RGB (N, 3) where rays through pixels (N, 2) hit."""
    ambient = ambient_light(stage, scene, tracer)
    mixed = _interpolate(np.concatenate([scene.normals, ambient[:, None], scene.fields], axis=1), scene, hits)
    directions = _directions(rays, K)
    view = -unit(directions)
    normal = unit(mixed[:, :3])
    normal *= np.where((normal * view).sum(1, keepdims=True) < INSIDE, np.float32(-1), np.float32(1))
    origins = directions * hits.distance[:, None] + np.float32(LIFT_M) * (normal + view)
    column, row = np.rint(rays).astype(np.int32).T
    pixels = np.clip(row, 0, RENDER_PX - 1) * RENDER_PX + np.clip(column, 0, RENDER_PX - 1)
    visible = [lamp_light(rng, tracer, lamp, origins=origins, normals=normal, pixels=pixels) for lamp in light.lamps]
    points = Points(scene.material[hits.face], normal, view, mixed[:, 4:], mixed[:, 3])
    return illuminate(points, look, light, stage.maps, visible)


def _interpolate(columns: FloatArray, scene: Scene, hits: Hits) -> FloatArray:
    """(N, C) barycentric mean of per-vertex columns (V, C)."""
    a, b, c = scene.faces[hits.face].T
    u, v = hits.u[:, None], hits.v[:, None]
    return np.asarray(columns[a] * (1 - u - v) + columns[b] * u + columns[c] * v)
