"""Where on the skin a rendered vertex lies: palm or back, nail, redness; and maps of lines and veins around it."""

from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.anny_source import MIDDLE_BONE
from cliphand.data.synthetic.mesh import corner_matrix, face_normals, unit
from cliphand.data.synthetic.rig import FINGER_BONES, Rig
from cliphand.data.synthetic.rigged_hand import RiggedHand

N_MAPS = 8
MAP_PX_PER_M = 1500.0
MAP_ORIGIN_M = np.array([-0.085, -0.06])  # hand frame x and y of the map's first pixel
MAP_SHAPE = (390, 250)  # rows along y, columns along x
MAP_SEED = 41
NAIL_FAR = 3.0  # value of the nail field away from nails; inside a nail it is below 1
CHANNELS = ("shade", "redness", "slope x", "slope y")


@dataclass(frozen=True, slots=True)
class SkinFields:
    """Fields over the D rendered vertices at rest, each (D,) float32.

    Attributes:
        palmar: 0 on the back, 1 on the palm.
        nail: below 1 inside a nail (a superellipse in its plane).
        nail_length: 0 at the nail's root, 1 at its free edge.
        redness: high on knuckles, fingertips and the palm's pads.
    """

    palmar: FloatArray
    nail: FloatArray
    nail_length: FloatArray
    redness: FloatArray


def skin_fields(model: RiggedHand) -> SkinFields:
    """Compute the fields from the rest shape."""
    rig = model.rig
    rest = model.smooth @ rig.vertices
    weights = model.smooth @ (rig.weights[:, :21] + rig.weights[:, 21:])
    normals = unit(corner_matrix(model.surface, len(rest)) @ face_normals(rest, model.surface))
    finger = np.stack([weights[:, bones].sum(axis=1) for bones in FINGER_BONES], axis=1)  # (D, 5)
    body = np.clip(1 - finger.sum(axis=1), 0, 1)
    dorsal = unit(finger @ rig.axes[:, 0] + body[:, None] * np.array([0, 0, 1.0]))
    facing = (normals * dorsal).sum(axis=1)
    palmar = palm_share(facing)
    nail, length = _nails(rig, rest, facing)
    return SkinFields(*(field.astype(np.float32) for field in (palmar, nail, length, _redness(rig, rest, palmar))))


def palm_share(facing: FloatArray) -> FloatArray:
    """0 on the back, 1 on the palm, from the cosine between the normal and the back's."""
    share = np.clip(0.5 - 0.75 * facing, 0, 1)
    return np.asarray(share * share * (3 - 2 * share))


