"""A training run from photographs to checkpoints.

A run folder holds `run.json` (configs, identity, commit, versions), `metrics.json` (one entry per epoch), the same as
`csv/` and `tensorboard/`, `resume.ckpt` (everything a resumed run needs), and the checkpoints `last/` and `best/`.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint
from cliphand.checkpoint_place import LAST, RUN_FILE
from cliphand.config import CropConfig, ModelConfig, TrainConfig
from cliphand.data.cut_off import cut_off_line
from cliphand.data.freihand import FreiHand, open_freihand, validation_split
from cliphand.data.identity import data_identity, refuse_other_hand
from cliphand.data.layers.scenery import require_layers
from cliphand.errors import InputError, RunError
from cliphand.files import write_json
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand, TextBranch
from cliphand.model.hand_model import HandModel, level_templates
from cliphand.model.template_init import interpolate_from_template
from cliphand.model.text_encoder import TextTower
from cliphand.provenance import git_commit, library_versions
from cliphand.training.accelerator import accelerator_of
from cliphand.training.bar import EpochBar
from cliphand.training.loaders import make_loaders, own_sentence
from cliphand.training.module import TOWER
from cliphand.training.ranks import ALONE, MeanStatistics, Rank, data_parallel, train_in_processes
from cliphand.training.recipe import Recipe
from cliphand.training.recorder import RunRecorder
from cliphand.training.run_folder import epochs_left, finished_epochs, refuse_older, state_to_resume
from cliphand.training.run_place import RESUME_FILE, check_place, read_history, writing
from cliphand.training.same_options import fingerprint
from cliphand.training.samples import large_batch_line
from cliphand.training.start import dense_branch, partly_taken, start_from
from cliphand.training.state import SealedState, check_fit, read_state

EXPECTED_WARNINGS = (
    ".*log_every_n_steps.*",  # every epoch is logged, however few its batches
    ".*does not have many workers.*",  # validation reads few images
    ".*in eval mode at the start of training.*",  # the frozen text tower
    ".*broadcast_buffers.*",  # its successor is not in every version of torch that is allowed
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
    start: Checkpoint | None = None
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True, slots=True)
class Job:
    """A run with what was decided before it.

    Attributes:
        facts: of the run.
        goes_on: whether it goes on from the state in its folder.
        resume: whether the folder may hold a run.
        progress: whether a bar is shown.
    """

    run: Run
    facts: Mapping[str, object]
    goes_on: bool
    resume: bool
    progress: bool


def train_hand(
    run: Run, *, resume: bool = False, progress: bool = True, tell: Callable[[str], None] = lambda line: None
) -> Path:
    """Train and return the run folder.

    Args:
        run: data, configs and place of the run.
        resume: go on after the last finished epoch of `run.out`, which must hold the same configs.
        progress: show a progress bar.
        tell: called with what is worth a line.

    Raises:
        InputError: data, configs, weights or the run folder do not allow the run; nothing was written then.
        RunError: the run could not go on; what it had saved stays.
    """
    check_place(run.out, resume=resume)
    data = open_freihand(run.data, "training")
    fit_labels, _ = validation_split(data.n_labels, run.train.validation_fraction, run.train.seed)
    for remark in (cut_off_line(data, run.crop), large_batch_line(len(fit_labels) * data.n_versions, run.train)):
        if remark is not None:
            tell(remark)
    line = None if run.start is None else partly_taken(run.model, run.start)
    if line is not None:
        tell(line)
    refuse_other_hand(data, run.topology, source="the topology of this run (--hand, or the data's hand.npz)")
    if run.train.loss.surface > 0:
        require_layers(run.data, "training", option="--weight-surface")
    facts = run_facts(run, data)
    resumed = SealedState(state_to_resume(run.out, facts, resume=resume))
    if resumed.state is None and (run.out / RUN_FILE).exists():
        tell(f"No epoch had finished in {run.out}; the run starts from the beginning.")
    if resumed.state is not None and not epochs_left(resumed.state, run.train.epochs, run.out):
        tell(f"All {run.train.epochs} epochs of {run.out} had finished; a larger --epochs goes on.")
    job = Job(run, facts, resumed.state is not None, resume, progress)
    if run.train.devices == 1:
        _train(job, ALONE, data, resumed)
    else:
        del data, resumed  # each process reads its own
        backend = "nccl" if accelerator_of(run.train) == "cuda" else "gloo"
        train_in_processes(train_rank, job, run.train.devices, backend=backend)
    return run.out


def train_rank(job: Job, rank: Rank) -> None:
    """What each of several processes of a run does; the first also writes.

    Raises:
        InputError: as `train_hand`.
        RunError: the loss is not finite.
    """
    state = read_state(job.run.out / RESUME_FILE) if job.goes_on else None
    _train(job, rank, open_freihand(job.run.data, "training"), SealedState(state))


def _train(job: Job, rank: Rank, data: FreiHand, resumed: SealedState) -> None:
    """Train on open data, from a state that was read or from the beginning."""
    run = job.run
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = make_trainer(job, rank, resumed)
    lightning.seed_everything(run.train.seed, verbose=False)
    model = build_model(run)
    module = run.recipe.module(model, topology=run.topology, model_config=run.model, train=run.train)
    first_epoch = 0
    if resumed.state is not None:
        trained = {name: value for name, value in module.state_dict().items() if not name.startswith(TOWER)}
        check_fit(resumed.state, trained, source=str(run.out / RESUME_FILE))
        first_epoch = finished_epochs(resumed.state)
    pairs, labelled = make_loaders(
        data,
        run.recipe,
        rank,
        crop=run.crop,
        side_px=run.model.input_size,
        train=run.train,
        tokenise=uses_text(run.train),
        pin=accelerator_of(run.train) == "cuda",
        first_epoch=first_epoch,
    )
    with writing(run.out, resume=job.resume) if rank.writes else nullcontext():
        if rank.writes and resumed.state is None:
            write_json(run.out / RUN_FILE, job.facts, None)
        elif rank.writes and resumed.state is not None:
            refuse_older(resumed.state, run.out)  # than what another process has left meanwhile
        path = run.out / RESUME_FILE if job.goes_on else None  # which makes the trainer ask for the state
        try:
            with _quiet():
                trainer.fit(module, pairs, labelled, ckpt_path=path, weights_only=True)
        except InputError as error:
            raise InputError(own_sentence(error)) from None
        except FloatingPointError as error:
            raise RunError(f"{error}; {_way_on(run)}.") from None


def _way_on(run: Run) -> str:
    """What to do about a run whose loss or weights are not finite; resumed as it is, it would come there again."""
    change = "a lower --learning-rate"
    if run.train.precision != "32-true":
        change += " or --precision 32-true"
    if not read_history(run.out):
        return f"no epoch had finished: the same command (without --resume) with {change} starts again"
    if not run.recipe.takes_start:
        return f"its checkpoints stay: begin again in another --out with {change}"
    return f"its checkpoints stay: go on from them in another --out with --start {run.out / LAST} and {change}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the trainer says of things that are as they should be."""
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def run_facts(run: Run, data: FreiHand) -> dict[str, object]:
    """What `run.json` records, and what travels with the checkpoints into every later report."""
    return {
        "data": str(run.data.resolve()),
        "start": None if run.start is None else str(run.start.path.resolve()),
        "start_sha256": None if run.start is None else run.start.sha256,
        "identity": data_identity(data, run.topology),
        "model": to_json(run.model),
        "crop": to_json(run.crop),
        "train": to_json(run.train),
        "recipe": run.recipe.facts(),
        "text_tower": run.train.text.tower,
        "accelerator": accelerator_of(run.train),
        "commit": git_commit(),
        "versions": library_versions(),
    }


