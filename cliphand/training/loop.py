"""A training run from photographs to checkpoints.

A run folder holds `run.json` (configs, data, commit, versions), `metrics.json` (one entry per epoch), `csv/` and
`tensorboard/` logs, `resume.ckpt` (everything a resumed run needs), and the checkpoints `last/` and `best/`.
"""

import logging
import timeit
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import lightning
import open_clip
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint, load_checkpoint
from cliphand.config import CropConfig, ModelConfig, TrainConfig
from cliphand.data.freihand import FreiHand, open_freihand, validation_split
from cliphand.errors import InputError
from cliphand.files import read_json_object, write_json
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand, TextBranch
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.model.template_init import interpolate_from_template
from cliphand.model.text_encoder import TOWER as TOWER_NAME
from cliphand.model.text_encoder import TextTower
from cliphand.provenance import git_commit, library_versions
from cliphand.training.dataset import EpochSampler, Labelled, LabelledDataset, PairDataset
from cliphand.training.recipe import Recipe
from cliphand.training.recorder import RunRecorder

RUN_FILE = "run.json"
RESUME_FILE = "resume.ckpt"
EXPECTED_WARNINGS = (
    ".*log_every_n_steps.*",  # every epoch is logged, however few its batches
    ".*does not have many workers.*",  # validation reads few images
    ".*in eval mode at the start of training.*",  # the frozen text tower
    ".*LeafSpec.*",
    ".*treespec.*",
)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run needs to start.

    Attributes:
        data: folder in FreiHAND's layout.
        topology: of the mesh in the labels.
        out: the run folder.
        start: a checkpoint whose image branch the run starts from.
        recipe: what a step does beyond the paper's.
    """

    data: Path
    topology: HandTopology
    out: Path
    model: ModelConfig
    crop: CropConfig
    train: TrainConfig
    start: Path | None = None
    recipe: Recipe = field(default_factory=Recipe)


def train_hand(run: Run, *, resume: bool = False, progress: bool = True) -> Path:
    """Train and return the run folder.

    Args:
        run: data, configs and place of the run.
        resume: go on after the last finished epoch of `run.out`, which must hold the same configs.
        progress: show a progress bar.

    Raises:
        InputError: data, configs, weights or the run folder do not allow the run; nothing was written then.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    facts = run_facts(run)
    if not resume and (run.out / RUN_FILE).exists():
        raise InputError(f"{run.out} already holds a run; choose another --out, or go on with --resume.")
    state = _resume_state(run, facts) if resume else None
    data = open_freihand(run.data, "training")
    trainer = make_trainer(run, facts, progress=progress)
    lightning.seed_everything(run.train.seed, verbose=False)
    model = build_model(run)
    module = run.recipe.module(model, topology=run.topology, model_config=run.model, train=run.train)
    pairs, labelled = make_loaders(run, data, trainer)
    if not resume and trainer.is_global_zero:
        write_json(run.out / RUN_FILE, facts)
    with _quiet():
        trainer.fit(module, pairs, labelled, ckpt_path=state, weights_only=True)
    return run.out


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the trainer says of things that are as they should be."""
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def run_facts(run: Run) -> dict[str, object]:
    """What `run.json` records, and what travels with the checkpoints into every later report."""
    return {
        "data": str(run.data.resolve()),
        "start": None if run.start is None else str(run.start.resolve()),
        "model": to_json(run.model),
        "crop": to_json(run.crop),
        "train": to_json(run.train),
        "recipe": run.recipe.facts(),
        "text_tower": run.train.text.tower,
        "accelerator": accelerator_of(run.train),
        "commit": git_commit(),
        "versions": library_versions(),
    }


def accelerator_of(train: TrainConfig) -> str:
    """`cpu` or `cuda`: what `auto` becomes on this machine.

    Raises:
        InputError: `cuda` was asked for and torch finds no GPU.
    """
    found = torch.cuda.is_available()
    if train.accelerator == "cuda" and not found:
        raise InputError("accelerator is cuda but torch finds no GPU here; use --accelerator cpu or auto.")
    if train.accelerator == "auto":
        return "cuda" if found else "cpu"
    return train.accelerator


def fastest_precision(size: int = 512, rounds: int = 5) -> Literal["32-true", "bf16-mixed"]:
    """The precision in which this machine multiplies matrices faster: some CPUs only emulate bfloat16."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.randn(size, size, device=device).to(dtype)
        seconds[dtype] = min(timeit.repeat("(m @ m).sum().item()", globals={"m": matrix}, number=3, repeat=rounds))
    return "bf16-mixed" if seconds[torch.bfloat16] < seconds[torch.float32] else "32-true"


def uses_text(train: TrainConfig) -> bool:
    """Whether the run has a text branch, and so prompts."""
    return train.loss.clip > 0 and train.stage == "mesh"