def _nails(rig: Rig, rest: FloatArray, facing: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nail field and position along the nail."""
    nail = np.full(len(rest), NAIL_FAR)
    length = np.zeros(len(rest))
    for finger, bones in enumerate(FINGER_BONES):
        _, lateral, along = rig.axes[finger]
        tip, wide = rig.vertices[rig.tips[finger]], rig.radius[finger, 2] * 0.92
        long = wide * 1.35
        from_tip = rest - tip
        side = (from_tip @ lateral) / wide
        position = (from_tip @ along + 1.95 * long) / (2 * long)  # 0 at the root, 1 near the tip
        value = side**2 + (2 * position - 1) ** 4
        near = (np.linalg.norm(from_tip, axis=1) < 3.2 * long) & (facing > 0.1)
        near &= (rest - rig.heads[bones[2]]) @ along > 0
        nail = np.where(near, np.minimum(np.minimum(value, NAIL_FAR), nail), nail)
        length = np.where(near, np.clip(position, -0.5, 1.5), length)
    return nail, length


def _redness(rig: Rig, rest: FloatArray, palmar: FloatArray) -> FloatArray:
    """Sum of soft spots at knuckles (back) and at fingertips and pads (palm)."""
    red = np.zeros(len(rest))
    for finger, bones in enumerate(FINGER_BONES):
        for joint, bone in enumerate(bones):
            if finger or joint:
                spot = np.exp(-(((rest - rig.heads[bone]) ** 2).sum(axis=1)) / (2 * 0.0075**2))
                red += spot * (1 - palmar) * 1.2
        tip = rest - rig.vertices[rig.tips[finger]]
        red += np.exp(-((tip**2).sum(axis=1)) / (2 * 0.011**2)) * (0.5 + 0.5 * palmar)
    knuckles = rig.heads[[bones[0] for bones in FINGER_BONES[1:]]]
    balls = np.array([[-0.02, 0.035, -0.02], [0.028, 0.03, -0.014]])  # of the thumb and of the little finger
    pads = np.concatenate([knuckles + np.array([0, -0.004, -0.012]), balls])
    for pad in pads:
        red += 0.7 * palmar * np.exp(-(((rest - pad) ** 2).sum(axis=1)) / (2 * 0.012**2))
    return red


def skin_maps(rig: Rig) -> FloatArray:
    """N_MAPS pairs of maps over the hand frame's xy plane, back and palm.

    Returns:
        (N_MAPS, 2, rows, columns, 4) float32, CHANNELS: darkening, redness, and the slope of fine relief.
    """
    rng = np.random.default_rng(MAP_SEED)
    maps = np.zeros((N_MAPS, 2, *MAP_SHAPE, len(CHANNELS)), np.float32)
    for pair in maps:
        for palm, chart in enumerate(pair):
            lines = _palm_lines(rng, rig) if palm else _back_lines(rng, rig)
            veins = np.zeros(MAP_SHAPE, np.float32) if palm else _veins(rng)
            broad, fine = _noise(rng, 12), _noise(rng, 2)
            chart[..., 0] = 0.4 * lines + 0.05 * broad + 0.025 * fine + 0.1 * veins
            chart[..., 1] = 0.6 * _noise(rng, 22) + 0.2 * _noise(rng, 7) + 0.8 * lines - 0.8 * veins
            relief = 0.00045 * lines - 0.0006 * veins + 0.00004 * fine + 0.00008 * _noise(rng, 5)  # metres, inwards
            relief = cv2.GaussianBlur(relief, (0, 0), 0.7)
            chart[..., 2] = -np.gradient(relief, axis=1) * MAP_PX_PER_M
            chart[..., 3] = -np.gradient(relief, axis=0) * MAP_PX_PER_M
    return maps


def _noise(rng: np.random.Generator, cell_px: int) -> FloatArray:
    """Smooth noise of unit variance with features of about `cell_px`."""
    rows, columns = MAP_SHAPE
    coarse = rng.normal(size=(rows // cell_px + 3, columns // cell_px + 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth / smooth.std())


def _pixels(points: FloatArray) -> FloatArray:
    """(N, 2 or 3) hand frame to (N, 2) map pixels."""
    return np.asarray((points[:, :2] - MAP_ORIGIN_M) * MAP_PX_PER_M)


def _stroke(canvas: FloatArray, points: FloatArray, strength: float, width_px: int = 1) -> None:
    """Draw a polyline (N, 2) of map pixels, keeping the stronger where lines cross."""
    layer = np.zeros(MAP_SHAPE, np.float32)
    fixed = np.round(points * 16).astype(np.int32)
    cv2.polylines(layer, [fixed[:, None]], False, strength, width_px, cv2.LINE_AA, 4)
    np.maximum(canvas, layer, out=canvas)


def _across_finger(
    rng: np.random.Generator, rig: Rig, canvas: FloatArray, *, offsets_m: tuple[float, ...], palm: bool
) -> None:
    """Draw creases across the fingers at each joint."""
    for finger, bones in enumerate(FINGER_BONES):
        points = [*rig.heads[bones], rig.vertices[rig.tips[finger]]]
        for joint in range(0 if palm and finger else 1, 3):
            along = unit((points[joint + 1] - points[joint])[:2])
            across = np.array([along[1], -along[0]])
            half = rig.radius[finger, max(joint, 1)] * (1.1 if palm else 0.75)
            base = points[joint][:2] + along * (0.45 * np.linalg.norm(points[1] - points[0]) if joint == 0 else 0)
            for offset in offsets_m:
                side = np.linspace(-1, 1, 7)[:, None]
                wave = rng.normal(0, 0.0004, (7, 1)) + offset * (1 - 0.35 * side**2) + rng.normal(0, 0.0004)
                _stroke(canvas, _pixels(base + across * side * half + along * wave), float(rng.uniform(0.35, 1)))


def _back_lines(rng: np.random.Generator, rig: Rig) -> FloatArray:
    """Wrinkles over the knuckles."""
    canvas = np.zeros(MAP_SHAPE, np.float32)
    _across_finger(rng, rig, canvas, offsets_m=(-0.003, -0.0015, 0.0, 0.0015, 0.003), palm=False)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.8))


def _palm_lines(rng: np.random.Generator, rig: Rig) -> FloatArray:
    """Creases of the fingers and the three large lines of the palm."""
    canvas = np.zeros(MAP_SHAPE, np.float32)
    _across_finger(rng, rig, canvas, offsets_m=(-0.0008, 0.0012), palm=True)
    length = float(rig.heads[MIDDLE_BONE, 1])
    palm = {  # x and y in units of the wrist to middle MCP
        "heart": [(0.42, 0.72), (0.25, 0.75), (0.05, 0.82), (-0.1, 0.98)],
        "head": [(-0.32, 0.78), (-0.12, 0.68), (0.1, 0.56), (0.28, 0.44)],
        "life": [(-0.31, 0.77), (-0.12, 0.6), (-0.02, 0.35), (-0.08, 0.05)],
    }
    for line in palm.values():
        knots = np.array(line) * length + rng.normal(0, 0.002, (len(line), 2))
        where = np.linspace(0, len(knots) - 1, 24)
        curve = np.stack([np.interp(where, np.arange(len(knots)), knots[:, i]) for i in range(2)], axis=1)
        kernel = np.ones(7) / 7
        curve[3:-3] = np.stack([np.convolve(curve[:, i], kernel, "valid") for i in range(2)], axis=1)
        _stroke(canvas, _pixels(curve), float(rng.uniform(0.6, 1)))
    for _ in range(14):
        start = np.array([rng.uniform(-0.3, 0.4), rng.uniform(0.1, 0.85)]) * length
        step = rng.normal(0, 0.007, 2)
        _stroke(canvas, _pixels(start + np.linspace(0, 1, 5)[:, None] * step), float(rng.uniform(0.1, 0.4)))
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.8) * 1.3)


def _veins(rng: np.random.Generator) -> FloatArray:
    """A few branching lines on the back of the hand."""
    canvas = np.zeros(MAP_SHAPE, np.float32)
    for _ in range(6):
        point = np.array([rng.uniform(-0.02, 0.03), rng.uniform(-0.05, 0.01)])
        heading = rng.normal(0, 0.25)
        path = [point]
        for _ in range(14):
            heading += rng.normal(0, 0.22) - 0.1 * heading
            point = point + 0.006 * np.array([np.sin(heading), np.cos(heading)])
            path.append(point)
        _stroke(canvas, _pixels(np.array(path)), float(rng.uniform(0.3, 1)), width_px=3)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 1.8))
