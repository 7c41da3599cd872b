"""Colour of surface points: skin, nails, cloth, things; diffuse with a soft terminator, ambient and gloss."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cliphand.arrays import FloatArray, IntArray
from cliphand.data.synthetic.lights import Light
from cliphand.data.synthetic.palette import NAIL, skin_tone, thing_colours, to_linear
from cliphand.data.synthetic.scene import CLOTH, MATERIALS, PROP, SKIN
from cliphand.data.synthetic.skin import MAP_ORIGIN_M, MAP_PX_PER_M, N_MAPS

VARNISH_SHARE = 0.07
REDDENING = np.array([0.3, -0.75, -0.6], np.float32)  # blood takes green and blue
# Light that enters skin leaves it nearby, red furthest: the edge of its own shadow is soft and red.
SKIN_WRAP = np.array([0.28, 0.12, 0.07], np.float32)

Surface = tuple[FloatArray, FloatArray, FloatArray]  # see `surface`


@dataclass(frozen=True, slots=True)
class Look:
    """The materials of one image.

    Attributes:
        chart: which pair of skin maps.
        back, palm: (3,) linear albedo of the skin on either side.
        blotch: strength of spatial variation; relief: of fine normals.
        nail: (3,) albedo; edge: (3,) albedo of the nail's free edge; varnished: whether nails are painted.
        colours: (MATERIALS, 2, 3) two colours of each other material.
        stripe: (MATERIALS, 3) wave vector of their pattern, radians per metre.
        gloss: (MATERIALS,) strength of the highlight; hardness: (MATERIALS,) its exponent.
    """

    chart: int
    back: FloatArray
    palm: FloatArray
    blotch: float
    relief: float
    nail: FloatArray
    edge: FloatArray
    varnished: bool
    colours: FloatArray
    stripe: FloatArray
    gloss: FloatArray
    hardness: FloatArray


@dataclass(frozen=True, slots=True)
class Points:
    """N surface points: material (N,), normal and view direction (N, 3), fields (N, N_FIELDS), ambient (N,)."""

    material: IntArray
    normal: FloatArray
    view: FloatArray
    fields: FloatArray
    ambient: FloatArray


def random_look(rng: np.random.Generator) -> Look:
    """Draw skin of any human tone, and colours for everything else."""
    tone = float(rng.uniform(0, 1))
    tint = np.exp(rng.normal([0.02, -0.02, -0.08], [0.05, 0.04, 0.06]))
    back = np.clip(skin_tone(tone) * tint, 0.005, 0.9)
    palm = np.clip(skin_tone(0.68 * tone + 0.04) * tint * [1.03, 0.96, 0.95], 0.005, 0.9)
    varnished = bool(rng.random() < VARNISH_SHARE)
    bare = 0.55 * back**0.6 * NAIL**0.4 + 0.45 * NAIL * (1 - 0.5 * tone)
    gloss = np.array([rng.uniform(0.1, 0.9), 0.05, rng.uniform(0.2, 1.5), rng.uniform(0.0, 1.5)])
    hardness = np.array([rng.uniform(8, 40), 5, rng.uniform(20, 90), rng.uniform(10, 120)])
    colours = thing_colours(rng, 2 * MATERIALS).reshape(MATERIALS, 2, 3)
    plain = rng.random(MATERIALS) < 0.75
    colours[plain, 1] = colours[plain, 0] * 0.9
    colours[~plain, 1] = 0.4 * colours[~plain, 0] + 0.6 * colours[~plain, 1]
    return Look(
        chart=int(rng.integers(N_MAPS)),
        back=back.astype(np.float32),
        palm=palm.astype(np.float32),
        blotch=float(rng.uniform(0.5, 1.4)),
        relief=float(rng.uniform(0.4, 1.3)),
        nail=np.asarray(thing_colours(rng, 1)[0] if varnished else bare, np.float32),
        edge=np.asarray(to_linear(np.array([0.87, 0.82, 0.76])) * (1 - 0.4 * tone), np.float32),
        varnished=varnished,
        colours=colours.astype(np.float32),
        stripe=(rng.normal(size=(MATERIALS, 3)) * rng.uniform(100, 700, (MATERIALS, 1))).astype(np.float32),
        gloss=gloss.astype(np.float32),
        hardness=hardness.astype(np.float32),
    )


def surface(points: Points, look: Look, maps: FloatArray) -> Surface:
    """Albedo (N, 3), normal with fine relief (N, 3) and nail share (N,) of every point."""
    fields = points.fields
    albedo = _patterned(points, look)
    normal = points.normal
    nail = np.zeros(len(normal), np.float32)
    skin = np.flatnonzero(points.material == SKIN)
    if len(skin):
        own = fields[skin]
        palmar = own[:, 3:4]
        back, palm = (_look_up(side, own[:, :2]) for side in maps[look.chart])
        chart = back + palmar * (palm - back)
        red = (0.1 * own[:, 6] + 0.06 * look.blotch * chart[:, 1])[:, None]
        log_back, log_palm = np.log(look.back), np.log(look.palm)
        base = np.exp(log_back + palmar * (log_palm - log_back) + red * REDDENING - look.blotch * chart[:, :1])
        share = np.clip((1.08 - own[:, 4]) / 0.2, 0, 1)
        free = np.clip((own[:, 5] - 0.86) / 0.06, 0, 1) * (not look.varnished)
        plate = look.nail + free[:, None] * (look.edge - look.nail)
        albedo[skin] = base + share[:, None] * (plate - base)
        slope = chart[:, 2:] * (look.relief * (1 - share))[:, None]
        normal = normal.copy()
        tilted = normal[skin] - own[:, 7:10] * slope[:, :1] - own[:, 10:13] * slope[:, 1:]
        normal[skin] = tilted / np.sqrt((tilted * tilted).sum(1, keepdims=True))
        nail[skin] = share
    return albedo, normal, nail


def _look_up(chart: FloatArray, xy: FloatArray) -> FloatArray:
    """(N, 4) of a map at hand-frame positions (N, 2); the forearm repeats the map mirrored."""
    pixels = ((xy - MAP_ORIGIN_M) * MAP_PX_PER_M).astype(np.float32)
    found = np.zeros((len(pixels), chart.shape[-1]), np.float32)
    step = 16384  # cv2.remap takes no axis longer than 32767
    for start in range(0, len(pixels), step):
        part = pixels[start : start + step]
        found[start : start + step] = cv2.remap(
            chart, part[:, :1], part[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )[:, 0]
    return found


def _patterned(points: Points, look: Look) -> FloatArray:
    """(N, 3) albedo of cloth and things: two colours in waves."""
    phase = (points.fields[:, :3] * look.stripe[points.material]).sum(axis=1)
    share = np.clip(0.5 + 2 * np.sin(phase), 0, 1)[:, None].astype(np.float32)
    colours = look.colours[points.material]
    return np.asarray(colours[:, 0] + share * (colours[:, 1] - colours[:, 0]))


def illuminate(points: Points, look: Look, light: Light, skin: Surface, visible: Sequence[FloatArray]) -> FloatArray:
    """Linear RGB (N, 3) of surface points; linear in the colours of sky, ground and lamps.

    Args:
        points: the points.
        look: their materials.
        light: the light.
        skin: what `surface` found for them.
        visible: per lamp (N,), 0 in its shadow and 1 in its light.
    """
    albedo, normal, nail = skin
    is_skin = (points.material == SKIN)[:, None]
    wrap = np.where(is_skin, SKIN_WRAP, np.float32(0.0))
    height = (0.5 + 0.5 * normal @ light.up.astype(np.float32))[:, None]
    ambient = points.ambient[:, None]
    # Light between two surfaces takes on their colour: a dark crease of skin is red, not black.
    bounced = ambient / (1 - albedo * (1 - ambient))
    total = bounced * (light.ground + height * (light.sky - light.ground)).astype(np.float32)
    gloss = look.gloss[points.material] * (1 + 2 * nail)
    hardness = look.hardness[points.material] * (1 + 2.5 * nail)
    highlight = np.zeros_like(total)
    for lamp, seen in zip(light.lamps, visible, strict=True):
        direction, colour = lamp.direction.astype(np.float32), lamp.colour.astype(np.float32)
        cosine = normal @ direction
        diffuse = np.clip((cosine[:, None] + wrap) / (1 + wrap), 0, 1)
        total += seen[:, None] * diffuse * colour
        half = direction + points.view
        half /= np.sqrt((half * half).sum(1, keepdims=True)) + 1e-6
        shine = np.clip((normal * half).sum(1), 0, 1) ** hardness * (hardness + 8) / 60
        highlight += (seen * shine * gloss * np.clip(cosine, 0, 1) * 0.11)[:, None] * colour
    rim = np.square(
        np.square(1 - np.clip((normal * points.view).sum(1), 0, 1))
    )  # surfaces seen at grazing angles mirror the sky
    highlight += (0.06 * rim * gloss * points.ambient)[:, None] * light.sky.astype(np.float32)
    cloth = (points.material == CLOTH) | (points.material == PROP)
    return np.asarray(albedo * total + np.where(cloth, 0.7, 1.0)[:, None].astype(np.float32) * highlight)
