"""The options of `cliphand train` that fill configs: help texts from here, types and defaults from the configs."""

import inspect
from collections.abc import Callable
from typing import cast, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from cliphand.training.option_names import MODEL_OPTIONS, OPTIONS

FourLevels = tuple[int, int, int, int]
HELP = {
    "backbone": "timm model with strides 4, 8, 16, 32.",
    "input_size": "Side of the crop in pixels, a multiple of 32.",
    "attention": "nodes, or single_token as released.",
    "heads": "Attention heads of each level, coarse first.",
    "depths": "Transformer blocks of each level.",
    "lixel_channels": "Width of the joint regressor.",
    "joint_feature": "Length of a joint's feature.",
    "stage": "joints (stage 1) or mesh (stage 2).",
    "epochs": "Each ends with a validation and a checkpoint.",
    "repeats": "Passes over the data in one epoch.",
    "batch": "Photographs per process and step, two views each.",
    "learning_rate": "Of AdamW.",
    "weight_decay": "Of AdamW.",
    "reduction": "Of each loss term: mean, or sum as in the paper.",
    "schedule": "Of the learning rate: step or cosine.",
    "step_epochs": "Epochs between steps of the learning rate.",
    "step_factor": "Factor of each step.",
    "gradient_clip": "Largest gradient norm; 0 leaves it.",
    "precision": "32-true, bf16-mixed or 16-mixed.",
    "accelerator": "auto, cpu or cuda.",
    "devices": "Processes; more than one trains with DDP.",
    "workers": "Data-loading processes.",
    "seed": "Of weights, order, views and prompts.",
    "validation_fraction": "Share of samples held out; 0 validates on the training images.",
    "backbone_weights": "imagenet (a download) or none.",
    "text_tower": "openai (a download), random, or a safetensors file of CLIP ViT-B/32.",
    "prompt_joints": "Joints a prompt names, of 21.",
    "crop": "whole, centre, mask or joints.",
    "crop_side": "Side of the centre crop in pixels; 200 for rendered hands.",
    "crop_margin": "Side of mask and joints crops over what they hold.",
    "rotation": "Augmentation: rotation in degrees.",
    "scale": "Augmentation: share of the crop's side.",
    "shift": "Augmentation: share of the crop's side.",
    "colour": "Augmentation: brightness, contrast, gain.",
    "blur": "Augmentation: blur in pixels.",
    "noise": "Augmentation: share of 255.",
    "difficulty": "Of views composed from layers, from 0 to 1.",
    "upright": "Turn hands to point up, and rotate from there.",
    "curriculum": "Share of the run over which rotation and difficulty grow.",
    "weight_joints": "Loss weight of L_P.",
    "weight_vertices": "Loss weight of L_V.",
    "weight_normals": "Loss weight of L_N.",
    "weight_edges": "Loss weight of L_E.",
    "weight_consistency_2d": "Loss weight of L_C2d.",
    "weight_consistency_3d": "Loss weight of L_C3d.",
    "weight_clip": "Loss weight of L_CLIP; 0 drops the text branch.",
    "weight_heatmaps": "Loss weight of the 1D heatmaps' cross entropy; for random weights.",
    "weight_heatmaps_2d": "Loss weight of 2D heatmaps, by a branch of training.",
    "weight_surface": "Loss weight of that branch's surface maps; for sets in layers.",
    "weight_teacher_joints": "Loss weight of the teacher's joints.",
    "weight_teacher_vertices": "Loss weight of the teacher's vertices.",
    "weight_teacher_heatmaps": "Loss weight of the teacher's 1D heatmaps.",
    "weight_teacher_features": "Loss weight of the teacher's feature maps.",
}


def defaults(text: str, default: object) -> OptionInfo:
    """An option whose default depends on others, so that only what was given is known; `default` is the usual one."""
    option: OptionInfo = typer.Option(help=text, show_default=str(default))
    return option


def takes_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each line of `HELP`, in the place of its `**choices`."""
    signature = inspect.signature(command)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    command.__signature__ = signature.replace(parameters=own + _options())  # type: ignore[attr-defined]
    return command


def _options() -> list[inspect.Parameter]:
    made = {}
    for config, fields in OPTIONS:
        kinds = get_type_hints(config)
        for name, field in fields.items():
            usual = "the preset's" if fields is MODEL_OPTIONS else getattr(config(), field)
            hint = kinds[field]
            option = typer.Option(
                None,
                help=HELP[name],
                metavar="N N N N" if get_origin(hint) is tuple else None,
                show_default="no" if usual is False else str(usual),
            )
            made[name] = inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=_kind(hint) | None
            )
    return [made[name] for name in HELP]


def _kind(hint: object) -> type:
    """What the command line takes for a field; what it may be in detail is checked as any config is."""
    if get_origin(hint) is tuple:
        return cast("type", FourLevels)
    return hint if isinstance(hint, type) else str  # the names of a Literal are told by the config's own sentence
