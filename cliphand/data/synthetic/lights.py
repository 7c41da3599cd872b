"""The light of one image: an ambient sky, and one to three lamps or windows that cast shadows."""

from dataclasses import dataclass

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.data.synthetic.mesh import unit
from cliphand.data.synthetic.palette import light_colour

LAMP_RADIUS = (0.04, 0.15, 0.35)  # radians: a bulb, a shade, a window


@dataclass(frozen=True, slots=True)
class Lamp:
    """A far light: direction towards it (3,), linear colour (3,), and how large it looks (radians)."""

    direction: FloatArray
    colour: FloatArray
    radius: float


@dataclass(frozen=True, slots=True)
class Light:
    """Ambient light from above and below along `up`, and lamps; irradiance of a white sheet is about 1."""

    up: FloatArray
    sky: FloatArray
    ground: FloatArray
    lamps: tuple[Lamp, ...]


def random_light(rng: np.random.Generator) -> Light:
    """Draw from flat overcast light to a single hard lamp, as a camera that balances white sees it."""
    kelvin = float(np.exp(rng.normal(np.log(5000), 0.25)))
    white = light_colour(_in_range(kelvin * np.exp(rng.normal(0, 0.07))))
    directness = float(rng.beta(1.4, 1.6))
    up = unit(np.array([0, -1.0, -0.35]) + rng.normal(0, 0.45, 3))
    sky = light_colour(_in_range(kelvin * rng.uniform(0.85, 1.2))) / white
    ground = sky * rng.uniform(0.3, 0.85) * np.exp(rng.normal(0, 0.08, 3))
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))
    lamps = []
    for share in rng.dirichlet([4.0, 1.5, 0.8][:count]):
        direction = unit(rng.normal(0, 0.75, 3) + np.array([0, -0.5, -0.65]))  # mostly from above and in front
        colour = light_colour(_in_range(kelvin * np.exp(rng.normal(0, 0.12)))) / white
        lamps.append(Lamp(direction, colour * share * directness * 1.6, float(rng.choice(LAMP_RADIUS))))
    strength = 1 - 0.8 * directness
    # The camera exposes for what faces it: a cube's front, top and sides.
    seen = strength * 0.8 + sum(lamp.colour.mean() * max(-lamp.direction[2], 0.3) for lamp in lamps)
    level = float(np.exp(rng.normal(-0.12, 0.22))) / seen
    return Light(
        up=up,
        sky=sky * strength * level,
        ground=ground * strength * level,
        lamps=tuple(Lamp(lamp.direction, lamp.colour * level, lamp.radius) for lamp in lamps),
    )


def _in_range(kelvin: float) -> float:
    return float(np.clip(kelvin, 2300, 12000))


def single_lights(rng: np.random.Generator) -> Light:
    """White lights of strength 1, to be rendered one at a time and mixed later: a sky, and lamps from three sides."""
    up = unit(np.array([0, -1.0, -0.35]) + rng.normal(0, 0.45, 3))
    sides = np.array([[0.0, -0.5, -0.7], [0.9, -0.2, -0.15], [-0.9, -0.2, -0.15]]) + rng.normal(0, 0.45, (3, 3))
    radius = rng.permutation(LAMP_RADIUS)
    lamps = tuple(Lamp(unit(side), np.ones(3), float(r)) for side, r in zip(sides, radius, strict=True))
    return Light(up, np.ones(3), np.full(3, rng.uniform(0.3, 0.85)), lamps)
