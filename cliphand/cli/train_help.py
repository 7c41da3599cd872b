"""The options of `cliphand train` that fill configs: help texts from here, types and defaults from the configs."""

import inspect
from collections.abc import Callable
from typing import cast, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from cliphand.training.option_names import MODEL_OPTIONS, OPTIONS

DEFAULT_PRESET = "light"

FourLevels = tuple[int, int, int, int]
HELP = {
    "backbone": "Image encoder: a timm model with strides 4, 8, 16, 32.",
    "input_size": "Side of the crop in pixels, a multiple of 32.",
    "attention": "nodes (each attends to all others), or single_token as released.",
    "heads": "Attention heads of each of the mesh levels, coarse first.",
    "depths": "Transformer blocks of each of the mesh levels, coarse first.",
    "lixel_channels": "Channels of the joint regressor.",
    "joint_feature": "Length of a joint's feature vector.",
    "stage": "joints (stage 1, no mesh yet) or mesh (stage 2, everything).",
    "epochs": "Epochs; each ends with a validation and a checkpoint.",
    "repeats": "Passes over the data in one epoch.",
    "batch": "Photographs per process and step, two views each.",
    "learning_rate": "Learning rate of AdamW.",
    "weight_decay": "Weight decay of AdamW.",
    "reduction": "Over the points of a loss: mean, or sum as in the paper.",
    "schedule": "How the learning rate falls: step or cosine.",
    "step_epochs": "Epochs between steps of the learning rate.",
    "step_factor": "Factor on the learning rate at each step.",
    "gradient_clip": "Largest gradient norm; 0 does not clip.",
    "precision": "32-true, bf16-mixed or 16-mixed.",
    "accelerator": "Where it trains: auto, cpu or cuda.",
    "devices": "Processes; more than one trains with DDP.",
    "workers": "Data-loading processes.",
    "seed": "Seed of weights, order, views and prompts.",
    "validation_fraction": "Share of samples held out; 0 validates on the training images.",
    "backbone_weights": "The image encoder starts from imagenet (a download) or none.",
    "text_tower": "CLIP's: openai (a download), random, or a safetensors file of ViT-B/32.",
    "prompt_joints": "How many of the 21 joints a text prompt names.",
    "crop": "What the model sees: whole, centre, mask or joints.",
    "crop_side": "Side of the centre crop in pixels; 200 for rendered hands.",
    "crop_margin": "Side of mask and joints crops, in sides of what they hold.",
    "second_look": "Run the model twice on a photograph: the second crop is turned until the hand points up.",
    "rotation": "Augmentation: rotate by up to so many degrees.",
    "scale": "Augmentation: change the crop's side by up to this share.",
    "shift": "Augmentation: move the crop by up to this share of its side.",
    "colour": "Augmentation: change brightness, contrast and gain by up to this share.",
    "blur": "Augmentation: blur by up to so many pixels.",
    "noise": "Augmentation: noise of up to this share of 255.",
    "difficulty": "How hard views of hands in layers (`cliphand synth`) are, from 0 to 1.",
    "upright": "Turn hands to point up before they are rotated.",
    "level_share": "Share of the views that are rotated by --level at most.",
    "level": "Bound in degrees of those views.",
    "curriculum": "Share of the run over which rotation and difficulty grow.",
    "weight_joints": "Loss weight of joints (L_P).",
    "weight_vertices": "Loss weight of vertices (L_V).",
    "weight_normals": "Loss weight of normals (L_N).",
    "weight_edges": "Loss weight of edge lengths (L_E).",
    "weight_consistency_2d": "Loss weight of two views' agreement in 2D (L_C2d).",
    "weight_consistency_3d": "Loss weight of two views' agreement in 3D (L_C3d).",
    "weight_clip": "Loss weight of text against pose (L_CLIP); 0 drops the text branch.",
    "weight_heatmaps": "Loss weight of the 1D heatmaps; helps from random weights.",
    "weight_heatmaps_2d": "Loss weight of 2D heatmaps, which only training makes.",
    "weight_surface": "Loss weight of surface maps, which only training makes; needs hands in layers.",
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
