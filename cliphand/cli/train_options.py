"""The options of `cliphand train` as configs: which are allowed together, what they default to, what they decide.

All of it is known without PyTorch; `cliphand.cli.train_run` makes the run.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cliphand.checked import Kind, check_fields, from_json, to_json
from cliphand.checkpoint_place import RUN_FILE
from cliphand.cli.run_config import RECIPES, RunConfig, read_run_config
from cliphand.cli.train_help import DEFAULT_PRESET
from cliphand.config import CropConfig, LossConfig, ModelConfig, TrainConfig, require
from cliphand.files import read_json_object
from cliphand.training.distil_config import DistilConfig
from cliphand.training.option_names import (
    AUGMENT_OPTIONS,
    CROP_OPTIONS,
    LOSS_OPTIONS,
    MODEL_OPTIONS,
    OPTIONS,
    TEACHER_OPTIONS,
    TEXT_OPTIONS,
    TRAIN_OPTIONS,
    flag,
)
from cliphand.training.same_options import refuse_other_options

if TYPE_CHECKING:
    from cliphand.checkpoint_config import CheckpointConfig
    from cliphand.hand import HandTopology

Options = Mapping[str, object]  # those that were given, by their parameters' names
BRANCHES = ("clip", "heatmaps", "heatmaps_2d", "surface")  # terms of what is not deployed, or not of points

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


@dataclasses.dataclass(frozen=True, slots=True)
class RunPlan:
    """The configs of a run, and the checkpoints that it needs.

    Attributes:
        start: whose weights it starts from.
        teacher: whose student it trains.
        weights: of what the teacher says.
        quantised: what it fine-tunes as INT8 graph.
    """

    model: ModelConfig
    crop: CropConfig
    train: TrainConfig
    start: "CheckpointConfig | None" = None
    teacher: "CheckpointConfig | None" = None
    weights: DistilConfig | None = None
    quantised: "CheckpointConfig | None" = None

    def facts(self) -> dict[str, object]:
        """What of the run's record follows from options: the keys of `run.json`."""
        taught = {} if self.teacher is None else {"teacher": self.teacher.sha256, "weights": to_json(self.weights)}
        quantised = {} if self.quantised is None else {"quantise_aware": self.quantised.sha256}
        return {
            "model": to_json(self.model),
            "crop": to_json(self.crop),
            "train": to_json(self.train),
            "recipe": taught | quantised,
            "start": None if self.start is None else str(self.start.path),
            "start_sha256": None if self.start is None else self.start.sha256,
        }

    def deciding(self) -> dict[str, object]:
        """What decides whether an option does anything, by parameter; see `cliphand.cli.idle`."""
        train = self.train
        decide = {"stage": train.stage, "schedule": train.schedule, "weight_clip": train.loss.clip}
        return {"crop": self.crop.rule, **decide}


def check_options(options: Options) -> None:
    """Refuse what can be refused without a file, and without torch.

    Raises:
        InputError: an option contradicts another or is out of range.
    """
    for option, settled in SETTLED.items():
        for why, names in settled.items():
            clash = next((name for name in names if option in options and name in options), None)
            require(clash is None, f"{flag(clash)} cannot be given with {flag(option)}: {why}.")
    idle = next((name for name in TEACHER_OPTIONS if name in options and "teacher" not in options), None)
    require(idle is None, f"{flag(idle)} weighs what a teacher says; give --teacher as well.")
    _preset(options)
    for config, fields in OPTIONS:
        given = {field: options[name] for name, field in fields.items() if name in options}
        check_fields(config, given, called=_called(fields))


def plan_run(options: Options) -> RunPlan:
    """What the given options, which `check_options` has passed, decide.

    Raises:
        InputError: an option does not fit the checkpoint that another names, or a file is missing or refused.
    """
    kinds = {"quantise_aware": _quantise_aware_plan, "teacher": _taught_plan}
    plan = next((kinds[option] for option in kinds if option in options), _plain_plan)
    return plan(options, read_run_config(path_of(options, "config"), given=options))