def uses_text(train: TrainConfig) -> bool:
    """Whether the run has a text branch, and so prompts."""
    return train.loss.clip > 0 and train.stage == "mesh"


def build_model(run: Run) -> ClipHand:
    """The full network, with the weights it starts from."""
    imagenet = run.train.backbone_weights == "imagenet" and run.start is None
    hand = HandModel(run.model, level_templates(run.topology, run.model.levels), imagenet_weights=imagenet)
    hand.encoder.to(memory_format=torch.channels_last)  # a quarter of a CPU's step; the numbers stay
    interpolate_from_template(hand.mesh_regressor, run.topology, run.model.levels)
    if run.start is not None:
        start_from(hand, run.model, run.start)
    dense = dense_branch(hand, run.start) if run.train.loss.dense else None
    if not uses_text(run.train):
        return ClipHand(hand, None, dense)
    tower = TextTower(run.train.text.tower, seed=run.train.seed)
    return ClipHand(hand, TextBranch(run.model, run.train.text, tower), dense)


def make_trainer(job: Job, rank: Rank, resumed: SealedState) -> lightning.Trainer:
    """Lightning's trainer with this project's bar and recorder."""
    run, train = job.run, job.run.train
    recorder = RunRecorder(
        run.out,
        run=fingerprint(job.facts),
        model=run.model,
        crop=run.crop,
        topology=run.topology,
        train=train,
        facts=job.facts,
    )
    callbacks: list[Callback] = [recorder, MeanStatistics()]
    if job.progress:
        callbacks.append(EpochBar())
    return lightning.Trainer(
        accelerator=accelerator_of(train),
        devices=train.devices,
        strategy="auto" if rank.processes == 1 else data_parallel(),
        precision=train.precision,
        max_epochs=train.epochs,
        gradient_clip_val=train.gradient_clip or None,
        logger=False,
        plugins=[resumed],
        callbacks=callbacks,
        enable_checkpointing=True,
        enable_progress_bar=job.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
