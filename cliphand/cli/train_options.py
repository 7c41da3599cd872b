"""The options of `cliphand train` as a run: which are allowed together, what they default to, what they configure."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cliphand.checked import Kind, check_fields, from_json, to_json
from cliphand.cli.run_config import RunConfig, read_run_config
from cliphand.config import AugmentConfig, CropConfig, LossConfig, ModelConfig, TextConfig, TrainConfig, require
from cliphand.training.distil_config import DistilConfig

if TYPE_CHECKING:
    from cliphand.hand import HandTopology
    from cliphand.training.loop import Run

DEFAULT_PRESET = "light"
Options = Mapping[str, object]  # those that were given, by their parameters' names

# Options by the config that they fill, each with the name of its field there.
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
    "curriculum": "curriculum",
}
LOSS_OPTIONS = {f"weight_{field.name}": field.name for field in dataclasses.fields(LossConfig)}
TEXT_OPTIONS = {"text_tower": "tower", "prompt_joints": "joints"}
BRANCHES = ("clip", "heatmaps", "heatmaps_2d", "surface")  # terms of what is not deployed, or not of points
CROP_OPTIONS = {"crop": "rule", "crop_side": "side_px", "crop_margin": "margin"}
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

# What an option settles by itself, so that others contradict it.
SETTLED = {
    "quantise_aware": {
        "the network is the checkpoint's": ("preset", *MODEL_OPTIONS, "backbone_weights", "start", "stage"),
        "the crop is the checkpoint's": tuple(CROP_OPTIONS),
        "it trains joints and mesh alone": (*TEXT_OPTIONS, *(f"weight_{name}" for name in BRANCHES)),
        "it has no teacher": ("teacher",),
    },
    "teacher": {
        "the crop is the teacher's": tuple(CROP_OPTIONS),
        "it teaches stage mesh": ("stage",),
    },
}
# A fine-tune of weights that are already good: short, and in small steps.
QUANTISE_AWARE = {"epochs": 10, "learning_rate": 2e-5, "schedule": "cosine", "precision": "32-true"}


def check_options(options: Options) -> None:
    """Refuse what can be refused without a file, and without torch.

    Raises:
        InputError: an option contradicts another or is out of range.
    """
    for option, settled in SETTLED.items():
        for why, names in settled.items():
            clash = next((name for name in names if option in options and name in options), None)
            require(clash is None, f"{_flag(clash)} cannot be given with {_flag(option)}: {why}.")
    idle = next((name for name in TEACHER_OPTIONS if name in options and "teacher" not in options), None)
    require(idle is None, f"{_flag(idle)} weighs what a teacher says; give --teacher as well.")
    _preset(options)
    for config, fields in OPTIONS:
        given = {field: options[name] for name, field in fields.items() if name in options}
        check_fields(config, given, called=_called(fields))
    file = _config(options)
    if not any(option in options for option in SETTLED):
        _configs(options, file)


def make_run(options: Options, *, data: Path, out: Path) -> "Run":
    """The run that the given options, which `check_options` has passed, ask for.

    Raises:
        InputError: an option does not fit the checkpoint that another names, or a file is missing.
    """
    kinds = {"quantise_aware": _quantise_aware_run, "teacher": _taught_run}
    make = next((kinds[option] for option in kinds if option in options), _plain_run)
    return make(options, data, out)


def _plain_run(options: Options, data: Path, out: Path) -> "Run":
    config = _config(options)
    model, crop, train = _configs(options, config)

    from cliphand.hand import HAND_NAME, load_hand

    topology = load_hand(_path(options, "hand") or data / HAND_NAME)

    from cliphand.training.loop import Run

    start = _path(options, "start") or config.start
    return Run(data=data, topology=topology, out=out, model=model, crop=crop, train=train, start=start)


def _config(options: Options) -> RunConfig:
    """What the file says that --config names."""
    return read_run_config(_path(options, "config"), given=options)


def _configs(options: Options, config: RunConfig) -> tuple[ModelConfig, CropConfig, TrainConfig]:
    """Of a run whose options need no checkpoint."""
    preset = _preset(options)
    return (
        _filled(preset if "preset" in options else config.model or preset, options, MODEL_OPTIONS),
        _filled(config.crop or CropConfig(), options, CROP_OPTIONS),
        _train(options, config.train or TrainConfig()),
    )


def _taught_run(options: Options, data: Path, out: Path) -> "Run":
    """A student: the teacher's sizes unless a preset is named, and its crop."""
    from cliphand.checkpoint import load_checkpoint
    from cliphand.training.distil import Distil
    from cliphand.training.loop import Run

    config, teacher = _config(options), load_checkpoint(Path(str(options["teacher"])))
    sizes = _preset(options) if "preset" in options else config.model or teacher.model_config
    return Run(
        data=data,
        topology=_topology(options, teacher.topology),
        out=out,
        model=_filled(sizes, options, MODEL_OPTIONS),
        crop=teacher.crop,
        train=_train(options, config.train or TrainConfig()),
        start=_path(options, "start") or config.start,
        recipe=Distil(teacher, _filled(config.weights or DistilConfig(), options, TEACHER_OPTIONS)),
    )


