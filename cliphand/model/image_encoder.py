"""Image to a shallow map and a four-level feature pyramid, by any timm backbone.

Source: paper section 3.2 (visual encoder).
"""

from typing import NamedTuple, cast

import timm
import torch
from timm.models import FeatureInfo, FeatureListNet
from torch import Tensor, nn

from cliphand.errors import InputError

STRIDES = (4, 8, 16, 32)


class Pyramid(NamedTuple):
    """Feature maps of a batch, side S / stride each.

    Attributes:
        shallow: F0 (B, C0, S/4, S/4), what enters the first stage of stride 4: a ResNet's max-pooled stem.
        maps: F1 to F4 at strides 4, 8, 16 and 32.
    """

    shallow: Tensor
    maps: tuple[Tensor, Tensor, Tensor, Tensor]


class ImageEncoder(nn.Module):
    """A timm backbone read at strides 4, 8, 16 and 32.

    Attributes:
        shallow_channels: channels of F0.
        channels: channels of F1 to F4.

    Raises:
        InputError: timm does not know the name, the backbone lacks one of the strides, or its ImageNet weights
            were asked for and cannot be had.
    """

    def __init__(self, name: str, *, imagenet_weights: bool = False) -> None:
        super().__init__()
        self.backbone = _backbone(name, imagenet_weights=imagenet_weights)
        reductions = cast("FeatureInfo", self.backbone.feature_info).reduction()
        if not set(STRIDES) <= set(reductions):
            raise InputError(
                f"backbone '{name}' has feature maps at strides {reductions}; it needs 4, 8, 16 and 32 "
                "(resnet50 and most convolutional timm models have them)."
            )
        # The last map of a stride is the richest where a backbone reports a stride twice.
        self._taken = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
        with torch.no_grad():
            pyramid = self.eval()(torch.zeros(1, 3, 64, 64))
        self.train()
        self.shallow_channels: int = pyramid.shallow.shape[1]
        self.channels: tuple[int, ...] = tuple(m.shape[1] for m in pyramid.maps)

    def forward(self, images: Tensor) -> Pyramid:
        """(B, 3, S, S) normalised images to their pyramid."""
        outputs, entering = self._run(images)
        maps = tuple(outputs[index] for index in self._taken)
        side = maps[0].shape[-1]
        shallow = entering if entering is not None and entering.shape[-1] == side else maps[0]
        return Pyramid(shallow, cast("tuple[Tensor, Tensor, Tensor, Tensor]", maps))

    def _run(self, images: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """All feature maps, and the tensor that entered the first taken stage (None where timm hides it)."""
        if not isinstance(self.backbone, FeatureListNet):
            return list(self.backbone(images)), None
        outputs: list[Tensor] = []
        entering = images
        x = images
        for name, module in self.backbone.items():
            before, x = x, module(x)
            if name in self.backbone.return_layers:
                if len(outputs) == self._taken[0]:
                    entering = before
                outputs.append(x)
        return outputs, entering


def _backbone(name: str, *, imagenet_weights: bool) -> nn.Module:
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('_')[0][:6]}*")[:5])
        raise InputError(f"backbone '{name}' is not a timm model; close names: {close or 'none'}.")
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=imagenet_weights, features_only=True)
    except Exception as error:
        if not imagenet_weights:
            raise InputError(f"backbone '{name}' cannot give feature maps ({error}).") from error
        raise InputError(
            f"ImageNet weights of '{name}' cannot be had ({type(error).__name__}: {_first_line(error)}); run once "
            "with access to the Hugging Face hub so that they are cached, or ask for --backbone-weights none."
        ) from error
    return backbone


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")
