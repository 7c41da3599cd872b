"""`cliphand train`: photographs in FreiHAND's layout to a run folder with checkpoints."""

from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from cliphand.cli.train_options import DEFAULT_PRESET, check_options, make_run
from cliphand.config import AugmentConfig, CropConfig, LossConfig, TextConfig, TrainConfig
from cliphand.training.distil_config import DistilConfig

AUGMENT, LOSS, TEACHER = AugmentConfig(), LossConfig(), DistilConfig()
TEXT, CROP, TRAIN = TextConfig(), CropConfig(), TrainConfig()
FourLevels = tuple[int, int, int, int]


def defaults(text: str, default: object) -> OptionInfo:
    """An option whose default depends on others, so that only what was given is known; `default` is the usual one."""
    option: OptionInfo = typer.Option(help=text, show_default=str(default))
    return option


def train(
    data: Annotated[Path, typer.Option(help="Folder in FreiHAND's layout.")],
    out: Annotated[Path, typer.Option(help="Run folder to write; runs/NAME is found by `cliphand export`.")],
    config: Annotated[
        Path | None, defaults("run.json of another run, or a file with its sections; options given win.", "none")
    ] = None,
    hand: Annotated[Path | None, defaults("Topology, from `cliphand hand`.", "DATA/hand.npz")] = None,
    preset: Annotated[str | None, defaults("Sizes of the network: light, paper or small.", DEFAULT_PRESET)] = None,
    backbone: Annotated[str | None, defaults("timm model with strides 4, 8, 16, 32.", "the preset's")] = None,
    input_size: Annotated[int | None, defaults("Side of the crop in pixels, a multiple of 32.", "the preset's")] = None,
    attention: Annotated[str | None, defaults("nodes, or single_token as released.", "the preset's")] = None,
    heads: Annotated[
        FourLevels | None, defaults("Attention heads of each level, coarse first.", "the preset's")
    ] = None,
    depths: Annotated[FourLevels | None, defaults("Transformer blocks of each level.", "the preset's")] = None,
    lixel_channels: Annotated[int | None, defaults("Width of the joint regressor.", "the preset's")] = None,
    joint_feature: Annotated[int | None, defaults("Length of a joint's feature.", "the preset's")] = None,
    stage: Annotated[str | None, defaults("joints (stage 1) or mesh (stage 2).", TRAIN.stage)] = None,
    start: Annotated[Path | None, defaults("Checkpoint or run to start from, such as stage 1's.", "none")] = None,
    teacher: Annotated[Path | None, defaults("Checkpoint or run whose student this run trains.", "none")] = None,
    quantise_aware: Annotated[Path | None, defaults("Checkpoint or run to fine-tune as INT8 graph.", "none")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after OUT's last finished epoch.")] = False,
    epochs: Annotated[int | None, defaults("Each ends with a validation and a checkpoint.", TRAIN.epochs)] = None,
    repeats: Annotated[int | None, defaults("Passes over the data in one epoch.", TRAIN.repeats)] = None,
    batch: Annotated[int | None, defaults("Photographs per process and step, two views each.", TRAIN.batch)] = None,
    learning_rate: Annotated[float | None, defaults("Of AdamW.", TRAIN.learning_rate)] = None,
    weight_decay: Annotated[float | None, defaults("Of AdamW.", TRAIN.weight_decay)] = None,
    reduction: Annotated[
        str | None, defaults("Of each loss term: mean, or sum as in the paper.", TRAIN.reduction)
    ] = None,
    schedule: Annotated[str | None, defaults("Of the learning rate: step or cosine.", TRAIN.schedule)] = None,
    step_epochs: Annotated[
        int | None, defaults("Epochs between steps of the learning rate.", TRAIN.step_epochs)
    ] = None,
    step_factor: Annotated[float | None, defaults("Factor of each step.", TRAIN.step_factor)] = None,
    gradient_clip: Annotated[float | None, defaults("Largest gradient norm; 0 leaves it.", TRAIN.gradient_clip)] = None,
    precision: Annotated[str | None, defaults("32-true, bf16-mixed or 16-mixed.", TRAIN.precision)] = None,
    accelerator: Annotated[str | None, defaults("auto, cpu or cuda.", TRAIN.accelerator)] = None,
    devices: Annotated[int | None, defaults("Processes; more than one trains with DDP.", TRAIN.devices)] = None,
    workers: Annotated[int | None, defaults("Data-loading processes.", TRAIN.workers)] = None,
    seed: Annotated[int | None, defaults("Of weights, order, views and prompts.", TRAIN.seed)] = None,
    validation_fraction: Annotated[
        float | None,
        defaults("Share of samples held out; 0 validates on the training images.", TRAIN.validation_fraction),
    ] = None,
    backbone_weights: Annotated[str | None, defaults("imagenet (a download) or none.", TRAIN.backbone_weights)] = None,
    text_tower: Annotated[
        str | None, defaults("openai (a download), random, or a safetensors file of CLIP ViT-B/32.", TEXT.tower)
    ] = None,
    prompt_joints: Annotated[int | None, defaults("Joints a prompt names, of 21.", TEXT.joints)] = None,
    crop: Annotated[str | None, defaults("whole, centre, mask or joints.", CROP.rule)] = None,
    crop_side: Annotated[
        float | None, defaults("Side of the centre crop in pixels; 200 for rendered hands.", CROP.side_px)
    ] = None,
    crop_margin: Annotated[
        float | None, defaults("Side of mask and joints crops over what they hold.", CROP.margin)
    ] = None,
    rotation: Annotated[float | None, defaults("Augmentation: rotation in degrees.", AUGMENT.rotation_deg)] = None,
    scale: Annotated[float | None, defaults("Augmentation: share of the crop's side.", AUGMENT.scale)] = None,
    shift: Annotated[float | None, defaults("Augmentation: share of the crop's side.", AUGMENT.shift)] = None,
    colour: Annotated[float | None, defaults("Augmentation: brightness, contrast, gain.", AUGMENT.colour)] = None,
    blur: Annotated[float | None, defaults("Augmentation: blur in pixels.", AUGMENT.blur_px)] = None,
    noise: Annotated[float | None, defaults("Augmentation: share of 255.", AUGMENT.noise)] = None,
    difficulty: Annotated[
        float | None, defaults("Of views composed from layers, from 0 to 1.", AUGMENT.difficulty)
    ] = None,
    upright: Annotated[bool | None, defaults("Turn hands to point up, and rotate from there.", "no")] = None,
    curriculum: Annotated[
        float | None, defaults("Share of the run over which rotation and difficulty grow.", AUGMENT.curriculum)
    ] = None,
    weight_joints: Annotated[float | None, defaults("Loss weight of L_P.", LOSS.joints)] = None,
    weight_vertices: Annotated[float | None, defaults("Loss weight of L_V.", LOSS.vertices)] = None,
    weight_normals: Annotated[float | None, defaults("Loss weight of L_N.", LOSS.normals)] = None,
    weight_edges: Annotated[float | None, defaults("Loss weight of L_E.", LOSS.edges)] = None,
    weight_consistency_2d: Annotated[float | None, defaults("Loss weight of L_C2d.", LOSS.consistency_2d)] = None,
    weight_consistency_3d: Annotated[float | None, defaults("Loss weight of L_C3d.", LOSS.consistency_3d)] = None,
    weight_clip: Annotated[float | None, defaults("Loss weight of L_CLIP; 0 drops the text branch.", LOSS.clip)] = None,
    weight_heatmaps: Annotated[
        float | None, defaults("Loss weight of the 1D heatmaps' cross entropy; for random weights.", LOSS.heatmaps)
    ] = None,
    weight_heatmaps_2d: Annotated[
        float | None, defaults("Loss weight of 2D heatmaps, by a branch of training.", LOSS.heatmaps_2d)
    ] = None,
    weight_surface: Annotated[
        float | None, defaults("Loss weight of that branch's surface maps; for sets in layers.", LOSS.surface)
    ] = None,
    weight_teacher_joints: Annotated[
        float | None, defaults("Loss weight of the teacher's joints.", TEACHER.joints)
    ] = None,
    weight_teacher_vertices: Annotated[
        float | None, defaults("Loss weight of the teacher's vertices.", TEACHER.vertices)
    ] = None,
    weight_teacher_heatmaps: Annotated[
        float | None, defaults("Loss weight of the teacher's 1D heatmaps.", TEACHER.heatmaps)
    ] = None,
    weight_teacher_features: Annotated[
        float | None, defaults("Loss weight of the teacher's feature maps.", TEACHER.features)
    ] = None,
) -> None:
    """Train CLIP-Hand3D on photographs in FreiHAND's layout.

    Defaults are the paper's, but for fewer attention heads on the finer levels: --preset paper has its eight.

    With --teacher a student of any backbone learns from a trained model as well; it has the teacher's sizes and crop.
    With --quantise-aware a checkpoint is fine-tuned as its INT8 graph, from its own options in small steps.
    """
    given = {name: value for name, value in locals().items() if value is not None}

    from rich.console import Console

    from cliphand.claims import check_folder
    from cliphand.cli.stopping import stoppable
    from cliphand.files import remove_leftovers
    from cliphand.kinds import RUN
    from cliphand.training.run_place import check_place, read_history

    def advice() -> str:
        done = len(read_history(out))
        again = "go on with --resume" if done else "the same command starts again"
        return f"{done} epochs of {run.train.epochs} had finished; {again}."

    console = Console()
    check_options(given)
    check_folder(out, RUN)
    check_place(out, resume=resume)
    remove_leftovers(out)
    run = make_run(given, data=data, out=out)

    from cliphand.training.loop import train_hand

    with stoppable(advice):
        train_hand(run, resume=resume, tell=console.print)
    export = "cliphand export" if quantise_aware is None else "cliphand export --int8"
    console.print(f"Checkpoints: {out / 'last'} and {out / 'best'}; next: {export} {out / 'best'}")
