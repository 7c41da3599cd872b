"""Every choice that shapes a model, a crop or a training run, as frozen values with their ranges.

Source of the defaults: the paper, sections 3 and 4.2.
"""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval, Len, MultipleOf

from cliphand.checked import Count, Seed, Share, Weight, checked
from cliphand.errors import InputError

Side = Annotated[int, MultipleOf(32), Interval(ge=32, le=4096)]  # the coarsest pyramid map has stride 32
Width = Annotated[int, Interval(ge=1, le=16_384)]
Heads = Annotated[int, Interval(ge=1, le=128)]
Blocks = Annotated[int, Interval(ge=0, le=64)]
Mean = Annotated[float, Interval(ge=-10, le=10)]
Deviation = Annotated[float, Interval(ge=0.001, le=10)]
TOWER_WIDTH = 512  # of CLIP ViT-B/32's text tower
Name = Annotated[str, Len(1, 4096)]
Reduction = Literal["mean", "sum"]


def require(condition: bool, sentence: str) -> None:
    """Raise InputError with `sentence` unless `condition` holds."""
    if not condition:
        raise InputError(sentence)


@checked
class CropConfig:
    """How a photograph becomes the square that the model sees.

    Attributes:
        rule: `whole` the largest centred square; `centre` a fixed centred box; `mask` a box around the hand's
            mask; `joints` a box around the ground-truth joints (an upper bound: needs labels).
        side_px: side of the `centre` box in source pixels. FreiHAND's hands span 73 to 88 of its 224 px, in the
            middle; the default is the box of the released weights' import and of MobRecon, and needs neither the masks
            nor the labels that a photograph to be judged lacks.
        margin: side of the `mask` and `joints` box over the longer side of what it holds.
        mean: subtracted from RGB in [0, 1].
        std: divides after that.
        second_look: a photograph is cut twice: the joints of the first look turn the second until bone 0-9 points up.
            Costs a second call of the network; a model that was trained on nearly upright hands is better for it.
    """

    rule: Literal["whole", "centre", "mask", "joints"] = "centre"
    side_px: Annotated[float, Interval(ge=1, le=100_000)] = 130.0
    margin: Annotated[float, Interval(ge=1, le=10)] = 1.5
    mean: tuple[Mean, Mean, Mean] = (0.5, 0.5, 0.5)
    std: tuple[Deviation, Deviation, Deviation] = (0.5, 0.5, 0.5)
    second_look: bool = False


@checked
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

    backbone: Name = "resnet50"
    input_size: Side = 256
    lixel_channels: Width = 256
    depth_bins: Annotated[int, Interval(ge=2, le=1024)] = 64
    bin_position: Literal["centre", "edge", "index"] = "centre"
    depth_range: Annotated[float, Interval(ge=0.01, le=100)] = 5.0
    depth_origin: Share = 0.5
    heatmap_sigma: Annotated[float, Interval(ge=0.1, le=100)] = 2.5
    joint_feature: Width = 512
    levels: Annotated[tuple[Annotated[int, Interval(ge=1, le=778)], ...], Len(4, 4)] = (98, 195, 389, 778)
    feature_sizes: Annotated[tuple[Annotated[int, Interval(ge=4, le=16_384)], ...], Len(4, 4)] = (256, 128, 64, 32)
    depths: Annotated[tuple[Blocks, ...], Len(4, 4)] = (2, 2, 2, 2)
    heads: Annotated[tuple[Heads, ...], Len(4, 4)] = (8, 8, 8, 8)
    attention: Literal["nodes", "single_token"] = "nodes"
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    pyramid: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        require(self.levels[-1] == 778, f"the last of levels is {self.levels[-1]}; the mesh has 778 vertices.")
        require(list(self.levels) == sorted(set(self.levels)), f"levels are {self.levels}; they must increase.")
        for feature, heads in zip(self.feature_sizes, self.heads, strict=True):
            require(
                feature % heads == 0,
                f"heads are {self.heads}; a level has {feature} features, which must be a multiple of its heads.",
            )


@checked
class TextConfig:
    """The text branch, which only training needs (sections 3.1 to 3.3).

    Attributes:
        tower: `openai` (downloads CLIP ViT-B/32), `random`, or a path to a safetensors file of that tower.
        joints: how many of the 21 joints a prompt names.
        common_size: length of the space in which text and pose features meet.
        layers: Transformer layers of each axis encoder Phi.
        heads: attention heads of each axis encoder.
    """

    tower: Name = "openai"
    joints: Annotated[int, Interval(ge=2, le=21)] = 21
    common_size: Width = 256
    layers: Annotated[int, Interval(ge=1, le=64)] = 1
    heads: Heads = 8

    def __post_init__(self) -> None:
        require(TOWER_WIDTH % self.heads == 0, f"heads is {self.heads}; it must divide the tower's {TOWER_WIDTH}.")