def _plain_plan(options: Options, config: RunConfig) -> RunPlan:
    preset = _preset(options)
    return RunPlan(
        model=_filled(preset if "preset" in options else config.model or preset, options, MODEL_OPTIONS),
        crop=_filled(config.crop or CropConfig(), options, CROP_OPTIONS),
        train=_train(options, config.train or TrainConfig()),
        start=_start(options, config),
    )


def _taught_plan(options: Options, config: RunConfig) -> RunPlan:
    """A student: the teacher's sizes unless a preset is named, and its crop."""
    from cliphand.checkpoint_config import read_checkpoint_config

    teacher = read_checkpoint_config(Path(str(options["teacher"])))
    sizes = _preset(options) if "preset" in options else config.model or teacher.model
    return RunPlan(
        model=_filled(sizes, options, MODEL_OPTIONS),
        crop=teacher.crop,
        train=_train(options, config.train or TrainConfig()),
        start=_start(options, config),
        teacher=teacher,
        weights=_filled(config.weights or DistilConfig(), options, TEACHER_OPTIONS),
    )


def _quantise_aware_plan(options: Options, config: RunConfig) -> RunPlan:
    """A fine-tune: network, crop and training of the checkpoint, in small steps and without its text branch."""
    from cliphand.checkpoint_config import read_checkpoint_config

    start = read_checkpoint_config(Path(str(options["quantise_aware"])))
    before = to_json(start.train or TrainConfig())
    fresh = {"stage": "mesh", "accelerator": "auto", "devices": 1, "loss": to_json(_of_points(start.train))}
    base = from_json(TrainConfig, before | QUANTISE_AWARE | fresh, source=str(start.path))
    train = _train(options, config.train or base)
    return RunPlan(model=start.model, crop=start.crop, train=train, start=start, quantised=start)


def check_inputs(plan: RunPlan, options: Options, *, data: Path, out: Path, resume: bool) -> None:
    """Refuse what a look at the named folders shows, before torch is imported and anything is written.

    Raises:
        InputError: there is no training split or no checkpoint to start from, an option needs layers that the data do
            not have, or the run that is to go on was started with other options or on other labels.
    """
    from cliphand.data.freihand import require_split
    from cliphand.data.layers.scenery import require_layers

    require_split(data, "training", also=("verts",))
    for option, asked in {"difficulty": "difficulty" in options, "weight_surface": plan.train.loss.surface > 0}.items():
        if asked:
            require_layers(data, "training", option=flag(option))
    now = plan.facts()
    if resume:
        from cliphand.data.identity import hand_identity, label_identity, refuse_other_data

        before = read_json_object(out / RUN_FILE)
        refuse_other_options({**before, "recipe": _known(before.get("recipe"))}, now, out=out)
        hand = hand_of(plan, options, data)
        told = label_identity(data, "training") | ({} if hand is None else hand_identity(hand))
        refuse_other_data(before.get("identity"), told, run=out, whole=False)  # images take longer, so come later


def hand_of(plan: RunPlan, options: Options, data: Path) -> "HandTopology | None":
    """The topology of the file that is named, or of the data; None where the checkpoint that is learnt from has it."""
    from cliphand.hand import HAND_NAME, load_hand

    needed = plan.teacher or plan.quantised
    path = path_of(options, "hand") or (data / HAND_NAME if needed is None else None)
    return None if path is None else load_hand(path)


def _known(recipe: object) -> dict[str, object]:
    """What of a recorded recipe a plan tells as well."""
    said = recipe if isinstance(recipe, Mapping) else {}
    return {name: said[name] for name in (*RECIPES, "weights") if name in said}


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
    return {field: flag(name) for name, field in names.items()}


def _start(options: Options, config: RunConfig) -> "CheckpointConfig | None":
    """What is told of the checkpoint that the run starts from."""
    from cliphand.checkpoint_config import read_checkpoint_config

    path = path_of(options, "start") or config.start
    return None if path is None else read_checkpoint_config(path)


def _preset(options: Options) -> ModelConfig:
    from cliphand.presets import PRESETS

    name = str(options.get("preset", DEFAULT_PRESET))
    require(name in PRESETS, f"preset '{name}' is unknown; valid are {', '.join(PRESETS)}.")
    return PRESETS[name]


def path_of(options: Options, name: str) -> Path | None:
    """The path that an option names, if it was given."""
    return Path(str(options[name])) if name in options else None
