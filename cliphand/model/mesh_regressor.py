"""Coarse-to-fine mesh regressor: 21 joints to 778 vertices in four levels.

Source: paper section 3.4. Each level up-samples the nodes by a linear map, shrinks the features by another, appends the
template's vertices as positional encoding, adds image features projected at the joints, and lets the nodes attend to
each other.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cliphand.config import ModelConfig
from cliphand.hand import N_JOINTS
from cliphand.model.precision import in_float32
from cliphand.model.projection import sample_at

MLP_RATIO = 4


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


class NodeAttention(nn.Module):
    """Multi-head self-attention among the nodes of one mesh, (B, nodes, size) batch first."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, nodes, size) to the same shape."""
        packed = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))  # (B, nodes, 3, heads, size / heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, nodes, size / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SingleTokenAttention(nn.Module):
    """Attention of a token to itself alone: the softmax over one entry is 1, which leaves value and output."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.value = nn.Linear(size, size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, nodes, size) to the same shape; nodes do not mix."""
        return self.out(self.value(x))


ATTENTIONS: dict[str, type[NodeAttention | SingleTokenAttention]] = {
    "nodes": NodeAttention,
    "single_token": SingleTokenAttention,
}


class TransformerBlock(nn.Module):
    """Pre-norm block: LayerNorm, attention, LayerNorm, MLP, each added to its input."""

    def __init__(self, size: int, heads: int, *, attention: str, activation: str) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size)
        self.attention = ATTENTIONS[attention](size, heads)
        self.mlp_norm = nn.LayerNorm(size)
        self.mlp = nn.Sequential(
            nn.Linear(size, MLP_RATIO * size), ACTIVATIONS[activation](), nn.Linear(MLP_RATIO * size, size)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, nodes, size) to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class NodeLinear(nn.Linear):
    """A linear map over nodes: (B, in, F) to (B, out, F)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, F) to (B, out, F)."""
        return torch.matmul(self.weight, x) + self.bias.unsqueeze(-1)


class MeshLevel(nn.Module):
    """One step from coarse to fine.

    Args:
        config: the model's config.
        level: index of this level, 0 the coarsest.
        in_nodes: nodes of the level before.
        in_features: feature length of the level before.
        map_channels: channels of the pyramid map projected here.
        template: (nodes, 3) positional encoding.
    """

    template: Tensor

    def __init__(
        self, config: ModelConfig, level: int, *, in_nodes: int, in_features: int, map_channels: int, template: Tensor
    ) -> None:
        super().__init__()
        nodes, features = config.levels[level], config.feature_sizes[level]
        self.pyramid_first = config.pyramid == "before"
        self.nodes_up = NodeLinear(in_nodes, nodes)
        self.features_down = nn.Linear(in_features, features - template.shape[1])
        self.register_buffer("template", template.float())
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(
                    features, config.heads[level], attention=config.attention, activation=config.activation
                )
                for _ in range(config.depths[level])
            )
        )
        self.map_features = nn.Linear(map_channels, features)
        self.map_nodes = NodeLinear(N_JOINTS, nodes)

    def forward(self, x: Tensor, sampled: Tensor) -> Tensor:
        """Features (B, in_nodes, in_features) and sampled map (B, 21, C) to (B, nodes, features)."""
        # Under autocast too the nodes' features stay float32, since vertices are read off them; what the blocks add to
        # them is rounded.
        x = in_float32(self.features_down, in_float32(self.nodes_up, x))
        x = torch.cat([x, self.template.expand(x.shape[0], -1, -1).to(x.dtype)], dim=-1)
        projected = in_float32(self.map_nodes, in_float32(self.map_features, sampled))
        if self.pyramid_first:
            return self.blocks(x + projected)
        return self.blocks(x) + projected


class MeshRegressor(nn.Module):
    """Joint features and the pyramid to vertices in uvd."""

    def __init__(self, config: ModelConfig, channels: tuple[int, ...], templates: tuple[Tensor, ...]) -> None:
        super().__init__()
        in_nodes = (N_JOINTS, *config.levels[:-1])
        in_features = (config.joint_feature, *config.feature_sizes[:-1])
        self.levels = nn.ModuleList(
            MeshLevel(
                config,
                level,
                in_nodes=in_nodes[level],
                in_features=in_features[level],
                map_channels=channels[-1 - level],
                template=templates[level],
            )
            for level in range(len(config.levels))
        )
        self.out = nn.Linear(config.feature_sizes[-1], 3)
        with torch.no_grad():  # start in the middle of the crop, at the wrist's depth
            self.out.bias.copy_(torch.tensor([0.5, 0.5, 0.0]))

    def forward(self, joint_feature: Tensor, maps: tuple[Tensor, ...], joints_uvd: Tensor) -> Tensor:
        """F_J (B, 21, joint_feature), F1..F4 and joints (B, 21, 3) to vertices (B, 778, 3) uvd."""
        x = joint_feature
        for level, features in zip(self.levels, reversed(maps), strict=True):
            x = level(x, sample_at(features, joints_uvd[..., :2]))
        return in_float32(self.out, x)