def build_model(run: Run) -> ClipHand:
    """The full network, with the weights it starts from."""
    imagenet = run.train.backbone_weights == "imagenet" and run.start is None
    hand = HandModel(run.model, level_templates(run.topology, run.model.levels), imagenet_weights=imagenet)
    interpolate_from_template(hand.mesh_regressor, run.topology, run.model.levels)
    if run.start is not None:
        _start_from(hand, run.model, load_checkpoint(run.start))
    if not uses_text(run.train):
        return ClipHand(hand, None)
    tower = TextTower(run.train.text.tower, seed=run.train.seed)
    return ClipHand(hand, TextBranch(run.model, run.train.text, tower))


def _start_from(hand: HandModel, config: ModelConfig, start: Checkpoint) -> None:
    if start.model_config != config:
        ours, theirs = to_json(config), to_json(start.model_config)
        odd = next(key for key in ours if ours[key] != theirs[key])
        raise InputError(
            f"{start.path} was trained with {odd} {theirs[odd]!r}, this run has {ours[odd]!r}; a run can only start "
            "from a model of the same shape."
        )
    hand.load_state_dict(start.model.state_dict())


def make_loaders(
    run: Run, data: FreiHand, trainer: lightning.Trainer
) -> tuple[DataLoader[object], DataLoader[Labelled]]:
    """Loaders of training pairs and of validation images."""
    train = run.train
    fit_labels, held_out = validation_split(data.n_labels, train.validation_fraction, train.seed)
    pairs = PairDataset(
        data,
        data.image_indices(fit_labels),
        crop=run.crop,
        side_px=run.model.input_size,
        train=train,
        tokenise=PromptTokens(open_clip.get_tokenizer(TOWER_NAME)) if uses_text(train) else None,
    )
    # Version 0 of a sample is the photograph itself; the others show it on other backgrounds.
    shown = held_out if len(held_out) else fit_labels
    labelled = LabelledDataset(data, shown, crop=run.crop, side_px=run.model.input_size)
    sampler = EpochSampler(pairs, train=train, rank=trainer.global_rank, processes=trainer.world_size)
    pin = isinstance(trainer.accelerator, lightning.pytorch.accelerators.CUDAAccelerator)
    return (
        DataLoader(
            run.recipe.samples(pairs),
            batch_size=train.batch,
            sampler=sampler,
            num_workers=train.workers,
            persistent_workers=train.workers > 0,
            worker_init_fn=_single_threaded,
            pin_memory=pin,
        ),
        DataLoader(labelled, batch_size=train.batch, num_workers=0, pin_memory=pin),
    )


def _single_threaded(worker: int) -> None:
    """A loader's workers are the parallelism: OpenCV's own threads in each of them would only contend."""
    cv2.setNumThreads(0)


class PromptTokens:
    """Prompts to token ids, refused where CLIP's context would cut them."""

    def __init__(self, tokenizer: open_clip.SimpleTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, prompts: tuple[str, str, str]) -> torch.Tensor:
        """Three prompts to (3, 77) int64."""
        limit = self.tokenizer.context_length
        for prompt in prompts:
            length = len(self.tokenizer.encode(prompt)) + 2  # start and end of text
            if length > limit:
                raise InputError(f"the prompt '{prompt[:40]}...' takes {length} tokens; CLIP reads {limit}.")
        return self.tokenizer(list(prompts))


def make_trainer(run: Run, facts: Mapping[str, object], *, progress: bool) -> lightning.Trainer:
    """Lightning's trainer with this project's logs, bar and recorder."""
    train = run.train
    recorder = RunRecorder(
        run.out,
        resume_file=RESUME_FILE,
        model=run.model,
        crop=run.crop,
        topology=run.topology,
        train=train,
        facts=facts,
    )
    callbacks: list[Callback] = [recorder]
    if progress:
        callbacks.append(RichProgressBar())
    return lightning.Trainer(
        accelerator=accelerator_of(train),
        devices=train.devices,
        strategy="ddp" if train.devices > 1 else "auto",
        precision=train.precision,
        max_epochs=train.epochs,
        gradient_clip_val=train.gradient_clip or None,
        logger=[CSVLogger(run.out, name="csv"), TensorBoardLogger(run.out, name="tensorboard")],
        callbacks=callbacks,
        enable_checkpointing=True,
        enable_progress_bar=progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _resume_state(run: Run, facts: Mapping[str, object]) -> Path:
    """The state to resume from, after checking that it belongs to the same run."""
    state = run.out / RESUME_FILE
    if not state.is_file():
        raise InputError(f"{run.out} holds no {RESUME_FILE}; there is no finished epoch to resume from.")
    before = read_json_object(run.out / RUN_FILE)
    now = dict(facts)
    # A cosine falls over all epochs: with more of them every step so far would have been another.
    free = {"workers": 0} if run.train.schedule == "cosine" else {"epochs": 0, "workers": 0}
    for section in ("model", "crop", "train", "recipe"):
        old, new = before.get(section, {}), now[section]
        if isinstance(old, dict) and isinstance(new, dict):
            old, new = {**old, **free}, {**new, **free}
        if _plain(old) != _plain(new):
            raise InputError(
                f"{run.out} was started with another {section} config; resume with the same options "
                f"(only {' and '.join(f'--{name}' for name in free)} may differ)."
            )
    return state


def _plain(value: object) -> object:
    """Tuples as lists, as JSON gives them back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
