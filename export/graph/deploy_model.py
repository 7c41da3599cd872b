"""What is left of a trained network when only inference counts."""

import copy

import torch
from torch import nn

from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel

EXAMPLE_BATCH = 2  # an example of one image would make an exporter take the batch for a constant


def deploy_model(model: ClipHand | HandModel) -> HandModel:
    """The image branch alone, in evaluation mode, without gradients; the given model is left as it is.

    The text tower, the axis encoders, the projections and the temperatures serve the contrastive loss only (paper
    section 3.3): the output does not depend on them.
    """
    hand = copy.deepcopy(model.hand if isinstance(model, ClipHand) else model)
    hand.requires_grad_(False)
    return hand.eval()


def count_parameters(model: nn.Module) -> int:
    """Numbers in a model's weights."""
    return sum(parameter.numel() for parameter in model.parameters())


def example_images(batch: int, input_size: int, *, seed: int = 0) -> torch.Tensor:
    """(batch, 3, S, S) float32 noise in the range of normalised photographs, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, input_size, input_size, generator=generator) * 2 - 1
