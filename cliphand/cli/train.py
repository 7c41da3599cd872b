"""`cliphand train`: photographs in FreiHAND's layout to a run folder with checkpoints."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from cliphand.config import (
    PRESETS,
    AugmentConfig,
    CropConfig,
    LossConfig,
    TextConfig,
    TrainConfig,
    from_json,
    require,
    to_json,
)

AUGMENT, LOSS = AugmentConfig(), LossConfig()
TEXT, CROP, TRAIN = TextConfig(), CropConfig(), TrainConfig()


def train(
    data: Annotated[Path, typer.Option(help="Folder in FreiHAND's layout.")],
    out: Annotated[Path, typer.Option(help="Run folder to write; runs/NAME is found by `cliphand export`.")],
    hand: Annotated[
        Path | None, typer.Option(help="Topology, from `cliphand hand`.", show_default="DATA/hand.npz")
    ] = None,
    preset: Annotated[str, typer.Option(help=f"Sizes of the network: {' or '.join(PRESETS)}.")] = "paper",
    backbone: Annotated[
        str | None, typer.Option(help="timm model with strides 4, 8, 16, 32.", show_default="the preset's")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Side of the crop in pixels, a multiple of 32.", show_default="the preset's")
    ] = None,
    stage: Annotated[str, typer.Option(help="joints (stage 1) or mesh (stage 2).")] = TRAIN.stage,
    start: Annotated[Path | None, typer.Option(help="Checkpoint to start from, such as stage 1's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after OUT's last finished epoch.")] = False,
    epochs: Annotated[int, typer.Option(help="Each ends with a validation and a checkpoint.")] = TRAIN.epochs,
    repeats: Annotated[int, typer.Option(help="Passes over the data in one epoch.")] = TRAIN.repeats,
    batch: Annotated[int, typer.Option(help="Photographs per process and step, two views each.")] = TRAIN.batch,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.")] = TRAIN.learning_rate,
    weight_decay: Annotated[float, typer.Option(help="Of AdamW.")] = TRAIN.weight_decay,
    step_epochs: Annotated[int, typer.Option(help="Epochs between steps of the learning rate.")] = TRAIN.step_epochs,
    step_factor: Annotated[float, typer.Option(help="Factor of each step.")] = TRAIN.step_factor,
    gradient_clip: Annotated[float, typer.Option(help="Largest gradient norm; 0 leaves it.")] = TRAIN.gradient_clip,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = TRAIN.precision,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = TRAIN.accelerator,
    devices: Annotated[int, typer.Option(help="Processes; more than one trains with DDP.")] = TRAIN.devices,
    workers: Annotated[int, typer.Option(help="Data-loading processes.")] = TRAIN.workers,
    seed: Annotated[int, typer.Option(help="Of weights, order, views and prompts.")] = TRAIN.seed,
    validation_fraction: Annotated[
        float, typer.Option(help="Share of samples held out; 0 validates on the training images.")
    ] = TRAIN.validation_fraction,
    backbone_weights: Annotated[str, typer.Option(help="imagenet (a download) or none.")] = TRAIN.backbone_weights,
    text_tower: Annotated[
        str, typer.Option(help="openai (a download), random, or a safetensors file of CLIP ViT-B/32.")
    ] = TEXT.tower,
    prompt_joints: Annotated[int, typer.Option(help="Joints a prompt names, of 21.")] = TEXT.joints,
    crop: Annotated[str, typer.Option(help="whole, centre, mask or joints.")] = CROP.rule,
    crop_side: Annotated[float, typer.Option(help="Side of the centre crop in pixels.")] = CROP.side_px,
    crop_margin: Annotated[
        float, typer.Option(help="Side of mask and joints crops over what they hold.")
    ] = CROP.margin,
    rotation: Annotated[float, typer.Option(help="Augmentation: rotation in degrees.")] = AUGMENT.rotation_deg,
    scale: Annotated[float, typer.Option(help="Augmentation: share of the crop's side.")] = AUGMENT.scale,
    shift: Annotated[float, typer.Option(help="Augmentation: share of the crop's side.")] = AUGMENT.shift,
    colour: Annotated[float, typer.Option(help="Augmentation: brightness, contrast, gain.")] = AUGMENT.colour,
    blur: Annotated[float, typer.Option(help="Augmentation: blur in pixels.")] = AUGMENT.blur_px,
    noise: Annotated[float, typer.Option(help="Augmentation: share of 255.")] = AUGMENT.noise,
    weight_joints: Annotated[float, typer.Option(help="Loss weight of L_P.")] = LOSS.joints,
    weight_vertices: Annotated[float, typer.Option(help="Loss weight of L_V.")] = LOSS.vertices,
    weight_normals: Annotated[float, typer.Option(help="Loss weight of L_N.")] = LOSS.normals,
    weight_edges: Annotated[float, typer.Option(help="Loss weight of L_E.")] = LOSS.edges,
    weight_consistency_2d: Annotated[float, typer.Option(help="Loss weight of L_C2d.")] = LOSS.consistency_2d,
    weight_consistency_3d: Annotated[float, typer.Option(help="Loss weight of L_C3d.")] = LOSS.consistency_3d,
    weight_clip: Annotated[float, typer.Option(help="Loss weight of L_CLIP; 0 drops the text branch.")] = LOSS.clip,
) -> None:
    """Train CLIP-Hand3D on photographs in FreiHAND's layout; defaults are the paper's."""
    train_options = {
        "stage": stage,
        "epochs": epochs,
        "repeats": repeats,
        "batch": batch,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "step_epochs": step_epochs,
        "step_factor": step_factor,
        "gradient_clip": gradient_clip,
        "precision": precision,
        "accelerator": accelerator,
        "devices": devices,
        "workers": workers,
        "seed": seed,
        "validation_fraction": validation_fraction,
        "backbone_weights": backbone_weights,
        "augment": to_json(AugmentConfig(rotation, scale, shift, colour, blur, noise)),
        "loss": to_json(
            LossConfig(
                weight_joints,
                weight_vertices,
                weight_normals,
                weight_edges,
                weight_consistency_2d,
                weight_consistency_3d,
                weight_clip,
            )
        ),
        "text": to_json(TextConfig(tower=text_tower, joints=prompt_joints)),
    }
    require(preset in PRESETS, f"preset '{preset}' is unknown; valid are {list(PRESETS)}.")
    sizes = PRESETS[preset]
    side = sizes.input_size if input_size is None else input_size
    model = dataclasses.replace(sizes, backbone=backbone or sizes.backbone, input_size=side)
    crop_options = {"rule": crop, "side_px": crop_side, "margin": crop_margin}
    crop_config = from_json(CropConfig, crop_options, source="--crop")
    train_config = from_json(TrainConfig, train_options, source="options")

    from rich.console import Console

    from cliphand.hand import load_hand
    from cliphand.training.loop import Run, train_hand

    run = Run(
        data=data,
        topology=load_hand(hand or data / "hand.npz"),
        out=out,
        model=model,
        crop=crop_config,
        train=train_config,
        start=start,
    )
    train_hand(run, resume=resume)
    Console().print(f"Checkpoints: {out / 'last'} and {out / 'best'}; next: cliphand export {out / 'best'}")