@checked
class AugmentConfig:
    """Random changes of a training view, each drawn uniformly within its bound.

    Attributes:
        rotation_deg: in-plane rotation within plus and minus this; 180 is the full circle.
        scale: the crop's side is multiplied by a factor in [1 - scale, 1 + scale].
        shift: the crop's centre moves by up to this share of its side, on both axes.
        colour: brightness, contrast and per-channel gain vary within 1 plus and minus this.
        blur_px: largest Gaussian blur's standard deviation.
        noise: largest standard deviation of Gaussian pixel noise, in units of 255.
        difficulty: of views that are composed from rendered layers: 0 puts hands in soft light before plain walls,
            1 uses all there is. Photographs do not change with it.
        upright: hands are turned until bone 0-9 points up, and rotated from there; needs joints.
        level_share: of the views, which stay within `level_deg` of where they would be without rotation; the others
            use the whole of `rotation_deg`. A model that looks twice sees such hands at its second look.
        level_deg: their bound.
        curriculum: share of a run over which rotation and difficulty grow from nothing to their bounds. An encoder that
            starts from random weights learns upright hands first several times sooner.
    """

    rotation_deg: Annotated[float, Interval(ge=0, le=180)] = 180.0
    scale: Annotated[float, Interval(ge=0, le=0.9)] = 0.2
    shift: Share = 0.08
    colour: Share = 0.3
    blur_px: Annotated[float, Interval(ge=0, le=50)] = 1.5
    noise: Share = 0.03
    difficulty: Share = 1.0
    upright: bool = False
    level_share: Share = 0.0
    level_deg: Annotated[float, Interval(ge=0, le=180)] = 30.0
    curriculum: Share = 0.0


@checked
class LossConfig:
    """Weights of the sum in section 3.5; zero leaves a term out.

    Attributes:
        heatmaps: of the 1D heatmaps' cross entropy, which the paper does not have: an encoder that starts from random
            weights finds the joints several times sooner with it.
        heatmaps_2d: of the joints' 2D heatmaps, which a dense branch reads from the pyramid while training; not in the
            paper.
        surface: of that branch's other maps: which part of the hand each cell shows, and how deep. Only rendered hands
            in layers say that; not in the paper.
    """

    joints: Weight = 1.0
    vertices: Weight = 1.0
    normals: Weight = 0.05
    edges: Weight = 0.05
    consistency_2d: Weight = 0.1
    consistency_3d: Weight = 0.1
    clip: Weight = 0.1
    heatmaps: Weight = 0.0
    heatmaps_2d: Weight = 0.0
    surface: Weight = 0.0

    @property
    def dense(self) -> bool:
        """Whether a term needs the dense branch."""
        return self.heatmaps_2d > 0 or self.surface > 0


@checked
class TrainConfig:
    """A training run; defaults are the paper's (section 4.2).

    Attributes:
        stage: `joints` trains encoder and joint regressor alone (stage 1), `mesh` everything (stage 2).
        repeats: passes over the data in one epoch; more than one saves time on small data sets, because an epoch ends
            with a validation and a checkpoint.
        reduction: of the paper's loss terms over a sample's points and coordinates. The paper's equations 4 to 7 `sum`;
            the gradient of 778 vertices then drowns that of 21 joints, and every step is clipped: the joints that
            stage 1 found are lost. The `mean` weighs both alike; its contrastive term is the mean of both directions.
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
    epochs: Count = 200
    repeats: Count = 1
    batch: Annotated[int, Interval(ge=1, le=16_384)] = 48
    learning_rate: Annotated[float, Interval(gt=0, le=1)] = 1e-3
    weight_decay: Annotated[float, Interval(ge=0, le=10)] = 0.01
    reduction: Reduction = "mean"
    schedule: Literal["step", "cosine"] = "step"
    step_epochs: Count = 50
    step_factor: Annotated[float, Interval(gt=0, le=1)] = 0.25
    gradient_clip: Weight = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Interval(ge=1, le=1024)] = 1
    workers: Annotated[int, Interval(ge=0, le=256)] = 2
    seed: Seed = 0
    validation_fraction: Annotated[float, Interval(ge=0, lt=1)] = 0.02
    backbone_weights: Literal["imagenet", "none"] = "imagenet"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    text: TextConfig = field(default_factory=TextConfig)
