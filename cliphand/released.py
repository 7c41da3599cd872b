"""The authors' released weights as a checkpoint of this project: the same function, for every image of any batch.

What differs from a model trained here stands in the config. The public code returns a bin's index where its training
target was a coordinate in [0, 1], so the weights express [0, 1] through the first bins: dividing would be wrong. Its
attention runs over the batch; for one image that is value and output of a single token, which is what holds here.

Joints: the joint regressor's (lixel) are in FreiHAND's order, since the released data loader gives its target
`joint_img` in the order of FreiHAND's labels, and takes the bone of joints 0 and 9 as the unit of depth, which only in
that order is wrist to middle finger. The mesh's joints (`J_Reg`) are in MANO's order; its rows are put into FreiHAND's.

Source: github ShaoXiang23/CLIP_Hand_Demo, `demo/model_inderence.py`, `datasets/Frei.py`, `utils/text_utils.py`.
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from cliphand.arrays import FloatArray
from cliphand.checkpoint import save_checkpoint
from cliphand.config import CropConfig, ModelConfig
from cliphand.errors import InputError
from cliphand.files import SHORT_HASH, require_file, sha256_of
from cliphand.hand import N_JOINTS, HandTopology, check_topology, load_hand
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel
from cliphand.released_table import (
    BINS_Z,
    JOINT_CONVS,
    LEVELS,
    SHALLOW_CHANNELS,
    Entry,
    freihand_rows,
    released_table,
)

STATE = "state_dict"
COUNTER = "num_batches_tracked"  # the only whole numbers
MAX_BYTES = 2 * 2**30
# What PyTorch's reader raises for files that are broken or none of its own.
_BROKEN = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
)
CONFIG = ModelConfig(
    backbone="resnet50",
    bin_position="index",
    depth_range=1.0,
    depth_origin=0.0,
    heatmap_sigma=2.5,
    attention="single_token",
    activation="quick_gelu",
    pyramid="after",
)
# Training cut 1.3 times the box of the hand's mask, which FreiHAND's evaluation images lack; the crop of the published
# evaluation is unknown. A fixed square about the centre is the closest rule that every image allows.
CROP = CropConfig(rule="centre", side_px=130.0, margin=1.3)


@dataclass(frozen=True, slots=True)
class Released:
    """The released weights, sorted.

    Attributes:
        weights: `HandModel`'s state under `CONFIG`.
        templates: (n, 3) positional encoding of each mesh level.
        joint_regressor: (21, 778) float64, in FreiHAND's order.
    """

    weights: Mapping[str, Tensor]
    templates: tuple[Tensor, ...]
    joint_regressor: FloatArray


def import_released(path: Path, out: Path, *, hand: Path | None = None, crop: CropConfig = CROP) -> None:
    """Write the released weights as a checkpoint.

    Args:
        path: the `.pth.tar`.
        out: checkpoint folder to write.
        hand: hand.npz for the faces, which the weights lack and only pictures of the mesh need.
        crop: how photographs are cut; the weights do not say.

    Raises:
        InputError: `path` is not that file, or `hand` is not readable.
    """
    released = read_released(path)
    model = HandModel(CONFIG, released.templates)
    model.load_state_dict(dict(released.weights))
    save_checkpoint(
        out,
        model=ClipHand(model, None),
        model_config=CONFIG,
        crop=crop,
        topology=_topology(released, None if hand is None else load_hand(hand), source=str(path)),
        train=None,
        facts={
            "imported": f"{path.name} (sha256 {sha256_of(path)[:SHORT_HASH]})",
        },
    )


def read_released(path: Path) -> Released:
    """Read the `.pth.tar` without executing anything in it, and sort its tensors by the table.

    Raises:
        InputError: the file is missing, holds more than tensors and plain values, or has a missing, unexpected,
            mis-shaped or non-finite tensor; the sentence names it.
    """
    state = _checked(_load(path), path)
    table = released_table()
    weights: dict[str, Tensor] = {}
    for key, entry in table.items():
        for target, part in zip(entry.targets, _parts(entry, state[key]), strict=True):
            weights[target] = part.contiguous()
    templates = tuple(weights[f"mesh_regressor.levels.{level}.template"] for level in range(len(LEVELS)))
    return Released(weights, templates, state["J_Reg"].double().numpy()[list(freihand_rows())])


def _load(path: Path) -> Mapping[str, object]:
    """The content of the file's `state_dict`."""
    require_file(path, advice="give the authors' CLIP_Hand_3D_PE_*.pth.tar")
    _refuse_bomb(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL [\w.]+", str(error))  # the rest of the message advises to load it unsafely
        reason = f" ({named[0]})" if named else ""
        raise InputError(
            f"{path} is refused: it holds something else than tensors and plain values{reason}; give the authors' file."
        ) from None
    except _BROKEN as error:
        raise InputError(f"{path} is not a PyTorch file ({' '.join(str(error).split())[:200]}).") from None
    state = content.get(STATE) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path} has no '{STATE}'; give the authors' CLIP_Hand_3D_PE_*.pth.tar as it was released.")
    return cast("Mapping[str, object]", state)


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that unpacks to far more than the released weights, before anything in it is unpacked."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} is not a PyTorch file ({error}); download it again.") from None
    if declared > MAX_BYTES:
        raise InputError(
            f"{path} unpacks to {declared} bytes, where the released weights have 0.2 GB; it is not that file."
        )


