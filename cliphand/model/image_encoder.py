"""Image to a shallow map and a four-level feature pyramid, by any timm backbone.

Source: paper section 3.2 (visual encoder).
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import timm
import torch
from timm.models import FeatureInfo, FeatureListNet
from torch import Tensor, nn

from cliphand.errors import InputError
from cliphand.model import backbones as backbones  # registers this project's with timm

STRIDES = (4, 8, 16, 32)
CHANNELS_FIRST = "NCHW"  # timm's name for this layout of its feature maps


Maps = tuple[Tensor, Tensor, Tensor, Tensor]


class Pyramid(NamedTuple):
    """Feature maps of a batch, side S / stride each.

    Attributes:
        shallow: F0 (B, C0, S/4, S/4), what enters the first stage of stride 4: a ResNet's max-pooled stem.
        maps: F1 to F4 at strides 4, 8, 16 and 32.
    """

    shallow: Tensor
    maps: Maps


class ImageEncoder(nn.Module):
    """A timm backbone read at strides 4, 8, 16 and 32, channels first whatever its own layout.

    Args:
        name: a timm model.
        input_size: side S of the images; backbones with windows or positional encodings are built for it.
        imagenet_weights: start from ImageNet weights (a download by timm).

    Attributes:
        shallow_channels: channels of F0.
        channels: channels of F1 to F4.

    Raises:
        InputError: timm does not know the name, the backbone lacks one of the strides or does not take images of this
            size, or its ImageNet weights were asked for and cannot be had.
    """

    def __init__(self, name: str, *, input_size: int, imagenet_weights: bool = False) -> None:
        super().__init__()
        self.backbone = _backbone(name, input_size=input_size, imagenet_weights=imagenet_weights)
        info = cast("FeatureInfo", self.backbone.feature_info)
        reductions = info.reduction()
        if not set(STRIDES) <= set(reductions):
            raise InputError(
                f"backbone '{name}' has feature maps at strides {reductions}; it needs 4, 8, 16 and 32 "
                "(resnet50 and most convolutional timm models have them)."
            )
        # The last map of a stride is the richest where a backbone reports a stride twice.
        self._taken = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
        self._channels_last = getattr(self.backbone, "output_fmt", CHANNELS_FIRST) != CHANNELS_FIRST
        self.channels: tuple[int, ...] = tuple(info.channels()[index] for index in self._taken)
        self.shallow_channels = _shallow_channels(self, name, input_size)

    def forward(self, images: Tensor) -> Pyramid:
        """(B, 3, S, S) normalised images to their pyramid."""
        outputs, entering = self._run(images)
        maps = tuple(self._channels_first(outputs[index]) for index in self._taken)
        shallow = maps[0]
        if entering is not None and self._channels_first(entering).shape[2:] == shallow.shape[2:]:
            shallow = self._channels_first(entering)
        return Pyramid(shallow, cast("Maps", maps))

    def _channels_first(self, features: Tensor) -> Tensor:
        return features.permute(0, 3, 1, 2) if self._channels_last and features.dim() == 4 else features

    def _run(self, images: Tensor) -> tuple[Sequence[Tensor], Tensor | None]:
        """All feature maps, and the tensor that entered the first taken stage (None where timm hides it)."""
        if not isinstance(self.backbone, FeatureListNet):
            return self.backbone(images), None
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


@torch.no_grad()
def _shallow_channels(encoder: ImageEncoder, name: str, input_size: int) -> int:
    """Channels of F0, after a look at what the backbone makes of an image of this size."""
    try:
        pyramid = encoder.eval()(torch.zeros(1, 3, input_size, input_size))
    except Exception as error:
        raise InputError(
            f"{_refused(name, input_size)} ({_reason(error)}); choose another backbone or --input-size."
        ) from error
    encoder.train()
    found = [tuple(features.shape[1:]) for features in pyramid.maps]
    sides = (input_size // stride for stride in STRIDES)
    wanted = [(channels, side, side) for channels, side in zip(encoder.channels, sides, strict=True)]
    if found != wanted:
        raise InputError(
            f"{_refused(name, input_size)}: its maps are {found}, not {wanted}; choose another backbone or "
            "--input-size."
        )
    return pyramid.shallow.shape[1]


def _backbone(name: str, *, input_size: int, imagenet_weights: bool) -> nn.Module:
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('_')[0][:6]}*")[:5])
        raise InputError(f"backbone '{name}' is not a timm model; close names: {close or 'none'}.")
    try:
        return _created(name, input_size=input_size, imagenet_weights=imagenet_weights)
    except Exception as error:
        if not imagenet_weights:
            raise InputError(
                f"{_refused(name, input_size, 'give feature maps of')} ({_reason(error)}); choose another "
                "backbone or --input-size."
            ) from error
        raise InputError(
            f"ImageNet weights of '{name}' cannot be had ({_reason(error)}); run once with access to the Hugging Face "
            "hub so that they are cached, or ask for --backbone-weights none."
        ) from error


def _created(name: str, *, input_size: int, imagenet_weights: bool) -> nn.Module:
    """The backbone built for its image size, where it is one that is built for a size."""
    try:
        return timm.create_model(name, pretrained=imagenet_weights, features_only=True, img_size=input_size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    return timm.create_model(name, pretrained=imagenet_weights, features_only=True)


def _refused(name: str, input_size: int, verb: str = "read") -> str:
    return f"backbone '{name}' cannot {verb} images of {input_size} px"


def _reason(error: Exception) -> str:
    """Kind and first line of an error that timm raises, some of which say nothing."""
    return ": ".join(part for part in (type(error).__name__, _first_line(error)) if part)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".")
