"""A full check of one split: labels, counts, and every image, mask and layer decoded."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cliphand.arrays import BoolArray
from cliphand.camera import MM_PER_M
from cliphand.data.freihand import FreiHand, inside, refuse_few_inside, refuse_outside
from cliphand.data.identity import refuse_other_hand
from cliphand.data.label_file import FIELD_SHAPES
from cliphand.data.layers.scenery import list_pictures, list_things, read_thing
from cliphand.data.photograph import read_image, read_mask
from cliphand.data.plausible import HAND, NEEDS, PROJECTION, read_allowed
from cliphand.errors import InputError
from cliphand.hand import HAND_NAME, MIDDLE_MCP, MIDDLE_PIP, N_JOINTS, load_hand

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a split holds.

    Attributes:
        images: how many.
        labels: unique samples.
        versions: images per sample.
        fields: the label fields that are there.
        checks: of the labels that were made: those that need what is there, and are not allowed to fail.
        masks: how many hand masks.
        empty_masks: how many of them show no hand; the crop rule `mask` cannot use those.
        layers: how many hands have them.
        scenery: how many pictures and things there are to put before and behind those.
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
    checks: tuple[str, ...]
    masks: int
    empty_masks: int
    layers: int
    scenery: int
    flat_images: int
    image_sizes: tuple[tuple[tuple[int, int], int], ...]
    scale_difference_mm: float | None
    joints_inside_share: float | None
    allowed: tuple[str, ...]


def check_freihand(dataset: FreiHand, *, progress: Progress | None = None) -> Facts:
    """Decode every image, mask and layer of a split, whose labels were checked as it was opened, and compare them.

    Args:
        dataset: from `open_freihand`.
        progress: called with the number of images done and their total after each.

    Raises:
        InputError: the first mismatch, by file and field, and how many more images fail.
    """
    root = dataset.root
    if (root / HAND_NAME).exists():
        refuse_other_hand(dataset, load_hand(root / HAND_NAME), source=root / HAND_NAME)
    seen = _look_at_all(dataset, progress)
    if seen.faults:
        looked_at = f"{len(dataset)} images" + (f" and {seen.scenery} kept pictures" if seen.scenery else "")
        more = f" {len(seen.faults) - 1} more of {looked_at} fail too." if len(seen.faults) > 1 else ""
        raise InputError(seen.faults[0] + more)
    inside_share = None if dataset.xyz is None else seen.joints_inside / (N_JOINTS * len(dataset))
    allowed = read_allowed(root)
    if inside_share is not None and PROJECTION not in allowed:
        refuse_few_inside(dataset, inside_share)
    fields = tuple(name for name in FIELD_SHAPES if getattr(dataset, name) is not None)
    without = {*allowed, *(() if (root / HAND_NAME).exists() else (HAND,))}
    return Facts(
        images=len(dataset),
        labels=dataset.n_labels,
        versions=dataset.n_versions,
        fields=fields,
        checks=tuple(name for name, needs in NEEDS.items() if name not in without and {*needs} <= {*fields}),
        masks=dataset.n_labels if dataset.has_masks else 0,
        empty_masks=seen.empty_masks,
        layers=0 if dataset.layers is None else dataset.n_labels,
        scenery=seen.scenery,
        flat_images=seen.flat_images,
        image_sizes=tuple(seen.sizes.most_common()),
        scale_difference_mm=_scale_difference_mm(dataset),
        joints_inside_share=inside_share,
        allowed=allowed,
    )


@dataclass(slots=True)
class _Seen:
    """What the images and masks so far add up to; see `Facts`."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    joints_inside: int = 0
    empty_masks: int = 0
    scenery: int = 0
    flat_images: int = 0
    faults: list[str] = field(default_factory=list)


def _look_at_all(dataset: FreiHand, progress: Progress | None) -> _Seen:
    seen = _Seen()
    if dataset.layers is not None:
        _look_at_scenery(dataset.root, seen)
    outside_allowed = PROJECTION in read_allowed(dataset.root)
    for index in range(len(dataset)):
        try:
            _look_at(dataset, index, seen, outside_allowed=outside_allowed)
        except InputError as error:
            seen.faults.append(str(error))
        if progress is not None:
            progress(index + 1, len(dataset))
    return seen


def _look_at_scenery(root: Path, seen: _Seen) -> None:
    """The pictures and things of a set in layers, those held out for evaluation as well."""
    readers = ((read_image, list_pictures(root)), (read_thing, list_things(root)))
    for read, path in ((read, path) for read, paths in readers for path in paths):
        seen.scenery += 1
        try:
            read(path)
        except InputError as error:
            seen.faults.append(str(error))


def _look_at(dataset: FreiHand, index: int, seen: _Seen, *, outside_allowed: bool) -> None:
    image = read_image(dataset.image_path(index))
    height, width = image.shape[:2]
    seen.flat_images += bool((image == image[0, 0]).all())
    seen.sizes[width, height] += 1
    uv = dataset.joints_uv(dataset.label_index(index))
    seen.joints_inside += 0 if uv is None else int(inside(uv, (height, width)).sum())
    if not outside_allowed:
        refuse_outside(dataset, index, (height, width))
    if index < dataset.n_labels:
        mask = _checked_mask(dataset, index, (height, width))
        seen.empty_masks += mask is not None and not mask.any()
        if dataset.layers is not None:
            dataset.layers.read(index)


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
