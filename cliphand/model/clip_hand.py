"""The network as it is trained: the hand model with its text branch and its dense branch.

Source: paper section 3.3 (feature matching).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cliphand.config import TOWER_WIDTH, ModelConfig, TextConfig
from cliphand.hand import N_JOINTS
from cliphand.model.dense_branch import DenseBranch
from cliphand.model.hand_model import HandModel
from cliphand.model.joint_regressor import UPSAMPLING
from cliphand.model.text_encoder import N_AXES, AxisEncoder

MAX_SCALE = 100.0


class Matched(NamedTuple):
    """Unit-length features of both sides, one pair per axis (x, y, z).

    Attributes:
        pose: (3, B, common) from the 1D heatmaps.
        text: (3, B, common) from the prompts.
    """

    pose: Tensor
    text: Tensor


class TextBranch(nn.Module):
    """Prompts and 1D heatmaps to a common space, per axis.

    Args:
        model: sizes of the 1D heatmaps.
        text: sizes of the branch.
        tower: token ids (P, L) to features (P, L, 512), as `TextTower`.

    Attributes:
        log_scale: (3,) learnable logarithms of the temperatures tau.
    """

    def __init__(self, model: ModelConfig, text: TextConfig, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        n_bins_xy = model.input_size // 32 * UPSAMPLING
        bins = (n_bins_xy, n_bins_xy, model.depth_bins)
        self.axis_encoders = nn.ModuleList(AxisEncoder(text) for _ in range(N_AXES))
        self.text_projections = nn.ModuleList(nn.Linear(TOWER_WIDTH, text.common_size) for _ in range(N_AXES))
        self.pose_projections = nn.ModuleList(
            nn.Sequential(nn.Linear(N_JOINTS * n, TOWER_WIDTH), nn.GELU(), nn.Linear(TOWER_WIDTH, text.common_size))
            for n in bins
        )
        self.log_scale = nn.Parameter(torch.full((N_AXES,), math.log(MAX_SCALE)))

    def forward(self, logits: tuple[Tensor, Tensor, Tensor], tokens: Tensor) -> Matched:
        """1D heatmap logits and prompt tokens (B, 3, 77) int64 to matched features."""
        batch = tokens.shape[0]
        ends = tokens.argmax(dim=-1)  # the end-of-text token has the largest id
        used = tokens[..., : int(ends.max()) + 1]  # what follows the last end of text cannot reach it
        features = self.tower(used.flatten(0, 1)).view(batch, N_AXES, used.shape[-1], TOWER_WIDTH)
        text = [
            project(encoder(features[:, axis], ends[:, axis]))
            for axis, (encoder, project) in enumerate(zip(self.axis_encoders, self.text_projections, strict=True))
        ]
        pose = [
            project(axis_logits.flatten(1)) for axis_logits, project in zip(logits, self.pose_projections, strict=True)
        ]
        return Matched(_unit(pose), _unit(text))

    def scales(self) -> Tensor:
        """(3,) temperatures tau."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Bring tau back into [1, 100]; called after each optimiser step, so that no gradient is lost at a bound."""
        self.log_scale.clamp_(0.0, math.log(MAX_SCALE))


def _unit(features: list[Tensor]) -> Tensor:
    return functional.normalize(torch.stack(features).float(), dim=-1)


class ClipHand(nn.Module):
    """Hand model and the branches that only training needs; `hand` is all that is deployed."""

    def __init__(self, hand: HandModel, text: TextBranch | None, dense: DenseBranch | None = None) -> None:
        super().__init__()
        self.hand = hand
        self.text = text
        self.dense = dense