def _oddity(tensor: Tensor, entry: Entry) -> str | None:
    """Why a tensor is no plain array of numbers of the wanted kind; None where it is."""
    whole = entry.key.endswith(COUNTER)
    oddities = {
        "on the meta device, without values": tensor.is_meta,
        "quantised": tensor.is_quantized,
        "sparse": tensor.layout is not torch.strided,
        "complex": tensor.is_complex(),
        "nested": tensor.is_nested,
        f"of type {tensor.dtype}": tensor.is_floating_point() == whole or tensor.dtype == torch.bool,
    }
    return next((name for name, holds in oddities.items() if holds), None)


def _checked(state: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """The tensors, if they are exactly the table's."""
    table = released_table()
    for kind, keys in (("lacks", table.keys() - state.keys()), ("has the unexpected", state.keys() - table.keys())):
        if keys:
            names = ", ".join(f"'{key}'" for key in sorted(keys)[:5])
            raise InputError(f"{path} {kind} tensor {names} ({len(keys)} in all); it is not the released model.")
    checked = {}
    for key, entry in table.items():
        tensor = state[key]
        odd = _oddity(tensor, entry) if isinstance(tensor, Tensor) else None
        if odd is not None:
            raise InputError(f"{path}: '{key}' is {odd}; it is not the released model.")
        shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        if not isinstance(tensor, Tensor) or shape != entry.shape:
            raise InputError(f"{path}: '{key}' is {shape}, must be {entry.shape}; it is not the released model.")
        if not torch.isfinite(tensor.float()).all():
            raise InputError(f"{path}: '{key}' holds NaN or infinity; download the file again.")
        checked[key] = tensor.float() if tensor.is_floating_point() else tensor
    if not any(tensor.any() for tensor in checked.values() if tensor.dim() > 1):
        raise InputError(f"{path} holds zeros only; it is not the released model: download it again.")
    return checked


def _parts(entry: Entry, tensor: Tensor) -> tuple[Tensor, ...]:
    """What of a tensor goes to each of its targets."""
    if entry.targets == JOINT_CONVS:
        shallow, volumes = torch.split(tensor, [SHALLOW_CHANNELS, N_JOINTS * BINS_Z], dim=1)
        return shallow, volumes.reshape(len(tensor), N_JOINTS, BINS_Z, *tensor.shape[2:])
    if entry.key.endswith(("in_proj_weight", "in_proj_bias")) and entry.targets:
        return (tensor.chunk(3)[2],)  # query, key, value
    if entry.key == "PoseNet.conv_z_1.0.weight":
        return (tensor.squeeze(-1),)  # a convolution over one cell is a linear map
    return (tensor,) * len(entry.targets)


def _topology(released: Released, hand: HandTopology | None, *, source: str) -> HandTopology:
    """The weights' own joint regressor; faces and rest pose from the user's hand where there is one."""
    arrays = {
        "faces": np.zeros((0, 3), np.int64) if hand is None else hand.faces,
        "template": released.templates[-1].double().numpy() if hand is None else hand.template,
        "joint_regressor": released.joint_regressor,
    }
    return check_topology(arrays, source=source)
