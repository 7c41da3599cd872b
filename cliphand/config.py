"""Every choice that shapes a model, a crop or a training run, as frozen values with one JSON form.

Source of the defaults: the paper, sections 3 and 4.2.
"""

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from cliphand.errors import InputError

Config = TypeVar("Config")
MULTIPLE = 32  # the coarsest pyramid map has stride 32


def require(condition: bool, sentence: str) -> None:
    """Raise InputError with `sentence` unless `condition` holds."""
    if not condition:
        raise InputError(sentence)


@dataclass(frozen=True, slots=True)
class CropConfig:
    """How a photograph becomes the square that the model sees.

    Attributes:
        rule: `whole` the largest centred square; `centre` a fixed centred box; `mask` a box around the hand's
            mask; `joints` a box around the ground-truth joints (an upper bound: needs labels).
        side_px: side of the `centre` box in source pixels.
        margin: side of the `mask` and `joints` box over the longer side of what it holds.
        mean: subtracted from RGB in [0, 1].
        std: divides after that.
    """

    rule: Literal["whole", "centre", "mask", "joints"] = "whole"
    side_px: float = 130.0
    margin: float = 1.5
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        require(self.side_px > 0, f"crop side_px is {self.side_px}; it must be positive.")
        require(self.margin >= 1, f"crop margin is {self.margin}; it must be at least 1.")
        require(min(self.std) > 0, f"crop std is {self.std}; every value must be positive.")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of the deployed network: encoder, joint regressor, heatmap, mesh regressor.

    Attributes:
        backbone: a timm model name with feature maps at strides 4, 8, 16 and 32.
        input_size: side of the square crop in pixels, a multiple of 32.
        lixel_channels: width of the two transposed convolutions of the joint regressor.
        depth_bins: bins of the 1D heatmap along z.
        bin_position: where a bin lies: its `centre` (i + 0.5) / n, its lower `edge` i / n, or its `index` i.
        depth_range: bones (0-9) that the depth bins span: d = (z - depth_origin) * depth_range, z in [0, 1].
        depth_origin: position of the wrist's depth in the bins' span.
        heatmap_sigma: Gaussian's standard deviation in heatmap cells.
        joint_feature: length of the hand feature of each joint.
        levels: nodes per mesh level; the last is the mesh's 778.
        feature_sizes: feature length per level.
        depths: Transformer blocks per level.
        heads: attention heads per level.
        attention: over the `nodes` of one mesh, or of a `single_token` (value and output projection only).
        activation: of the Transformer's MLP.
        pyramid: whether projected image features are added `before` or `after` the level's Transformer.
    """

    backbone: str = "resnet50"
    input_size: int = 256
    lixel_channels: int = 256
    depth_bins: int = 64
    bin_position: Literal["centre", "edge", "index"] = "centre"
    depth_range: float = 5.0
    depth_origin: float = 0.5
    heatmap_sigma: float = 2.5
    joint_feature: int = 512
    levels: tuple[int, ...] = (98, 195, 389, 778)
    feature_sizes: tuple[int, ...] = (256, 128, 64, 32)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (8, 8, 8, 8)
    attention: Literal["nodes", "single_token"] = "nodes"
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    pyramid: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        size = self.input_size
        require(
            size > 0 and size % MULTIPLE == 0, f"input_size is {size}; it must be a positive multiple of {MULTIPLE}."
        )
        lengths = {len(self.levels), len(self.feature_sizes), len(self.depths), len(self.heads)}
        require(
            lengths == {4},
            f"levels, feature_sizes, depths and heads have {sorted(lengths)} entries; each needs 4, "
            "one per pyramid map.",
        )
        require(self.levels[-1] == 778, f"the last level has {self.levels[-1]} nodes; the mesh has 778.")
        require(list(self.levels) == sorted(set(self.levels)), f"levels are {self.levels}; they must increase.")
        for feature, heads in zip(self.feature_sizes, self.heads, strict=True):
            require(
                feature > 3 and heads > 0 and feature % heads == 0,
                f"a level has {feature} features and {heads} heads; the features must be a multiple of the "
                "heads, and more than 3.",
            )


PRESETS: dict[str, ModelConfig] = {
    # For new models: one attention head for every 32 features. The paper's eight at each level make eight times as many
    # softmaxes over 778 x 778 nodes, of four features each, and no difference in accuracy that was found.
    "light": ModelConfig(heads=(8, 4, 2, 1)),
    "paper": ModelConfig(),
    # A first look on a CPU: a quarter of the pixels, half the joint regressor's width, attention where it is cheap.
    "small": ModelConfig(
        backbone="resnet18", input_size=128, lixel_channels=128, depths=(1, 1, 0, 0), heads=(8, 4, 2, 1)
    ),
}


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The text branch, which only training needs (sections 3.1 to 3.3).

    Attributes:
        tower: `openai` (downloads CLIP ViT-B/32), `random`, or a path to a safetensors file of that tower.
        joints: how many of the 21 joints a prompt names.
        common_size: length of the space in which text and pose features meet.
        layers: Transformer layers of each axis encoder Phi.
        heads: attention heads of each axis encoder.
    """

    tower: str = "openai"
    joints: int = 21
    common_size: int = 256
    layers: int = 1
    heads: int = 8

    def __post_init__(self) -> None:
        require(2 <= self.joints <= 21, f"prompts name {self.joints} joints; valid are 2 to 21.")
        require(self.layers >= 1, f"text layers is {self.layers}; at least 1.")


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Random changes of a training view, each drawn uniformly within its bound.

    Attributes:
        rotation_deg: in-plane rotation within plus and minus this; 180 is the full circle.
        scale: the crop's side is multiplied by a factor in [1 - scale, 1 + scale].
        shift: the crop's centre moves by up to this share of its side, on both axes.
        colour: brightness, contrast and per-channel gain vary within 1 plus and minus this.
        blur_px: largest Gaussian blur's standard deviation.
        noise: largest standard deviation of Gaussian pixel noise, in units of 255.
    """

    rotation_deg: float = 180.0
    scale: float = 0.2
    shift: float = 0.08
    colour: float = 0.3
    blur_px: float = 1.5
    noise: float = 0.03

    def __post_init__(self) -> None:
        require(0 <= self.rotation_deg <= 180, f"rotation_deg is {self.rotation_deg}; valid are 0 to 180.")
        require(0 <= self.scale < 1, f"scale is {self.scale}; valid are 0 up to, not including, 1.")
        require(min(self.shift, self.colour, self.blur_px, self.noise) >= 0, "augmentation bounds cannot be negative.")


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the sum in section 3.5; zero leaves a term out.

    Attributes:
        heatmaps: of the 1D heatmaps' cross entropy, which the paper does not have: an encoder that starts from random
            weights finds the joints several times sooner with it.
    """

    joints: float = 1.0
    vertices: float = 1.0
    normals: float = 0.05
    edges: float = 0.05
    consistency_2d: float = 0.1
    consistency_3d: float = 0.1
    clip: float = 0.1
    heatmaps: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A training run; defaults are the paper's (section 4.2).

    Attributes:
        stage: `joints` trains encoder and joint regressor alone (stage 1), `mesh` everything (stage 2).
        repeats: passes over the data in one epoch; more than one saves time on small data sets, because an epoch ends
            with a validation and a checkpoint.
        schedule: `step` multiplies the learning rate by `step_factor` every `step_epochs` epochs; `cosine` lets it rise
            over the first twentieth of the run and fall to zero over the rest.
        step_epochs: of the schedule `step`.
        precision: Lightning's name: `32-true`, `bf16-mixed` or `16-mixed`.
        accelerator: `auto` is the GPU where torch finds one; what it became is printed and recorded.
        devices: processes; more than one trains with DDP.
        backbone_weights: `imagenet` (a download by timm) or `none`.
        validation_fraction: share of unique training samples held out for validation, at least one; 0 validates on
            the training images themselves.
    """

    stage: Literal["joints", "mesh"] = "mesh"
    epochs: int = 200
    repeats: int = 1
    batch: int = 48
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["step", "cosine"] = "step"
    step_epochs: int = 50
    step_factor: float = 0.25
    gradient_clip: float = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    workers: int = 2
    seed: int = 0
    validation_fraction: float = 0.02
    backbone_weights: Literal["imagenet", "none"] = "imagenet"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    text: TextConfig = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "repeats", "batch", "step_epochs", "devices"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
        require(self.learning_rate > 0, f"learning_rate is {self.learning_rate}; it must be positive.")
        require(self.workers >= 0, f"workers is {self.workers}; it cannot be negative.")
        require(
            0 <= self.validation_fraction < 1,
            f"validation_fraction is {self.validation_fraction}; valid are 0 up to, not including, 1.",
        )


def to_json(config: object) -> dict[str, object]:
    """The JSON form of a config: a dict of plain values."""
    return dataclasses.asdict(config)  # type: ignore[call-overload,no-any-return]


def from_json(kind: type[Config], value: object, *, source: str) -> Config:
    """Rebuild a config of class `kind` from its JSON form.

    Raises:
        InputError: an unknown or missing key, a value of the wrong type or out of range; `source` is named.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{source}: {kind.__name__} must be a JSON object, not {type(value).__name__}.")
    hints = get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(value) - set(known))
    require(not unknown, f"{source}: {kind.__name__} has no key {unknown}; valid keys are {sorted(known)}.")
    arguments = {name: _typed(hints[name], item, f"{source}: {name}") for name, item in value.items()}
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InputError(f"{source}: {kind.__name__} cannot be built ({error}).") from None


def _typed(hint: object, value: object, where: str) -> object:
    """`value` as the annotated type `hint`, or InputError."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_json(hint, value, source=where)
    origin = get_origin(hint)
    if origin is Literal:
        require(value in get_args(hint), f"{where} is {value!r}; valid are {list(get_args(hint))}.")
        return value
    if origin in (Union, types.UnionType):
        return None if value is None else _typed(get_args(hint)[0], value, where)
    if origin is tuple:
        require(isinstance(value, list | tuple), f"{where} is {value!r}; it must be a list.")
        items = cast("list[object]", value)
        kinds = get_args(hint)
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(items)
        require(len(items) == len(kinds), f"{where} has {len(items)} entries; it needs {len(kinds)}.")
        return tuple(_typed(kind, item, where) for kind, item in zip(kinds, items, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    require(
        isinstance(hint, type) and isinstance(value, hint) and not (hint is not bool and isinstance(value, bool)),
        f"{where} is {value!r}; it must be of type {getattr(hint, '__name__', hint)}.",
    )
    return value
