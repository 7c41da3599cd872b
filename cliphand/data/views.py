"""Samples as training and evaluation see them: a crop, its camera matrix and the labels that follow it.

A crop's turn and zoom live in its camera matrix (crop matrix @ K); camera coordinates never change.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from cliphand.arrays import ByteArray, FloatArray
from cliphand.camera import camera_to_uvd, root_and_bone
from cliphand.config import AugmentConfig, CropConfig
from cliphand.data.augment import draw_matrix, draw_view
from cliphand.data.crop import Box, crop_box, crop_matrix, cut, upright_rad
from cliphand.data.freihand import FreiHand
from cliphand.data.layers.compose import compose
from cliphand.data.layers.dense import DenseTargets, dense_targets
from cliphand.data.layers.store import LAYER_PX, layer_matrix
from cliphand.data.photograph import read_image, read_mask
from cliphand.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class TrainingView:
    """One augmented view with its labels.

    Attributes:
        crop: (S, S, 3) uint8 RGB.
        joints_uvd: (21, 3) float64 uvd.
        verts_uvd: (778, 3) float64 uvd.
        matrix: (3, 3) source pixels to crop pixels.
        K_crop: (3, 3) camera frame to crop pixels.
        dense: what each cell of the crop shows of the hand, where the hand was rendered in layers.
    """

    crop: ByteArray
    joints_uvd: FloatArray
    verts_uvd: FloatArray
    matrix: FloatArray
    K_crop: FloatArray
    dense: DenseTargets | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPair:
    """Two views of one photograph.

    Attributes:
        first: one view.
        second: another.
        affine: (2, 3), maps (u, v, 1) of the first view onto (u, v) of the second; d is the same in both.
    """

    first: TrainingView
    second: TrainingView
    affine: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationView:
    """One view without augmentation.

    Attributes:
        crop: (S, S, 3) uint8 RGB.
        matrix: (3, 3) source pixels to crop pixels.
        K_crop: (3, 3) camera frame to crop pixels.
    """

    crop: ByteArray
    matrix: FloatArray
    K_crop: FloatArray


def training_pair(
    dataset: FreiHand,
    image_index: int,
    *,
    crop: CropConfig,
    augment: AugmentConfig,
    side_px: int,
    rng: np.random.Generator,
) -> TrainingPair:
    """Draw two views of one photograph; of a hand in layers, two compositions.

    Args:
        dataset: a split with joints and vertices.
        image_index: which image.
        crop: the rule whose box the augmentation changes.
        augment: the bounds of the changes.
        side_px: side of the crops in pixels.
        rng: the only source of chance.

    Raises:
        InputError: the split has no joints or no vertices, the image, its mask or its layers cannot be read, or the
            crop rule finds nothing to cut.
    """
    draw = _photographed if dataset.layers is None else _composed
    first, second = draw(dataset, image_index, crop=crop, augment=augment, side_px=side_px, rng=rng)
    affine = (second.matrix @ np.linalg.inv(first.matrix))[:2]
    affine[:, 2] /= side_px  # pixels to uv
    return TrainingPair(first=first, second=second, affine=affine)


def _photographed(
    dataset: FreiHand, image_index: int, *, crop: CropConfig, augment: AugmentConfig, side_px: int, rng: Generator
) -> tuple[TrainingView, TrainingView]:
    """Two views of a photograph."""
    image = read_image(dataset.image_path(image_index))
    box = _training_box(dataset, image_index, image_shape=image.shape[:2], crop=crop, augment=augment)
    first, second = (draw_view(image, box, augment, rng, side_px=side_px) for _ in range(2))
    return _labelled(dataset, image_index, *first), _labelled(dataset, image_index, *second)


def _composed(
    dataset: FreiHand, image_index: int, *, crop: CropConfig, augment: AugmentConfig, side_px: int, rng: Generator
) -> tuple[TrainingView, TrainingView]:
    """Two compositions of a hand in layers; the finished picture of it is not read."""
    label = dataset.label_index(image_index)
    joints_uv = dataset.joints_uv(label)
    if dataset.layers is None or joints_uv is None:
        raise InputError(f"{dataset.label_path('xyz')} does not exist; layers lie around the joints.")
    layers, scenery = dataset.layers.read(label), dataset.layers.scenery()
    to_image = np.linalg.inv(layer_matrix(joints_uv))
    box = _training_box(dataset, image_index, image_shape=(LAYER_PX, LAYER_PX), crop=crop, augment=augment)

    def view() -> TrainingView:
        matrix = draw_matrix(box, augment, rng, side_px=side_px)
        from_layers = matrix @ to_image
        made = compose(rng, layers, from_layers, side_px=side_px, scenery=scenery, config=augment)
        dense = dense_targets(layers.surface, from_layers, made.seen)
        return replace(_labelled(dataset, image_index, made.crop, matrix), dense=dense)

    return view(), view()


def evaluation_view(dataset: FreiHand, image_index: int, crop: CropConfig, side_px: int) -> EvaluationView:
    """Cut one photograph by the crop rule alone; for a model that looks twice, turned upright as its labels say.

    Args:
        dataset: a split; labels are needed only by the rule `joints`, masks only by the rule `mask`.
        image_index: which image.
        crop: the rule.
        side_px: side of the crop in pixels.

    Raises:
        InputError: the image or its mask cannot be read, or the crop rule finds nothing to cut.
    """
    image = read_image(dataset.image_path(image_index))
    box = source_box(dataset, image_index, image_shape=image.shape[:2], crop=crop)
    label = dataset.label_index(image_index)
    joints_uv = dataset.joints_uv(label) if crop.second_look else None
    matrix = crop_matrix(box, side_px, angle_rad=0.0 if joints_uv is None else float(upright_rad(joints_uv)))
    return EvaluationView(crop=cut(image, matrix, side_px=side_px), matrix=matrix, K_crop=matrix @ dataset.K[label])


def source_box(dataset: FreiHand, image_index: int, *, image_shape: tuple[int, int], crop: CropConfig) -> Box:
    """The box that the crop rule finds in one image of a data set; reads the mask where the rule needs it.

    Raises:
        InputError: as `crop_box`; the sentence names the image.
    """
    mask_path = dataset.mask_path(image_index) if crop.rule == "mask" else None
    mask = read_mask(mask_path) if mask_path is not None else None
    joints_uv = dataset.joints_uv(dataset.label_index(image_index)) if crop.rule == "joints" else None
    try:
        return crop_box(crop, image_shape, mask=mask, joints_uv=joints_uv)
    except InputError as error:
        raise InputError(f"{dataset.image_path(image_index)}: {error}") from None


def _training_box(
    dataset: FreiHand, image_index: int, *, image_shape: tuple[int, int], crop: CropConfig, augment: AugmentConfig
) -> Box:
    """What the crop rule finds, turned until the hand points up where the augmentation asks for that."""
    box = source_box(dataset, image_index, image_shape=image_shape, crop=crop)
    if not augment.upright:
        return box
    joints_uv = dataset.joints_uv(dataset.label_index(image_index))
    if joints_uv is None:
        raise InputError(f"{dataset.label_path('xyz')} does not exist; upright views are turned by the joints.")
    return replace(box, angle_rad=float(upright_rad(joints_uv)))


def _labelled(dataset: FreiHand, image_index: int, crop: ByteArray, matrix: FloatArray) -> TrainingView:
    """A crop with the labels that follow its matrix."""
    label = dataset.label_index(image_index)
    joints = _required(dataset, "xyz", dataset.xyz)[label]
    vertices = _required(dataset, "verts", dataset.verts)[label]
    K_crop = matrix @ dataset.K[label]
    root_depth, bone = root_and_bone(joints)

    def project(points_m: FloatArray) -> FloatArray:
        return camera_to_uvd(points_m, K_crop, side_px=len(crop), root_depth_m=root_depth, bone_m=bone)

    return TrainingView(
        crop=crop, joints_uvd=project(joints), verts_uvd=project(vertices), matrix=matrix, K_crop=K_crop
    )


def _required(dataset: FreiHand, field: str, labels: FloatArray | None) -> FloatArray:
    if labels is None:
        raise InputError(f"{dataset.label_path(field)} does not exist; training needs the field '{field}'.")
    return labels
