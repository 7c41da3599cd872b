"""How much of the hands a crop cuts off: what lies outside it no network can see."""

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.config import CropConfig
from cliphand.data.freihand import FreiHand
from cliphand.data.photograph import image_size
from cliphand.data.views import source_box

SAMPLES = 256  # images that are looked at; their headers and labels only, but for the rule `mask`
WORTH_A_LINE = 0.02  # share of joints; held things and sleeves hide as many


def reach_over_crop(data: FreiHand, crop: CropConfig) -> FloatArray:
    """How far each joint lies from the middle of its crop.

    Args:
        data: a split with joints.
        crop: the rule.

    Returns:
        (N, 21) larger of the two distances along x and y, over half the crop's side: more than 1 is outside. Of up to
        SAMPLES images, evenly spaced.

    Raises:
        InputError: an image or a mask cannot be read.
    """
    reach = []
    for index in np.unique(np.linspace(0, len(data) - 1, SAMPLES).round().astype(int)):
        joints_uv = data.joints_uv(data.label_index(int(index)))
        if joints_uv is None:
            break
        box = source_box(data, int(index), image_shape=image_size(data.image_path(int(index))), crop=crop)
        away_px = np.abs(joints_uv - (box.centre_x, box.centre_y)).max(axis=-1)
        reach.append(away_px / (box.side_px / 2))
    return np.array(reach)


def cut_off_line(data: FreiHand, crop: CropConfig) -> str | None:
    """A line for the user where the crop cuts off more joints than chance does, else None."""
    reach = reach_over_crop(data, crop)
    share = float(np.mean(reach > 1)) if reach.size else 0.0
    if share <= WORTH_A_LINE:
        return None
    line = f"The crop ({crop.rule}) leaves {share:.0%} of the joints of {data.root} outside"
    if crop.rule != "centre":
        return f"{line}."
    wanted_px = crop.side_px * float(np.quantile(reach, 1 - WORTH_A_LINE))
    return f"{line}: {crop.side_px:g} px in the middle; --crop-side {np.ceil(wanted_px / 10) * 10:g} holds them."