def _quantise_aware_run(options: Options, data: Path, out: Path) -> "Run":
    """A fine-tune: network, crop and training of the checkpoint, in small steps and without its text branch."""
    from cliphand.checkpoint import load_checkpoint
    from cliphand.training.loop import Run
    from export.precision.calibration import CalibrationRequest, HeldOut
    from export.qat.quantise_aware import QuantiseAware

    start = load_checkpoint(Path(str(options["quantise_aware"])))
    before = to_json(start.train or TrainConfig())
    fresh = {"stage": "mesh", "accelerator": "auto", "devices": 1, "loss": to_json(_of_points(start.train))}
    base = from_json(TrainConfig, before | QUANTISE_AWARE | fresh, source=str(start.path))
    train = _train(options, _config(options).train or base)
    # As the export of the result will choose them.
    calibration = CalibrationRequest(data, held_out=HeldOut(data, train.validation_fraction, train.seed))
    return Run(
        data=data,
        topology=_topology(options, start.topology),
        out=out,
        model=start.model_config,
        crop=start.crop,
        train=train,
        start=start.path,
        recipe=QuantiseAware(start, calibration),
    )


def _of_points(train: TrainConfig | None) -> LossConfig:
    """The weights of what joints and vertices alone decide."""
    loss = LossConfig() if train is None else train.loss
    return dataclasses.replace(loss, **dict.fromkeys(BRANCHES, 0.0))


def _train(options: Options, base: TrainConfig) -> TrainConfig:
    """`base` with what was given in place of its own."""
    return dataclasses.replace(
        _filled(base, options, TRAIN_OPTIONS),
        augment=_filled(base.augment, options, AUGMENT_OPTIONS),
        loss=_filled(base.loss, options, LOSS_OPTIONS),
        text=_filled(base.text, options, TEXT_OPTIONS),
    )


def _filled(base: Kind, options: Options, names: Mapping[str, str]) -> Kind:
    """A config with the fields that were given in place of its own."""
    given = {field: options[name] for name, field in names.items() if name in options}
    return from_json(type(base), to_json(base) | given, source="", called=_called(names))


def _called(names: Mapping[str, str]) -> dict[str, str]:
    """What the user calls each field."""
    return {field: _flag(name) for name, field in names.items()}


def _preset(options: Options) -> ModelConfig:
    from cliphand.presets import PRESETS

    name = str(options.get("preset", DEFAULT_PRESET))
    require(name in PRESETS, f"preset '{name}' is unknown; valid are {list(PRESETS)}.")
    return PRESETS[name]


def _topology(options: Options, checkpoints: "HandTopology") -> "HandTopology":
    """The named file's, or the checkpoint's."""
    from cliphand.hand import load_hand

    hand = _path(options, "hand")
    topology = checkpoints if hand is None else load_hand(hand)
    require(len(topology.faces) > 0, "the checkpoint holds no faces of the mesh; name a topology with --hand HAND.npz.")
    return topology


def _path(options: Options, name: str) -> Path | None:
    return Path(str(options[name])) if name in options else None


def _flag(name: str | None) -> str:
    return f"--{str(name).replace('_', '-')}"
