"""Rays from the camera into a scene: which pixels are hand, and the light they receive."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import BoolArray, FloatArray, IntArray
from cliphand.data.synthetic.lights import Lamp, Light
from cliphand.data.synthetic.mesh import unit
from cliphand.data.synthetic.placement import RENDER_PX
from cliphand.data.synthetic.scene import Scene, Stage
from cliphand.data.synthetic.shading import Look, Points, illuminate, surface
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


@dataclass(frozen=True, slots=True)
class Traced:
    """What the rays of a picture met: one ray for a pixel, four for one on an edge.

    Attributes:
        hits: of all rays that met something.
        rays: (N, 2) where they pass through the picture.
        met: (N,) their places among all rays cast: those of `inner` pixels, then four for each of `outer`.
        inner, outer: pixels y * side_px + x with one ray and with four.
        side_px: of the picture.
    """

    hits: Hits
    rays: FloatArray
    met: IntArray
    inner: IntArray
    outer: IntArray
    side_px: int

    def picture(self, values: FloatArray) -> FloatArray:
        """(side_px, side_px, C) float32 mean of the rays' values (N, C); a ray that met nothing counts as 0."""
        n_inner, sub = len(self.inner), len(SUB_PIXELS)
        every = np.zeros((n_inner + sub * len(self.outer), values.shape[1]), np.float32)
        every[self.met] = values
        canvas = np.zeros((self.side_px * self.side_px, values.shape[1]), np.float32)
        canvas[self.inner] = every[:n_inner]
        canvas[self.outer] = every[n_inner:].reshape(-1, sub, values.shape[1]).mean(axis=1)
        return canvas.reshape(self.side_px, self.side_px, -1)


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
    traced = trace(tracer, scene, K, RENDER_PX)
    points, visible = receive(rng, stage, scene, tracer, traced, K, light.lamps)
    layers = np.ones((len(traced.met), 5), np.float32)
    layers[:, :3] = illuminate(points, look, light, surface(points, look, stage.maps), visible)
    layers[:, 4] = traced.hits.face < scene.n_hand_faces
    full = traced.picture(layers)
    return Picture(full[..., :3], full[..., 3], full[..., 4])


def trace(tracer: Tracer, scene: Scene, K: FloatArray, side_px: int) -> Traced:
    """Send rays through a picture of side_px pixels a side, whose camera is K."""
    pixels = _pixels_in_view(tracer, K, side_px)
    centres = _positions(pixels, side_px)
    first = _cast(tracer, centres, K)
    edges = _edges(first, scene, pixels, side_px)
    inner, outer = np.flatnonzero(~edges & (first.face >= 0)), np.flatnonzero(edges)
    sub = (centres[outer][:, None] + SUB_PIXELS).reshape(-1, 2)
    hits, rays = _joined(_select(first, inner), _cast(tracer, sub, K)), np.concatenate([centres[inner], sub])
    met = np.flatnonzero(hits.face >= 0)
    return Traced(_select(hits, met), rays[met], met, pixels[inner], pixels[outer], side_px)


def _pixels_in_view(tracer: Tracer, K: FloatArray, side_px: int) -> IntArray:
    """(N,) y * side_px + x of the pixels around those of a coarse grid whose rays hit."""
    axis = np.arange(COARSE_PX // 2, side_px, COARSE_PX)
    grid = (axis[:, None] * side_px + axis).ravel()
    met = (_cast(tracer, _positions(grid, side_px), K).face >= 0).reshape(len(axis), len(axis)).astype(np.uint8)
    around = cv2.dilate(met, np.ones((3, 3), np.uint8))
    return np.flatnonzero(np.repeat(np.repeat(around, COARSE_PX, axis=0), COARSE_PX, axis=1))


def _positions(pixels: IntArray, side_px: int) -> FloatArray:
    """(N, 2) x and y of pixels."""
    return np.stack([pixels % side_px, pixels // side_px], axis=1).astype(np.float32)


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


def _edges(hits: Hits, scene: Scene, pixels: IntArray, side_px: int) -> BoolArray:
    """(N,) pixels where material or depth jumps towards a neighbour."""
    label = np.zeros(side_px * side_px, np.int32)
    depth = np.zeros(side_px * side_px, np.float32)
    met = hits.face >= 0
    label[pixels[met]] = scene.material[hits.face[met]] + 1
    depth[pixels[met]] = hits.distance[met]
    square = (side_px, side_px)
    labels, depths = label.reshape(square), depth.reshape(square)
    across = (np.diff(labels, axis=1) != 0) | (np.abs(np.diff(depths, axis=1)) > DEPTH_STEP_M)
    down = (np.diff(labels, axis=0) != 0) | (np.abs(np.diff(depths, axis=0)) > DEPTH_STEP_M)
    jump = np.zeros(square, bool)
    jump[:, :-1] |= across
    jump[:, 1:] |= across
    jump[:-1] |= down
    jump[1:] |= down
    return np.asarray(jump.ravel()[pixels])


def receive(
    rng: np.random.Generator,
    stage: Stage,
    scene: Scene,
    tracer: Tracer,
    traced: Traced,
    K: FloatArray,
    lamps: Sequence[Lamp],
) -> tuple[Points, list[FloatArray]]:
    """The N surface points that rays met, and per lamp the share of its light that reaches each."""
    hits, rays, side_px = traced.hits, traced.rays, traced.side_px
    ambient = ambient_light(stage, scene, tracer)
    mixed = interpolate(np.concatenate([scene.normals, ambient[:, None], scene.fields], axis=1), scene, hits)
    directions = _directions(rays, K)
    view = -unit(directions)
    normal = unit(mixed[:, :3])
    normal *= np.where((normal * view).sum(1, keepdims=True) < INSIDE, np.float32(-1), np.float32(1))
    origins = directions * hits.distance[:, None] + np.float32(LIFT_M) * (normal + view)
    column, row = np.rint(rays).astype(np.int32).T
    pixels = np.clip(row, 0, side_px - 1) * side_px + np.clip(column, 0, side_px - 1)
    visible = [
        lamp_light(rng, tracer, lamp, origins=origins, normals=normal, pixels=pixels, side_px=side_px) for lamp in lamps
    ]
    return Points(scene.material[hits.face], normal, view, mixed[:, 4:], mixed[:, 3]), visible


def interpolate(columns: FloatArray, scene: Scene, hits: Hits) -> FloatArray:
    """(N, C) barycentric mean of per-vertex columns (V, C)."""
    a, b, c = scene.faces[hits.face].T
    u, v = hits.u[:, None], hits.v[:, None]
    return np.asarray(columns[a] * (1 - u - v) + columns[b] * u + columns[c] * v)
