"""The photographs that the gate compares engines on, and an engine's hands on them in metres.

The absolute depth comes from the true wrist depth and bone 0-9, the authors' protocol.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from cliphand.arrays import ByteArray, FloatArray
from cliphand.camera import root_and_bone, uvd_to_camera
from cliphand.checked import checked
from cliphand.config import CropConfig
from cliphand.data.crop import normalise
from cliphand.data.freihand import FreiHand, Split, label_path, open_freihand, require_split
from cliphand.data.views import evaluation_view
from cliphand.errors import InputError
from cliphand.hand import N_VERTICES
from cliphand.limits import ALL
from engines.base import Engine
from export.gate.parity import Hands, Truth

BATCH = 8


@checked
class GateRequest:
    """Which photographs.

    Attributes:
        data: folder in FreiHAND's layout with true joints.
        split: of it; `evaluation` unless there is none to judge by.
        images: how many, evenly spread over the split; None all.
    """

    data: Path
    split: Split = "evaluation"
    images: Annotated[int, ALL] | None = 200


@dataclass(frozen=True, slots=True, eq=False)
class GateImages:
    """Crops of N photographs with their labels.

    Attributes:
        data: the split they are from.
        indices: of the images.
        crops: (N, S, S, 3) uint8 RGB.
        crop: normalises them.
        K: (N, 3, 3) camera frame to crop pixels.
        truth: joints and, where there are any, vertices.
    """

    data: FreiHand
    indices: tuple[int, ...]
    crops: ByteArray
    crop: CropConfig
    K: FloatArray
    truth: Truth

    @property
    def names(self) -> tuple[str, ...]:
        """File names of the images."""
        return tuple(self.data.image_path(index).name for index in self.indices)

    def predict(
        self, engine: Engine, joint_regressor: FloatArray, *, progress: Callable[[int], None] | None = None
    ) -> Hands:
        """Run an engine over all images.

        Args:
            engine: an open one.
            joint_regressor: (21, 778) from vertices to joints.
            progress: called with the number of images done.
        """
        depth, bone = root_and_bone(self.truth.xyz)
        verts = np.empty((len(self.indices), N_VERTICES, 3))
        side = self.crops.shape[1]
        for start in range(0, len(verts), BATCH):
            part = slice(start, min(start + BATCH, len(verts)))
            uvd = engine(normalise(self.crops[part], self.crop)).verts_uvd.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):  # what overflows is counted where it is compared
                verts[part] = uvd_to_camera(
                    uvd, self.K[part], side_px=side, root_depth_m=depth[part], bone_m=bone[part]
                )
            if progress is not None:
                progress(part.stop)
        with np.errstate(invalid="ignore", over="ignore"):
            return Hands(xyz=joint_regressor @ verts, verts=verts)


def check_gate(request: GateRequest) -> None:
    """Refuse a folder without true joints, at a look.

    Raises:
        InputError: the folder, the split or its joints are missing.
    """
    require_split(request.data, request.split)
    joints = label_path(request.data, request.split, "xyz")
    if not joints.exists():
        raise InputError(f"{joints} does not exist; the gate compares with true joints: give a folder that has them.")


def read_gate_images(request: GateRequest, crop: CropConfig, side_px: int) -> GateImages:
    """Read and crop the photographs.

    Raises:
        InputError: the folder, the split or its joints are missing, or an image cannot be read.
    """
    check_gate(request)
    data = open_freihand(request.data, request.split)
    count = len(data) if request.images is None else min(request.images, len(data))
    return gate_images(data, np.linspace(0, len(data) - 1, count).round().astype(int).tolist(), crop, side_px)


def gate_images(data: FreiHand, indices: Sequence[int], crop: CropConfig, side_px: int) -> GateImages:
    """Read and crop given photographs of a split that has joints.

    Raises:
        InputError: an image cannot be read.
    """
    assert data.xyz is not None  # noqa: S101  # what the caller looked at
    views = [evaluation_view(data, index, crop, side_px) for index in indices]
    labels = [data.label_index(index) for index in indices]
    return GateImages(
        data=data,
        indices=tuple(indices),
        crops=np.stack([view.crop for view in views]),
        crop=crop,
        K=np.stack([view.K_crop for view in views]),
        truth=Truth(xyz=data.xyz[labels], verts=None if data.verts is None else data.verts[labels]),
    )
