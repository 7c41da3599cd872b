"""Exact rewrites of a deployed network: the same function, less to compute for each image.

`fold` makes what is exported: every constant is computed in float64 and stored in float32. `live_fold` makes the same
with every constant a function of weights that are still being trained. What is folded:

- BatchNorm into the convolution, transposed convolution or linear map before it (the encoder's by the exporter);
- branches of an encoder's block that exist only for training into one convolution, where timm knows how (RepVGG, ...);
- a linear map into the linear map after it where nothing stands between: the flattening of a joint's map into the first
  level's features, the value into the output of single-token attention, the span of the depth into its bins;
- of node attention the scale into the query; the key's bias, which moves all scores of one query alike, so that the
  softmax drops it; the value's bias into the output's, since it is mixed by weights that sum to one;
- per level every bias, the template's coordinates and what the level before left out into one (nodes, features).
"""

import copy
import math
from collections.abc import Iterable
from typing import cast

import torch
from timm.models import reparameterize_model
from torch import Tensor, nn

from cliphand.hand import N_JOINTS
from cliphand.model.hand_model import HandModel
from cliphand.model.heatmap import KERNEL, JointFeature, SeparableHeatmapConv
from cliphand.model.image_encoder import ImageEncoder
from cliphand.model.joint_regressor import JointRegressor
from cliphand.model.mesh_regressor import (
    MeshLevel,
    MeshRegressor,
    NodeAttention,
    SingleTokenAttention,
    TransformerBlock,
)
from export.graph.folded_model import (
    Affine,
    FoldedAttention,
    FoldedBlock,
    FoldedHand,
    FoldedHeatmap,
    FoldedJointRegressor,
    FoldedLevel,
    FoldedMeshRegressor,
    Gaussian,
)
from export.graph.frozen import frozen
from export.graph.subpixel import PhaseHead, SubpixelUpsampling, even_first

# Where padding lies, in standard deviations times root 2 from the grid's first cell: exp(-FAR^2) is zero in float32,
# and FAR^2 stays well inside float16's range.
FAR = 100.0
# What timm calls to merge the branches of a block that exist only for training.
MERGES = ("reparameterize", "switch_to_deploy", "fuse")


def fold(model: HandModel) -> FoldedHand:
    """The folded form of a deployed model, which itself is left as it is.

    Args:
        model: from `export.graph.deploy_model`, in evaluation mode.
    """
    exact = copy.deepcopy(model).double().requires_grad_(False)
    merged = cast("ImageEncoder", reparameterize_model(exact.encoder, inplace=True))
    return live_fold(exact, merged).float().eval().requires_grad_(False)


def merged_encoder(encoder: ImageEncoder) -> ImageEncoder | None:
    """The encoder as it is exported where its blocks merge branches, frozen; None where it is exported as it is.

    Merged branches cannot be told apart again, so such an encoder is not trained.
    """
    if not any(hasattr(module, name) for module in encoder.modules() for name in MERGES):
        return None
    merged = reparameterize_model(copy.deepcopy(encoder).eval(), inplace=True)
    return cast("ImageEncoder", merged.requires_grad_(False))


def live_fold(model: HandModel, encoder: ImageEncoder | None = None) -> FoldedHand:
    """The folded form of a model in evaluation mode; its values change with the model's weights only when made anew.

    Args:
        model: whose weights a loss on the result trains.
        encoder: in the place of the model's own, see `merged_encoder`.
    """
    return FoldedHand(
        encoder or model.encoder,
        _joint_regressor(model.joint_regressor),
        _heatmap(model.joint_feature),
        _mesh_regressor(model.mesh_regressor, model.joint_feature),
    )


def _joint_regressor(module: JointRegressor) -> FoldedJointRegressor:
    upsample = []
    for conv, norm in zip(module.upsample[0::3], module.upsample[1::3], strict=True):
        scale, shift = _scale_and_shift(cast("nn.BatchNorm2d", norm))
        upsample.append(SubpixelUpsampling(cast("Tensor", conv.weight) * scale.view(1, -1, 1, 1), shift))
    x, y = (
        PhaseHead(head.weight, cast("Tensor", head.bias), axis=axis)
        for head, axis in ((module.head_x, 1), (module.head_y, 0))
    )
    expand, (scale, shift) = module.depth_expand, _scale_and_shift(module.depth_norm)
    # Expected values are linear in the positions, so the depth's span is theirs.
    positions_d = (module.positions_z - module.depth_origin) * module.depth_range
    return FoldedJointRegressor(
        upsample,
        (x, y, module.head_z),
        Affine((expand.weight * scale.unsqueeze(1)).T, expand.bias * scale + shift),
        (even_first(module.positions_xy), positions_d),
    )


def _heatmap(module: JointFeature) -> FoldedHeatmap:
    # Both convolutions end in one BatchNorm: its scale goes to both, its shift to the one that has a bias.
    scale, _ = _scale_and_shift(module.norm)
    weight = module.heatmap_conv.weight * scale.view(-1, 1, 1, 1, 1)
    refine, refine_norm, _ = cast("tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]", module.refine)
    return FoldedHeatmap(
        _convolution(module.shallow_conv, module.norm),
        weight.permute(1, 2, 4, 0, 3).flatten(2),  # (21, bins, kx * out * ky)
        _gaussians(module.heatmap_conv),
        _convolution(refine, refine_norm),
    )


