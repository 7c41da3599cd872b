"""The batches of one process of a run: what it trains on, and what it validates on."""

import sys

import cv2
import open_clip
import torch
from torch.utils.data import DataLoader

from cliphand.config import CropConfig, TrainConfig
from cliphand.data.freihand import FreiHand, validation_split
from cliphand.errors import InputError
from cliphand.lifeline import LEFT_S, end_with_parent
from cliphand.model.text_encoder import TOWER as TOWER_NAME
from cliphand.training.ranks import Rank
from cliphand.training.recipe import Recipe
from cliphand.training.samples import EpochSampler, Labelled, LabelledDataset, PairDataset

# Forked workers share the labels, which are hundreds of megabytes; elsewhere than on Linux forking is not safe.
START = "fork" if sys.platform == "linux" else None


def make_loaders(
    data: FreiHand,
    recipe: Recipe,
    rank: Rank,
    *,
    crop: CropConfig,
    side_px: int,
    train: TrainConfig,
    tokenise: bool,
    pin: bool,
    first_epoch: int,
) -> tuple[DataLoader[object], DataLoader[Labelled]]:
    """Loaders of a process's training pairs and of the validation images, which every process sees all of.

    Args:
        data: with all samples.
        recipe: what a training sample is.
        rank: the process.
        crop: how photographs are cut.
        side_px: side of the model's input.
        train: batch, workers, and what chance decides.
        tokenise: whether a text branch reads prompts.
        pin: whether batches go to a GPU.
        first_epoch: with which the training begins.
    """
    fit_labels, held_out = validation_split(data.n_labels, train.validation_fraction, train.seed)
    pairs = PairDataset(
        data,
        data.image_indices(fit_labels),
        crop=crop,
        side_px=side_px,
        train=train,
        tokenise=PromptTokens(open_clip.get_tokenizer(TOWER_NAME)) if tokenise else None,
    )
    # Version 0 of a sample is the photograph itself; the others show it on other backgrounds.
    shown = held_out if len(held_out) else fit_labels
    labelled = LabelledDataset(data, shown, crop=crop, side_px=side_px)
    return (
        DataLoader(
            recipe.samples(pairs),
            batch_size=train.batch,
            sampler=EpochSampler(
                pairs, train=train, rank=rank.number, processes=rank.processes, first_epoch=first_epoch
            ),
            num_workers=train.workers,
            multiprocessing_context=START if train.workers else None,
            persistent_workers=train.workers > 0,
            worker_init_fn=_start_worker,
            pin_memory=pin,
        ),
        DataLoader(labelled, batch_size=train.batch, num_workers=0, pin_memory=pin),
    )


def _start_worker(worker: int) -> None:
    """A loader's workers are the parallelism: OpenCV's own threads in each of them would only contend."""
    end_with_parent(outlast_s=LEFT_S)
    cv2.setNumThreads(0)


def own_sentence(error: InputError) -> str:
    """What an error says; of one that was raised in a loader's process, PyTorch makes a text that ends in it."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return text.rstrip().splitlines()[-1].partition(f"{type(error).__name__}: ")[2]


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
