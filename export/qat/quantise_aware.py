"""Fine-tuning with the INT8 graph's rounding in every step, for models that quantisation after training moves too far.

The network learns from the labels and from itself: what the checkpoint computed in FP32 on the same views.

The rounding is placed by the exporter itself: the checkpoint that the run starts from is exported and calibrated as
`cliphand export --int8` does, and every Q and DQ of that graph is found again in the folded network. The result is an
ordinary checkpoint. Its export calibrates anew, on the images whose ranges were used here.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
import torch
from torch import Tensor

from cliphand.checkpoint import Checkpoint
from cliphand.config import ModelConfig, TrainConfig, require
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel
from cliphand.training.dataset import Labelled, Pair
from cliphand.training.losses import point_l1
from cliphand.training.module import VALIDATION_METRIC, HandTraining, both_views
from cliphand.training.recipe import Recipe
from export.graph.deploy_model import deploy_model
from export.graph.fold import live_fold, merged_encoder
from export.graph.folded_model import FoldedHand
from export.graph.trace import export_graph
from export.precision.calibration import CalibrationRequest, read_calibration
from export.precision.half import modelopt_ready
from export.precision.quantise import calibrate
from export.precision.table import Keep, kept_nodes, union
from export.qat.fake_quantise import FakeQuantisation, QuantisedInput, named_tensors, quantised_places

BATCH = 8
DRIFT = "drift"  # from the checkpoint in FP32
FP32_METRIC = "val_fp32_pa_pjpe_mm"


@dataclass(frozen=True, slots=True)
class QuantiseAware(Recipe):
    """Fine-tuning of a checkpoint as its INT8 graph.

    Attributes:
        start: the checkpoint.
        calibration: images whose ranges the rounding takes; the exporter's default choice.
        weight: of the distance from what the checkpoint computes in FP32.
    """

    takes_start: ClassVar[bool] = False  # beside the one that it quantises

    start: Checkpoint
    calibration: CalibrationRequest
    weight: float = 1.0

    def facts(self) -> Mapping[str, object]:
        """The checkpoint and the images, by what chose them."""
        return {
            "quantise_aware": self.start.sha256,
            "calibration_images": self.calibration.images,
            "calibration_seed": self.calibration.seed,
            "held_out": self.calibration.held_out_facts(),
            "weight": self.weight,
        }

    def module(
        self, model: ClipHand, *, topology: HandTopology, model_config: ModelConfig, train: TrainConfig
    ) -> HandTraining:
        """The module, with the places that the exporter chooses for the checkpoint."""
        images = torch.from_numpy(read_calibration(self.calibration, self.start.crop, model_config.input_size).images)
        deployed = deploy_model(model)
        graph = calibrated_graph(deployed, images[:1], model_config.input_size).graph
        return QuantiseAwareTraining(
            model,
            topology=topology,
            model_config=model_config,
            train=train,
            places=find_places(deployed, graph, images[:1]),
            images=images,
            weight=self.weight,
        )


def calibrated_graph(model: HandModel, images: Tensor, input_size: int) -> onnx.ModelProto:
    """The graph of a model with the exporter's Q and DQ.

    Args:
        model: to be exported.
        images: (N, 3, S, S) normalised; where Q and DQ stand does not depend on them.
        input_size: S.

    Raises:
        InputError: ModelOpt is not installed or fails.
    """
    with modelopt_ready(), tempfile.TemporaryDirectory() as scratch:
        source, calibrated = Path(scratch) / "model.onnx", Path(scratch) / "calibrated.onnx"
        export_graph(model, source, input_size=input_size)
        keep = union(kept_nodes(onnx.load(source).graph, "int8", Keep()))
        calibrate(source, calibrated, keep=keep, images=images.numpy(), method="max")
        return onnx.load(calibrated)


def find_places(model: HandModel, graph: onnx.GraphProto, image: Tensor) -> tuple[QuantisedInput, ...]:
    """Where the exporter quantises a model.

    Args:
        model: in evaluation mode.
        graph: from `calibrated_graph`.
        image: (1, 3, S, S) normalised, to try them on.

    Raises:
        InputError: a place is not found again in PyTorch.
    """
    folded = live_fold(model, merged_encoder(model.encoder))
    places = quantised_places(graph, (name for name, _ in named_tensors(folded)))
    seen = measure(folded, places, image)
    lost = [place.node for place in places if place not in seen]
    require(
        not lost,
        f"{len(lost)} nodes that the exporter quantises are not found again in PyTorch, {lost[:1]} among them; this "
        "backbone cannot be trained quantisation-aware.",
    )
    return places


def measure(folded: FoldedHand, places: Sequence[QuantisedInput], images: Tensor) -> dict[QuantisedInput, float]:
    """Largest magnitude at each place over images, without rounding, as the exporter's calibration measures it."""
    largest: dict[QuantisedInput, float] = {}

    def observe(place: QuantisedInput, value: Tensor) -> None:
        largest[place] = max(largest.get(place, 0.0), float(value.abs().max()))

    with torch.no_grad(), FakeQuantisation(folded, places, observe=observe) as mode:
        for batch in torch.split(images, BATCH):
            mode.turns.clear()
            folded(batch)
    return largest


