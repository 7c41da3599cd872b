"""From photographs on disk to an engine's input, and from its output to metres in the camera frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cliphand.arrays import FloatArray
from cliphand.camera import root_and_bone, root_from_scale, uvd_to_camera
from cliphand.config import CropConfig
from cliphand.data.crop import crop_box, crop_matrix, second_look_rad, turn_matrix
from cliphand.data.freihand import FreiHand
from cliphand.data.photograph import read_mask
from cliphand.errors import InputError
from engines.base import Engine, HandOutput
from engines.hands.prepare import Prepared, Preparer, prepared_ahead

Root = Literal["truth", "scale"]
ROOT_SENTENCES: dict[Root, str] = {
    "truth": "ground-truth wrist depth and bone 0-9 turn uvd into metres",
    "scale": "depth solved from the predicted uvd, K and the published length of bone 9-10",
}
SECOND_LOOK = "looked at twice, the second time turned until the hand that the first look found points up"


@dataclass(frozen=True, slots=True, eq=False)
class Photographs:
    """A FreiHAND-format folder as a given model sees it.

    Attributes:
        data: images and labels.
        crop: how an image becomes the model's square.
        input_size: its side in pixels.
        root: where the absolute depth comes from.
    """

    data: FreiHand
    crop: CropConfig
    input_size: int
    root: Root

    def __post_init__(self) -> None:
        """Refuse data that lacks the labels which `root` needs."""
        field = {"truth": "xyz", "scale": "scale"}[self.root]
        if getattr(self.data, field) is None:
            other = "scale" if self.root == "truth" else "truth"
            raise InputError(
                f"--root {self.root} needs {self.data.label_path(field)}, which does not exist; "
                f"give the labels or choose --root {other}."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Crops ready for an engine.

    Attributes:
        prepared: the crops, and the photographs that they were cut from.
        K: (B, 3, 3) camera frame to crop pixels.
    """

    prepared: Prepared
    K: FloatArray

    @property
    def images(self) -> FloatArray:
        """(B, 3, S, S) float32, normalised."""
        return self.prepared.images


def read_batch(photographs: Photographs, indices: Sequence[int], preparer: Preparer | None = None) -> Batch:
    """Read, decode, crop and normalise images.

    Args:
        photographs: where they are and how they are cut.
        indices: of B images.
        preparer: None works on one image at a time.

    Raises:
        InputError: an image is missing or broken, or the crop rule needs a label that the data lacks.
    """
    data = photographs.data
    prepared = (preparer or Preparer(photographs.crop, photographs.input_size)).read(
        [data.image_path(index) for index in indices],
        lambda place, shape: _matrix(photographs, indices[place], shape),
    )
    return Batch(prepared, prepared.matrices @ data.K[[data.label_index(index) for index in indices]])


def look(
    engine: Engine, photographs: Photographs, batch: Batch, preparer: Preparer | None = None
) -> tuple[Batch, HandOutput]:
    """An engine's hands and the batch that shows them, which is another where the model looks twice.

    Args:
        engine: any.
        photographs: say whether there is a second look.
        batch: of the first.
        preparer: None works on one image at a time.
    """
    output = engine(batch.images)
    if not photographs.crop.second_look:
        return batch, output
    side = photographs.input_size
    angles_rad = second_look_rad(output.joints_uvd.astype(np.float64))
    turns = np.stack([turn_matrix(angle_rad, side) for angle_rad in angles_rad])
    preparer = preparer or Preparer(photographs.crop, side)
    second = Batch(preparer.again(batch.prepared, turns @ batch.prepared.matrices), turns @ batch.K)
    return second, engine(second.images)


def to_metres(
    photographs: Photographs, indices: Sequence[int], *, batch: Batch, output: HandOutput
) -> tuple[FloatArray, FloatArray]:
    """An engine's output in the camera frame.

    Args:
        photographs: say where the depth comes from.
        indices: the B images of the batch.
        batch: holds their K.
        output: the engine's, uvd.

    Returns:
        Joints (B, 21, 3) of the joint regressor, and vertices (B, 778, 3), metres.
    """
    side, K = photographs.input_size, batch.K
    joints, verts = output.joints_uvd.astype(np.float64), output.verts_uvd.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # an engine that overflows is counted where it is scored
        root_depth, bone = _root(photographs, indices, K=K, joints_uvd=joints)
        return (
            uvd_to_camera(joints, K, side_px=side, root_depth_m=root_depth, bone_m=bone),
            uvd_to_camera(verts, K, side_px=side, root_depth_m=root_depth, bone_m=bone),
        )


def end_to_end(
    engine: Engine, photographs: Photographs, indices: Sequence[int], preparer: Preparer | None = None
) -> FloatArray:
    """JPEG files to vertices: read, decode, crop, normalise, infer, uvd to metres, one after the other.

    Returns:
        (B, 778, 3) metres, camera frame.
    """
    batch, output = look(engine, photographs, read_batch(photographs, indices, preparer), preparer)
    return to_metres(photographs, indices, batch=batch, output=output)[1]


def pipelined(
    engine: Engine, photographs: Photographs, batches: Sequence[Sequence[int]], preparer: Preparer
) -> Iterator[FloatArray]:
    """What `end_to_end` gives for each batch, while a thread reads the next one."""
    ahead = prepared_ahead(lambda indices: read_batch(photographs, indices, preparer), batches)
    for indices, first in zip(batches, ahead, strict=True):
        batch, output = look(engine, photographs, first)  # the preparer is at work on the next
        yield to_metres(photographs, indices, batch=batch, output=output)[1]


def _matrix(photographs: Photographs, index: int, image_shape: tuple[int, int]) -> FloatArray:
    """Source pixels to crop pixels of one image."""
    data, rule = photographs.data, photographs.crop.rule
    mask = joints_uv = None
    if rule == "mask" and (mask_path := data.mask_path(index)) is not None:
        mask = read_mask(mask_path)
    if rule == "joints" and data.xyz is not None:
        label = data.label_index(index)
        homogeneous = data.xyz[label] @ data.K[label].T
        joints_uv = homogeneous[:, :2] / homogeneous[:, 2:]
    box = crop_box(photographs.crop, image_shape, mask=mask, joints_uv=joints_uv)
    return crop_matrix(box, photographs.input_size)


def _root(
    photographs: Photographs, indices: Sequence[int], *, K: FloatArray, joints_uvd: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Depth of the wrist and length of bone 0-9 of each image, metres."""
    data = photographs.data
    labels = [data.label_index(index) for index in indices]
    if photographs.root == "truth" and data.xyz is not None:
        return root_and_bone(data.xyz[labels])
    if photographs.root == "scale" and data.scale is not None:
        return root_from_scale(joints_uvd, K, side_px=photographs.input_size, scale_m=data.scale[labels])
    raise AssertionError("Photographs checks its labels")
