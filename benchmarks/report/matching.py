"""How well the trained text branch tells images apart: the logits of poses and prompts, axis by axis.

Source: paper sections 3.1 to 3.3 and figure 6.
"""

from dataclasses import dataclass

import numpy as np
import open_clip
import torch

from benchmarks.measure.photographs import Photographs, read_batch
from cliphand.arrays import FloatArray
from cliphand.camera import camera_to_uvd, root_and_bone
from cliphand.checkpoint import Checkpoint, load_text_branch
from cliphand.data.prompts import axis_prompts, sample_joints
from cliphand.errors import InputError
from cliphand.model.text_encoder import TOWER
from cliphand.training.contrast import match_logits, retrieval_accuracy

AXES = ("x, left to right", "y, top to bottom", "z, near to far")
MATCHED_IMAGES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """Logits of B images.

    Attributes:
        logits: (3, B, B), temperature times cosine; rows are poses, columns prompts.
        accuracy: share of poses and prompts, over the axes, whose best match is their own.
        temperatures: of each axis.
        joints: named in a prompt.
    """

    logits: FloatArray
    accuracy: float
    temperatures: tuple[float, ...]
    joints: int


@torch.no_grad()
def match(checkpoint: Checkpoint, photographs: Photographs, *, n_images: int) -> Matching:
    """Match the first images of a data set with the prompts of their true joints.

    Raises:
        InputError: the checkpoint holds no text branch, its tower cannot be had, or the data has no joints.
    """
    data = photographs.data
    branch = load_text_branch(checkpoint)
    if data.xyz is None or checkpoint.train is None:
        raise InputError(f"{data.label_path('xyz')} does not exist; prompts name the order of true joints.")
    indices = range(min(n_images, len(data), MATCHED_IMAGES))
    batch = read_batch(photographs, indices)
    xyz = data.xyz[[data.label_index(index) for index in indices]]
    root_depth, bone = root_and_bone(xyz)
    uvd = camera_to_uvd(xyz, batch.K, side_px=photographs.input_size, root_depth_m=root_depth, bone_m=bone)
    chosen = sample_joints(checkpoint.train.text.joints, np.random.default_rng(checkpoint.train.seed))
    tokenizer = open_clip.get_tokenizer(TOWER)
    tokens = torch.stack([tokenizer(list(axis_prompts(joints, chosen))) for joints in uvd])
    predicted = checkpoint.model.predict_joints(torch.from_numpy(batch.images))
    logits = match_logits(branch(predicted.logits, tokens), branch.scales())
    return Matching(
        logits=logits.numpy(),
        accuracy=float(retrieval_accuracy(logits)),
        temperatures=tuple(branch.scales().tolist()),
        joints=checkpoint.train.text.joints,
    )
