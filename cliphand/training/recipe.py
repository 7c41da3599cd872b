"""What a run does beyond the paper's training: nothing, or what a recipe derived from this one adds."""

from collections.abc import Mapping
from typing import ClassVar

from torch.utils.data import Dataset

from cliphand.config import ModelConfig, TrainConfig
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.training.module import HandTraining
from cliphand.training.samples import PairDataset


class Recipe:
    """The paper's training.

    Attributes:
        takes_start: whether a run may start from any checkpoint of its shape.
    """

    takes_start: ClassVar[bool] = True

    def facts(self) -> Mapping[str, object]:
        """JSON values of `run.json`; a resumed run must have the same."""
        return {}

    def samples(self, pairs: PairDataset) -> Dataset[object]:
        """What the module's training step takes, indexed as `pairs` is."""
        return pairs

    def module(
        self, model: ClipHand, *, topology: HandTopology, model_config: ModelConfig, train: TrainConfig
    ) -> HandTraining:
        """Losses, optimiser and validation."""
        return HandTraining(model, topology=topology, model_config=model_config, train=train)
