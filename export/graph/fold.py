"""Exact rewrites of a deployed network before its export: the same function, less to compute for each image.

Every constant is computed in float64 and stored in float32. What is folded:

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
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from timm.models import reparameterize_model
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_eval

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
from export.graph.subpixel import PhaseHead, SubpixelUpsampling, even_first

# Where padding lies, in standard deviations times root 2 from the grid's first cell: exp(-FAR^2) is zero in float32,
# and FAR^2 stays well inside float16's range.
FAR = 100.0


def fold(model: HandModel) -> FoldedHand:
    """The folded form of a deployed model, which itself is left as it is.

    Args:
        model: from `export.graph.deploy_model`, in evaluation mode.
    """
    exact = copy.deepcopy(model).double().requires_grad_(False)
    folded = FoldedHand(
        cast("ImageEncoder", reparameterize_model(exact.encoder, inplace=True)),
        _joint_regressor(exact.joint_regressor),
        _heatmap(exact.joint_feature),
        fold_mesh_regressor(exact.mesh_regressor, exact.joint_feature),
    )
    return folded.float().eval().requires_grad_(False)


def _joint_regressor(module: JointRegressor) -> FoldedJointRegressor:
    layers = []
    for conv, norm, _ in zip(*(module.upsample[place::3] for place in range(3)), strict=True):
        pair = cast("tuple[nn.ConvTranspose2d, nn.BatchNorm2d]", (conv, norm))
        fused = fuse_conv_bn_eval(*pair, transpose=True)
        layers.append((fused.weight, cast("Tensor", fused.bias)))
    return fold_lixels(module, layers, _affine(fuse_linear_bn_eval(module.depth_expand, module.depth_norm)))


def fold_lixels(
    module: JointRegressor, upsample: Sequence[tuple[Tensor, Tensor]], depth: Affine
) -> FoldedJointRegressor:
    """The joint regressor, given weight and bias of its transposed convolutions and its depth without BatchNorm."""
    # Expected values are linear in the positions, so the depth's span is theirs.
    positions_d = (module.positions_z - module.depth_origin) * module.depth_range
    x, y = (
        PhaseHead(head.weight, cast("Tensor", head.bias), axis=axis)
        for head, axis in ((module.head_x, 1), (module.head_y, 0))
    )
    return FoldedJointRegressor(
        [SubpixelUpsampling(weight, bias) for weight, bias in upsample],
        (x, y, module.head_z),
        depth,
        (even_first(module.positions_xy), positions_d),
    )


def _heatmap(module: JointFeature) -> FoldedHeatmap:
    # Both convolutions end in one BatchNorm: its scale goes to both, its shift to the one that has a bias.
    conv, norm = module.heatmap_conv, module.norm
    shallow = fuse_conv_bn_eval(module.shallow_conv, norm)
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    weight, _ = fuse_conv_bn_weights(conv.weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
    depth_weight = weight.permute(1, 2, 4, 0, 3).flatten(2)  # (21, bins, kx * out * ky)
    refine, refine_norm, _ = cast("tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]", module.refine)
    return FoldedHeatmap(shallow, depth_weight, fold_gaussians(conv), fuse_conv_bn_eval(refine, refine_norm))


def fold_gaussians(conv: SeparableHeatmapConv) -> tuple[Gaussian, Gaussian, Gaussian]:
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


def fold_mesh_regressor(module: MeshRegressor, feature: JointFeature) -> FoldedMeshRegressor:
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
