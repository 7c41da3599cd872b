"""Backbones by name."""

import dataclasses
import functools
from pathlib import Path

import pytest
import timm
import torch
from small_hand import CONFIG, small_hand

from cliphand.errors import InputError
from cliphand.model.image_encoder import ImageEncoder
from export.graph.trace import export_graph

# Swin's parts, shifted windows among them, with few blocks and channels.
SMALL_SWIN: dict[str, object] = {"embed_dim": 24, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 2, 2)}


def test_resnet_f0_is_the_pooled_stem() -> None:
    encoder = ImageEncoder("resnet18", input_size=64).eval()
    for module in encoder.modules():  # timm starts each block as the identity, which would hide a wrong place
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    images = torch.randn(1, 3, 64, 64)
    body = dict(encoder.backbone.named_children())
    stem = body["maxpool"](body["act1"](body["bn1"](body["conv1"](images))))
    pyramid = encoder(images)
    assert torch.equal(pyramid.shallow, stem)
    assert torch.equal(pyramid.maps[0], body["layer1"](stem))


# One of each kind that timm has: convolutions, windows, mask units, channels last, encodings of a fixed size.
FAMILIES = (
    *("resnet18", "mobilenetv4_conv_small", "convnextv2_atto", "repvit_m1_0"),
    *("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "hiera_tiny_224"),
    *("efficientformerv2_s0", "test_mambaout", "gcvit_xxtiny", "coat_tiny"),
)


@pytest.mark.parametrize("name", FAMILIES)
def test_any_backbone_gives_maps_of_its_channels_at_the_four_strides(name: str) -> None:
    encoder = ImageEncoder(name, input_size=128).eval()
    pyramid = encoder(torch.zeros(1, 3, 128, 128))
    assert pyramid.shallow.shape == (1, encoder.shallow_channels, 32, 32)
    assert [tuple(m.shape) for m in pyramid.maps] == [
        (1, channels, side, side) for channels, side in zip(encoder.channels, (32, 16, 8, 4), strict=True)
    ]
    assert list(encoder.channels) == sorted(encoder.channels)


def test_a_channels_last_backbone_is_turned_not_reshaped() -> None:
    encoder = ImageEncoder("test_mambaout", input_size=64).eval()
    images = torch.randn(1, 3, 64, 64)
    stem = dict(encoder.backbone.named_children())["stem"](images)
    for found, channels_last in zip(encoder(images).maps, encoder.backbone(images), strict=True):
        assert torch.equal(found, channels_last.permute(0, 3, 1, 2))
    assert torch.equal(encoder(images).shallow, stem.permute(0, 3, 1, 2))


def test_a_backbone_of_shifted_windows_is_exported_for_any_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("timm.create_model", functools.partial(timm.create_model, **SMALL_SWIN))
    model = small_hand(dataclasses.replace(CONFIG, backbone="swin_tiny_patch4_window7_224"))
    agreement = export_graph(model, tmp_path / "model.onnx", input_size=CONFIG.input_size)
    assert agreement.max_difference_relative < 1e-5
    assert agreement.max_neighbour_effect < 1e-5


def test_a_backbone_that_cannot_take_the_size_is_refused_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^backbone 'halonet26t' cannot read images of 64 px \(.*\); choose another"):
        ImageEncoder("halonet26t", input_size=64)


def test_maps_that_are_not_what_timm_says_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def mislabelled(name: str, *, pretrained: bool, features_only: bool) -> torch.nn.Module:
        backbone = create(name, pretrained=pretrained, features_only=features_only)
        backbone.output_fmt = "NCHW"
        return backbone

    monkeypatch.setattr("timm.create_model", mislabelled)
    with pytest.raises(InputError, match=r"its maps are \[\(16, 16, 16\), \(8, 8, 32\).*; choose another"):
        ImageEncoder("test_mambaout", input_size=64)


def test_an_unknown_backbone_is_refused_with_close_names() -> None:
    with pytest.raises(InputError, match=r"'resnet51' is not a timm model; close names: .*resnet"):
        ImageEncoder("resnet51", input_size=64)


def test_a_backbone_without_the_four_strides_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs 4, 8, 16 and 32|cannot give feature maps"):
        ImageEncoder("vit_tiny_patch16_224", input_size=64)


def test_imagenet_weights_that_cannot_be_had_stop_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("timm.create_model", refuse)
    with pytest.raises(InputError, match=r"cannot be had .*no route to host.*--backbone-weights none"):
        ImageEncoder("resnet18", input_size=64, imagenet_weights=True)