class QuantiseAwareTraining(HandTraining):
    """The paper's losses on the network as its INT8 graph computes it.

    BatchNorm keeps its statistics: the export folds them. Ranges are measured anew after every epoch.
    """

    has_more_terms = True

    def __init__(
        self,
        model: ClipHand,
        *,
        topology: HandTopology,
        model_config: ModelConfig,
        train: TrainConfig,
        places: tuple[QuantisedInput, ...],
        images: Tensor,
        weight: float,
    ) -> None:
        super().__init__(model, topology=topology, model_config=model_config, train=train)
        self.places = places
        self.images = images
        self.ranges: dict[QuantisedInput, float] = {}
        self.weight = weight
        # In lists, they are no part of the saved state.
        self.before = [deploy_model(model)]
        self.merged = [merged_encoder(model.hand.encoder)]
        model.hand.eval()
        if self.merged[0] is not None:
            model.hand.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> "QuantiseAwareTraining":
        """Keep the network itself in evaluation mode."""
        super().train(mode)
        self.model.hand.eval()
        return self

    def fold(self) -> FoldedHand:
        """The folded network of the present weights."""
        return live_fold(self.model.hand, self.merged[0])

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (B, 21, 3) and vertices (B, 778, 3) in uvd, as INT8 computes them."""
        folded = self.fold()
        with FakeQuantisation(folded, self.places, self.ranges):
            return folded(images)

    def loss_terms(self, batch: Pair) -> dict[str, Tensor]:
        """The terms of joints and vertices, and their distance from FP32's."""
        images = both_views(batch)
        joints, verts = (points.float() for points in self.predict(images))
        with torch.no_grad():
            joints_before, verts_before = self.before[0](images)
        drift = point_l1(joints, joints_before.float()) + point_l1(verts, verts_before.float())
        return self.point_terms(joints, verts, batch) | {DRIFT: drift}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms."""
        labelled = {name: value for name, value in terms.items() if name != DRIFT}
        return super().total(labelled) + self.weight * terms[DRIFT]

    def on_fit_start(self) -> None:
        """Bring what the run compares with to the model's device."""
        self.before[0].to(self.device)
        self.images = self.images.to(self.device)
        if self.merged[0] is not None:
            self.merged[0].to(self.device)

    def on_train_epoch_start(self) -> None:
        """Measure the ranges for the first epoch."""
        if not self.ranges:
            self.on_validation_epoch_start()

    def on_validation_epoch_start(self) -> None:
        """Measure the ranges, as the export of these weights will."""
        self.ranges = measure(self.fold(), self.places, self.images)

    def validation_step(self, batch: Labelled, batch_index: int) -> None:
        """PA-PJPE of the joints regressed from the mesh, in INT8 and in FP32."""
        self.log_mesh_error(VALIDATION_METRIC, self.predict(batch.image)[1], batch)
        self.log_mesh_error(FP32_METRIC, self.model.hand(batch.image)[1], batch)
