"""Backbones by name."""

import pytest
import torch

from cliphand.errors import InputError
from cliphand.model.image_encoder import ImageEncoder


def test_resnet_f0_is_the_pooled_stem() -> None:
    encoder = ImageEncoder("resnet18").eval()
    for module in encoder.modules():  # timm starts each block as the identity, which would hide a wrong place
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    images = torch.randn(1, 3, 64, 64)
    body = dict(encoder.backbone.named_children())
    stem = body["maxpool"](body["act1"](body["bn1"](body["conv1"](images))))
    pyramid = encoder(images)
    assert torch.equal(pyramid.shallow, stem)
    assert torch.equal(pyramid.maps[0], body["layer1"](stem))


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small", "convnextv2_atto", "repvit_m1_0"])
def test_channels_are_read_from_any_backbone(name: str) -> None:
    encoder = ImageEncoder(name).eval()
    pyramid = encoder(torch.zeros(1, 3, 96, 96))
    assert pyramid.shallow.shape == (1, encoder.shallow_channels, 24, 24)
    assert [tuple(m.shape) for m in pyramid.maps] == [
        (1, channels, side, side) for channels, side in zip(encoder.channels, (24, 12, 6, 3), strict=True)
    ]


def test_an_unknown_backbone_is_refused_with_close_names() -> None:
    with pytest.raises(InputError, match=r"'resnet51' is not a timm model; close names: .*resnet"):
        ImageEncoder("resnet51")


def test_a_backbone_without_the_four_strides_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs 4, 8, 16 and 32|cannot give feature maps"):
        ImageEncoder("vit_tiny_patch16_224")


def test_imagenet_weights_that_cannot_be_had_stop_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(InputError, match=r"cannot be had .*no route to host.*--backbone-weights none"):
        ImageEncoder("resnet18", imagenet_weights=True)
