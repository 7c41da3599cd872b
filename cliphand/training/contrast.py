"""Matching of poses and prompts: logits, their symmetric loss, and retrieval accuracy.

Features are gathered over all processes, so that a global batch contrasts as one.

Source: paper sections 3.3 and 3.5 (L_CLIP).
"""

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather
from torch.nn import functional

from cliphand.model.clip_hand import Matched


def gather_batch(features: Tensor) -> Tensor:
    """(3, B, common) of this process to (3, processes * B, common), differentiable for every process's part."""
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return features
    return torch.cat(all_gather(features.contiguous()), dim=1)  # type: ignore[no-untyped-call]


def match_logits(matched: Matched, scales: Tensor) -> Tensor:
    """(3, B, B) logits M: tau times the cosine of pose (rows) and text (columns), over the global batch."""
    pose, text = gather_batch(matched.pose), gather_batch(matched.text)
    return scales.view(-1, 1, 1) * pose @ text.transpose(1, 2)


def clip_loss(logits: Tensor) -> Tensor:
    """L_CLIP: symmetric InfoNCE of (3, B, B) logits, rows and columns, averaged over the axes."""
    axes, batch, _ = logits.shape
    target = torch.arange(batch, device=logits.device).repeat(axes)
    rows = functional.cross_entropy(logits.flatten(0, 1), target)
    columns = functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), target)
    return (rows + columns) / 2


def retrieval_accuracy(logits: Tensor) -> Tensor:
    """Share of poses and prompts, over the axes, whose best match is their own: a scalar in [0, 1]."""
    target = torch.arange(logits.shape[-1], device=logits.device)
    hits = torch.stack([logits.argmax(dim=2) == target, logits.argmax(dim=1) == target])
    return hits.float().mean()
