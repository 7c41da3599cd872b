"""Matching of poses and prompts: logits, their symmetric loss, and retrieval accuracy.

Features are gathered over all processes, so that a global batch contrasts as one.

Source: paper sections 3.3 and 3.5 (L_CLIP).
"""

from typing import Protocol, cast

import torch
from torch import Tensor, distributed
from torch.nn import functional

from cliphand.config import Reduction
from cliphand.model.clip_hand import Matched


class Context(Protocol):
    """What the forward pass leaves for the backward pass."""

    batch: int


class _Gather(torch.autograd.Function):
    """Concatenate every process's features along the batch; each gets back the gradient of all processes' losses."""

    @staticmethod
    def forward(context: Context, features: Tensor) -> Tensor:
        parts = [torch.empty_like(features) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, features)
        context.batch = features.shape[1]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(context: Context, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        distributed.all_reduce(total)
        start = distributed.get_rank() * context.batch
        return total[:, start : start + context.batch]


def gather_batch(features: Tensor) -> Tensor:
    """(A, B, common) of this process to (A, processes * B, common), differentiable for every process's part.

    Every process then computes the same global loss. The gradients add up over the processes and data-parallel
    training averages them, which leaves the gradient of that one loss.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return features
    return cast("Tensor", _Gather.apply(features.contiguous()))


def match_logits(matched: Matched, scales: Tensor) -> Tensor:
    """(3, B, B) logits M: tau times the cosine of pose (rows) and text (columns), over the global batch."""
    pose, text = gather_batch(torch.cat([matched.pose, matched.text])).chunk(2)
    return scales.view(-1, 1, 1) * pose @ text.transpose(1, 2)


def clip_loss(logits: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """L_CLIP: symmetric InfoNCE of (3, B, B) logits, mean or sum of rows' and columns', averaged over the axes."""
    axes, batch, _ = logits.shape
    target = torch.arange(batch, device=logits.device).repeat(axes)
    rows = functional.cross_entropy(logits.flatten(0, 1), target)
    columns = functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), target)
    return (rows + columns) / 2 if reduction == "mean" else rows + columns


def retrieval_accuracy(logits: Tensor) -> Tensor:
    """Share of poses and prompts, over the axes, whose best match is their own: a scalar in [0, 1]."""
    target = torch.arange(logits.shape[-1], device=logits.device)
    hits = torch.stack([logits.argmax(dim=2) == target, logits.argmax(dim=1) == target])
    return hits.float().mean()
