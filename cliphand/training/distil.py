"""Distillation: a student learns from labels and, on the same crops, from what a trained teacher makes of them.

The teacher may have any backbone and input size. It sees each view's crop cut at its own size, without the changes of
colour, blur and noise that the student must cope with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from cliphand.checked import to_json
from cliphand.checkpoint import Checkpoint
from cliphand.config import CropConfig, ModelConfig, TrainConfig, require
from cliphand.data.crop import cut, normalise, resize_matrix
from cliphand.data.photograph import read_image
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandPrediction
from cliphand.training.distil_config import DistilConfig
from cliphand.training.losses import point_l1
from cliphand.training.module import HandTraining, both_views, weighted_sum
from cliphand.training.recipe import Recipe
from cliphand.training.samples import Pair, PairDataset

PREFIX = "teacher_"  # of the terms in the log


class Taught(NamedTuple):
    """A pair as student and teacher see it.

    Attributes:
        pair: the student's.
        first: (3, T, T) the first view's crop at the teacher's size, normalised for it.
        second: the second view's.
    """

    pair: Pair
    first: Tensor
    second: Tensor


@dataclass(frozen=True, slots=True)
class Distil(Recipe):
    """A teacher and how much it counts.

    Attributes:
        teacher: its checkpoint.
        weights: of the terms.
    """

    teacher: Checkpoint
    weights: DistilConfig

    def facts(self) -> Mapping[str, object]:
        """The teacher's weights by their hash, and the terms'."""
        return {"teacher": self.teacher.sha256, "weights": to_json(self.weights)}

    def samples(self, pairs: PairDataset) -> Dataset[object]:
        """Pairs with the teacher's crops."""
        return TaughtPairs(pairs, self.teacher.crop, self.teacher.model_config.input_size)

    def module(
        self, model: ClipHand, *, topology: HandTopology, model_config: ModelConfig, train: TrainConfig
    ) -> HandTraining:
        """The module; refuses a teacher whose heatmaps do not mean what the student's mean."""
        theirs = self.teacher.model_config
        require(train.stage == "mesh", f"stage is {train.stage}; a teacher teaches stage mesh.")
        require(
            self.weights.heatmaps == 0
            or (theirs.depth_range, theirs.depth_origin) == (model_config.depth_range, model_config.depth_origin),
            f"the teacher's depth bins span {theirs.depth_range} bones from {theirs.depth_origin}, the student's "
            f"{model_config.depth_range} from {model_config.depth_origin}; leave --preset out, or give "
            "--weight-teacher-heatmaps 0.",
        )
        return DistilTraining(
            model, topology=topology, model_config=model_config, train=train, teacher=self.teacher, weights=self.weights
        )


class TaughtPairs(Dataset[object]):
    """Training pairs with the same crops at the teacher's size."""

    def __init__(self, pairs: PairDataset, crop: CropConfig, side_px: int) -> None:
        self.pairs = pairs
        self.crop = crop
        self.side_px = side_px

    def __len__(self) -> int:
        """The number of images."""
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Taught:
        """The pair of image `position` in the given pass over the data."""
        pair, views = self.pairs.draw(key)
        image = read_image(self.pairs.data.image_path(int(self.pairs.images[key[1]])))
        resize = resize_matrix(self.pairs.side_px, self.side_px)
        first, second = (
            torch.from_numpy(normalise(cut(image, resize @ view.matrix, side_px=self.side_px), self.crop))
            for view in (views.first, views.second)
        )
        return Taught(pair, first, second)


class DistilTraining(HandTraining):
    """The paper's losses and the teacher's terms."""

    has_more_terms = True

    def __init__(
        self,
        model: ClipHand,
        *,
        topology: HandTopology,
        model_config: ModelConfig,
        train: TrainConfig,
        teacher: Checkpoint,
        weights: DistilConfig,
    ) -> None:
        super().__init__(model, topology=topology, model_config=model_config, train=train)
        self.weights = weights
        self.teacher = [teacher.model.requires_grad_(False)]  # in a list, it is no part of the saved state
        channels = zip(model.hand.encoder.channels, teacher.model.encoder.channels, strict=True)
        self.adapters = nn.ModuleList(adapter(*pair) for pair in channels if weights.features > 0)

    def on_fit_start(self) -> None:
        """Bring the teacher to the student's device."""
        self.teacher[0].to(self.device).eval()

    def training_step(self, batch: Taught, batch_index: int) -> Tensor:  # type: ignore[override]
        """The weighted sum of the paper's and the teacher's terms on a batch."""
        ours = self.model.hand.predict(both_views(batch.pair))
        terms = self.hand_terms(ours, batch.pair) | self.teacher_terms(ours, batch)
        return self.step(terms, size=batch.pair.affine.shape[0])

    def teacher_terms(self, ours: HandPrediction, batch: Taught) -> dict[str, Tensor]:
        """The terms that have a weight, by their names in `DistilConfig` after a prefix."""
        with torch.no_grad():
            theirs = self.teacher[0].predict(torch.cat([batch.first, batch.second]))

        def heatmaps() -> Tensor:
            logits = zip(ours.joints.logits, theirs.joints.logits, strict=True)
            return torch.stack([heatmap_loss(student, teacher) for student, teacher in logits]).mean()

        def features() -> Tensor:
            adapted = [adapt(student) for adapt, student in zip(self.adapters, ours.maps, strict=True)]
            return torch.stack([feature_loss(*pair) for pair in zip(adapted, theirs.maps, strict=True)]).mean()

        terms = {
            "joints": lambda: point_l1(ours.joints.uvd, theirs.joints.uvd),
            "vertices": lambda: point_l1(ours.verts_uvd, theirs.verts_uvd),
            "heatmaps": heatmaps,
            "features": features,
        }
        return {f"{PREFIX}{name}": term() for name, term in terms.items() if getattr(self.weights, name) > 0}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Both sums."""
        taught = {name.removeprefix(PREFIX): value for name, value in terms.items() if name.startswith(PREFIX)}
        own = {name: value for name, value in terms.items() if not name.startswith(PREFIX)}
        return super().total(own) + weighted_sum(taught, self.weights)


def adapter(student_channels: int, teacher_channels: int) -> nn.Conv2d:
    """A linear map from the student's features to the teacher's; where both are as long it begins as the identity."""
    layer = nn.Conv2d(student_channels, teacher_channels, 1)
    if student_channels == teacher_channels:
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def heatmap_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the student's heatmaps from the teacher's, mean over batch and joints.

    Args:
        student: (B, 21, n) logits.
        teacher: (B, 21, m) logits over the same span; brought to n bins where m differs.
    """
    target = teacher.softmax(dim=-1)
    if target.shape[-1] != student.shape[-1]:
        mode = "area" if target.shape[-1] > student.shape[-1] else "linear"
        target = functional.interpolate(target, size=student.shape[-1], mode=mode)
        target = target / target.sum(dim=-1, keepdim=True)
    logs = student.log_softmax(dim=-1)
    return functional.kl_div(logs, target, reduction="none").sum(dim=-1).mean()


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of two maps (B, C, h, w) and (B, C, H, W) over the variance of the teacher's.

    The teacher's map is brought to the student's size.
    """
    target = teacher.float()
    if target.shape[-2:] != student.shape[-2:]:
        target = functional.interpolate(target, size=student.shape[-2:], mode="bilinear", antialias=True)
    return (student.float() - target).square().mean() / target.var().clamp_min(1e-6)