def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A BatchNorm in evaluation mode as x * scale + shift."""
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - mean * scale


def _convolution(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution with the BatchNorm after it inside."""
    scale, shift = _scale_and_shift(norm)
    twin = copy.copy(conv)
    twin._parameters = {}  # a function of trained weights cannot take a parameter's place
    twin.weight = cast("nn.Parameter", frozen(conv.weight * scale.view(-1, 1, 1, 1)))
    twin.bias = cast("nn.Parameter", frozen(shift if conv.bias is None else conv.bias * scale + shift))
    return twin


def _gaussians(conv: SeparableHeatmapConv) -> tuple[Gaussian, Gaussian, Gaussian]:
    """Along x and y on the grid shifted by each tap of the kernel, zero outside; along z on the depth's bins."""
    unit = 1 / (conv.sigma * math.sqrt(2))  # exp(-t^2) needs cells of this width
    cells = torch.arange(conv.side) + torch.arange(KERNEL).unsqueeze(1) - KERNEL // 2  # (kernel, side)
    inside = (cells >= 0) & (cells < conv.side)
    shifted = torch.where(inside, cells.double() * unit, -FAR).flatten()
    along_z = (torch.arange(conv.depth_bins).double() - conv.depth_origin * conv.depth_bins) * unit
    return (
        Gaussian(conv.side * unit, shifted),
        Gaussian(conv.side * unit, shifted),
        Gaussian(conv.depth_bins / conv.depth_range * unit, along_z),
    )


def _mesh_regressor(module: MeshRegressor, feature: JointFeature) -> FoldedMeshRegressor:
    """The mesh regressor, with the flattening of a joint's map in its first level."""
    # A joint's map reaches the first level through a linear map: its weight joins the level's, its bias is an offset.
    before: Tensor | None = feature.flatten.weight
    offset: Tensor | None = feature.flatten.bias.expand(N_JOINTS, -1)
    levels = []
    for level in cast("Iterable[MeshLevel]", module.levels):
        folded, offset = _level(level, before, offset)
        levels.append(folded)
        before = None
    side, out = feature.heatmap_conv.side, module.out
    bias = out.bias if offset is None else offset @ out.weight.T + out.bias
    return FoldedMeshRegressor(levels, Affine(out.weight.T, bias), sides=(side // 8, side // 4, side // 2, side))


def _level(level: MeshLevel, before: Tensor | None, offset: Tensor | None) -> tuple[FoldedLevel, Tensor | None]:
    """A level whose true input is x before^T + offset; returned with the offset that its own output lacks."""
    down, up = level.features_down, level.nodes_up
    padding = (0, 0, 0, level.template.shape[1])  # features that the template fills
    weight = nn.functional.pad(down.weight, padding)  # (features, in_features)
    bias = torch.cat([down.bias.expand(up.out_features, -1), level.template], dim=1)  # (nodes, features)
    constant = torch.outer(up.bias, weight.sum(dim=1)) + bias
    if offset is not None:
        constant = constant + up.weight @ offset @ weight.T
    maps, nodes = level.map_features, level.map_nodes
    projected = torch.outer(nodes.weight.sum(dim=1), maps.bias) + nodes.bias.unsqueeze(1)
    first = level.pyramid_first
    folded = FoldedLevel(
        features=(weight if before is None else weight @ before).T,
        map_features=maps.weight.T,
        nodes=torch.cat([up.weight, nodes.weight], dim=1) if first else up.weight,
        map_nodes=None if first else nodes.weight,
        constant=constant + projected if first else constant,
        blocks=nn.Sequential(*(_block(block) for block in cast("Iterable[TransformerBlock]", level.blocks))),
    )
    return folded, None if first else projected


def _block(block: TransformerBlock) -> FoldedBlock:
    expand, activation, shrink = cast("tuple[nn.Linear, nn.Module, nn.Linear]", block.mlp)
    return FoldedBlock(
        (block.attention_norm, block.mlp_norm),
        _attention(block.attention),
        nn.Sequential(_affine(expand), activation, _affine(shrink)),
    )


def _attention(attention: NodeAttention | SingleTokenAttention) -> FoldedAttention | Affine:
    if isinstance(attention, SingleTokenAttention):
        first, second = attention.value, attention.out
        return Affine((second.weight @ first.weight).T, second.weight @ first.bias + second.bias)
    query, key, value = attention.query_key_value.weight.chunk(3)
    query_bias, _, value_bias = attention.query_key_value.bias.chunk(3)
    scale = (query.shape[0] // attention.heads) ** -0.5
    out = attention.out
    return FoldedAttention(
        Affine(query.T * scale, query_bias * scale),
        key.T,
        value.T,
        Affine(out.weight.T, out.weight @ value_bias + out.bias),
        heads=attention.heads,
    )


def _affine(linear: nn.Linear) -> Affine:
    return Affine(linear.weight.T, linear.bias)
