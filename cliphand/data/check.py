"""A full check of one split: labels, counts, and every image and mask decoded."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cliphand.arrays import BoolArray
from cliphand.camera import MM_PER_M
from cliphand.data.freihand import FreiHand, Split, inside, open_freihand, refuse_few_inside, refuse_outside
from cliphand.data.identity import refuse_other_hand
from cliphand.data.label_file import FIELD_SHAPES
from cliphand.data.photograph import read_image, read_mask
from cliphand.data.plausible import PROJECTION, read_allowed
from cliphand.errors import InputError
from cliphand.hand import MIDDLE_MCP, MIDDLE_PIP, N_JOINTS, load_hand

HAND_NAME = "hand.npz"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a split holds.

    Attributes:
        images: how many.
        labels: unique samples.
        versions: images per sample.
        fields: the label fields that are there.
        masks: how many hand masks.
        empty_masks: how many of them show no hand; the crop rule `mask` cannot use those.
        flat_images: how many are of one colour and show nothing.
        image_sizes: (width, height) and how many images have it, most frequent first.
        scale_difference_mm: largest difference of `scale` and the length of bone 9-10, or None without both.
        joints_inside_share: share of projected joints that fall inside their image, or None without joints.
        allowed: checks of the labels that `plausibility.json` allows to fail.
    """

    images: int
    labels: int
    versions: int
    fields: tuple[str, ...]
    masks: int
    empty_masks: int
    flat_images: int
    image_sizes: tuple[tuple[tuple[int, int], int], ...]
    scale_difference_mm: float | None
    joints_inside_share: float | None
    allowed: tuple[str, ...]


def check_freihand(root: Path, split: Split, *, progress: Progress | None = None) -> Facts:
    """Check the labels of a split and decode every image and mask.

    Args:
        root: a folder in FreiHAND's layout.
        split: `training` or `evaluation`.
        progress: called with the number of images done and their total after each.

    Raises:
        InputError: the first mismatch, by file and field, and how many more images fail.
    """
    dataset = open_freihand(root, split)
    if (root / HAND_NAME).exists():
        refuse_other_hand(dataset, load_hand(root / HAND_NAME), source=root / HAND_NAME)
    scale_difference_mm = _scale_difference_mm(dataset)
    sizes: Counter[tuple[int, int]] = Counter()
    faults: list[str] = []
    outside_allowed = PROJECTION in read_allowed(root)
    n_inside = empty_masks = flat = 0
    for index in range(len(dataset)):
        try:
            image = read_image(dataset.image_path(index))
            height, width = image.shape[:2]
            flat += bool((image == image[0, 0]).all())
            sizes[width, height] += 1
            uv = dataset.joints_uv(dataset.label_index(index))
            n_inside += 0 if uv is None else int(inside(uv, (height, width)).sum())
            if not outside_allowed:
                refuse_outside(dataset, index, (height, width))
            if index < dataset.n_labels:
                mask = _checked_mask(dataset, index, (height, width))
                empty_masks += mask is not None and not mask.any()
        except InputError as error:
            faults.append(str(error))
        if progress is not None:
            progress(index + 1, len(dataset))
    if faults:
        more = f" {len(faults) - 1} more of {len(dataset)} images fail too." if len(faults) > 1 else ""
        raise InputError(faults[0] + more)
    inside_share = None if dataset.xyz is None else n_inside / (N_JOINTS * len(dataset))
    if inside_share is not None and not outside_allowed:
        refuse_few_inside(dataset, inside_share)
    return Facts(
        images=len(dataset),
        labels=dataset.n_labels,
        versions=dataset.n_versions,
        fields=tuple(field for field in FIELD_SHAPES if getattr(dataset, field) is not None),
        masks=dataset.n_labels if dataset.has_masks else 0,
        empty_masks=empty_masks,
        flat_images=flat,
        image_sizes=tuple(sizes.most_common()),
        scale_difference_mm=scale_difference_mm,
        joints_inside_share=inside_share,
        allowed=read_allowed(root),
    )


def _scale_difference_mm(dataset: FreiHand) -> float | None:
    if dataset.xyz is None or dataset.scale is None:
        return None
    bones = np.linalg.norm(dataset.xyz[:, MIDDLE_MCP] - dataset.xyz[:, MIDDLE_PIP], axis=-1)
    difference_mm = MM_PER_M * np.abs(bones - dataset.scale)
    return float(difference_mm.max())


def _checked_mask(dataset: FreiHand, index: int, image_shape: tuple[int, int]) -> BoolArray | None:
    path = dataset.mask_path(index)
    if path is None:
        return None
    mask = read_mask(path)
    if mask.shape != image_shape:
        raise InputError(
            f"{path} is {mask.shape[1]} x {mask.shape[0]} pixels but its image is {image_shape[1]} x "
            f"{image_shape[0]}; both must have the same size."
        )
    return mask
