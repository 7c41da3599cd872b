"""The folded network with gradients: what is exported, computed from weights that are still being trained.

`export.graph.fold` folds once and for all; here every constant is a function of the live weights, so that a loss on the
folded network, with its products quantised as in the exported graph, trains the network that was folded. Running
statistics are those of the export: BatchNorm is in evaluation mode.
"""

import copy
from typing import TypeVar, cast

import torch
from timm.models import reparameterize_model
from torch import Tensor, nn

from cliphand.model.hand_model import HandModel
from cliphand.model.heatmap import JointFeature
from cliphand.model.image_encoder import ImageEncoder
from cliphand.model.joint_regressor import JointRegressor
from export.graph.fold import fold_gaussians, fold_lixels, fold_mesh_regressor
from export.graph.folded_model import Affine, FoldedHand, FoldedHeatmap, FoldedJointRegressor

Layer = TypeVar("Layer", bound=nn.Module)
# What timm calls to merge the branches of a block that exist only for training.
MERGES = ("reparameterize", "switch_to_deploy", "fuse")


def merged_encoder(encoder: ImageEncoder) -> ImageEncoder | None:
    """The encoder as it is exported where its blocks merge branches, frozen; None where it is exported as it is.

    Merged branches cannot be told apart again, so such an encoder is not trained.
    """
    if not any(hasattr(module, name) for module in encoder.modules() for name in MERGES):
        return None
    merged = reparameterize_model(copy.deepcopy(encoder).eval(), inplace=True)
    return cast("ImageEncoder", merged.requires_grad_(False))


def trainable_fold(model: HandModel, encoder: ImageEncoder | None = None) -> FoldedHand:
    """The folded form of a model in evaluation mode; its values change with the model's weights only when made anew.

    Args:
        model: whose weights the loss on the result trains.
        encoder: in the place of the model's own, see `merged_encoder`.
    """
    return FoldedHand(
        encoder or model.encoder,
        _joint_regressor(model.joint_regressor),
        _heatmap(model.joint_feature),
        fold_mesh_regressor(model.mesh_regressor, model.joint_feature),
    )


def _joint_regressor(module: JointRegressor) -> FoldedJointRegressor:
    linear = module.depth_expand
    scale, shift = _scale_and_shift(module.depth_norm)
    depth = Affine((linear.weight * scale.unsqueeze(1)).T, linear.bias * scale + shift)
    upsample = []
    for conv, norm in zip(module.upsample[0::3], module.upsample[1::3], strict=True):
        scale, shift = _scale_and_shift(cast("nn.BatchNorm2d", norm))
        upsample.append((cast("Tensor", conv.weight) * scale.view(1, -1, 1, 1), shift))
    return fold_lixels(module, upsample, depth)


def _heatmap(module: JointFeature) -> FoldedHeatmap:
    scale, _ = _scale_and_shift(module.norm)
    weight = module.heatmap_conv.weight * scale.view(-1, 1, 1, 1, 1)
    refine, refine_norm, _ = cast("tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]", module.refine)
    return FoldedHeatmap(
        _convolution(module.shallow_conv, module.norm),
        weight.permute(1, 2, 4, 0, 3).flatten(2),
        fold_gaussians(module.heatmap_conv),
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
    bias = shift if conv.bias is None else conv.bias * scale + shift
    return _with(conv, conv.weight * scale.view(-1, 1, 1, 1), bias)


def _with(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """A layer of the same kind whose weight and bias are functions of trained ones."""
    twin = copy.copy(layer)
    twin._parameters = {}  # a plain tensor cannot take a parameter's place
    twin.weight, twin.bias = weight, bias
    return twin
