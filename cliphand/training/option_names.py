"""What the command line calls each field of a run's configs; a field without an option is set in a file alone."""

import dataclasses
from collections.abc import Mapping

from cliphand.config import AugmentConfig, CropConfig, LossConfig, ModelConfig, TextConfig, TrainConfig
from cliphand.training.distil_config import DistilConfig

# Parameters of `cliphand train` by the config that they fill, each with the name of its field there.
TRAIN_OPTIONS = {
    name: name
    for name in (
        *("stage", "epochs", "repeats", "batch", "learning_rate", "weight_decay"),
        *("reduction", "schedule", "step_epochs", "step_factor"),
        *("gradient_clip", "precision", "accelerator", "devices", "workers", "seed", "validation_fraction"),
        "backbone_weights",
    )
}
AUGMENT_OPTIONS = {
    "rotation": "rotation_deg",
    "scale": "scale",
    "shift": "shift",
    "colour": "colour",
    "blur": "blur_px",
    "noise": "noise",
    "difficulty": "difficulty",
    "upright": "upright",
    "level_share": "level_share",
    "level": "level_deg",
    "curriculum": "curriculum",
}
LOSS_OPTIONS = {f"weight_{field.name}": field.name for field in dataclasses.fields(LossConfig)}
TEXT_OPTIONS = {"text_tower": "tower", "prompt_joints": "joints"}
CROP_OPTIONS = {"crop": "rule", "crop_side": "side_px", "crop_margin": "margin", "second_look": "second_look"}
MODEL_OPTIONS = {
    name: name for name in ("backbone", "input_size", "attention", "heads", "depths", "lixel_channels", "joint_feature")
}
TEACHER_OPTIONS = {f"weight_teacher_{field.name}": field.name for field in dataclasses.fields(DistilConfig)}
OPTIONS: tuple[tuple[type, Mapping[str, str]], ...] = (
    (ModelConfig, MODEL_OPTIONS),
    (CropConfig, CROP_OPTIONS),
    (TrainConfig, TRAIN_OPTIONS),
    (AugmentConfig, AUGMENT_OPTIONS),
    (LossConfig, LOSS_OPTIONS),
    (TextConfig, TEXT_OPTIONS),
    (DistilConfig, TEACHER_OPTIONS),
)
# Where `run.json` holds each config.
PLACES: Mapping[type, str] = {
    ModelConfig: "model",
    CropConfig: "crop",
    TrainConfig: "train",
    AugmentConfig: "train.augment",
    LossConfig: "train.loss",
    TextConfig: "train.text",
    DistilConfig: "recipe.weights",
}


def flag(name: str | None) -> str:
    """A parameter as it is typed."""
    return f"--{str(name).replace('_', '-')}"


# By the place in `run.json`: `train.augment.blur_px` is set with `--blur`.
FLAGS: Mapping[str, str] = {
    **{f"{PLACES[config]}.{field}": flag(name) for config, fields in OPTIONS for name, field in fields.items()},
    "recipe.teacher": "--teacher",
    "recipe.quantise_aware": "--quantise-aware",
}
