"""Fine-tuning with the INT8 graph's rounding in every step, for models that quantisation after training moves too far.

The network learns from the labels and from itself: what the checkpoint computed in FP32 on the same views.

The rounding is placed by the exporter itself: the checkpoint that the run starts from is traced and calibrated as
`cliphand export --int8` does, and every Q and DQ of that graph is found again in the traced program. The result is an
ordinary checkpoint. Its export calibrates anew, on the images whose ranges were used here.
"""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
import torch
from torch import Tensor

from cliphand.checkpoint import Checkpoint
from cliphand.config import ModelConfig, TrainConfig
from cliphand.errors import InputError
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel
from cliphand.training.losses import point_l1
from cliphand.training.module import VALIDATION_METRIC, HandTraining, both_views
from cliphand.training.recipe import Recipe
from cliphand.training.samples import Labelled, Pair
from export.graph.deploy_model import deploy_model
from export.graph.fold import fold, live_fold, merged_encoder
from export.graph.folded_model import FoldedHand
from export.graph.trace import Trace, simplify, trace_folded
from export.precision.calibration import CalibrationRequest, read_calibration
from export.precision.half import modelopt_ready
from export.precision.quantise import calibrate
from export.precision.table import Keep, kept_nodes, union
from export.qat.fake_quantise import QuantisedInput, RoundedProgram, lost, quantised_places, quantiser

BATCH = 8
RANGE_TOLERANCE = 0.01  # the same sums in another order
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
        return QuantiseAwareTraining(
            model,
            topology=topology,
            model_config=model_config,
            train=train,
            program=rounded_program(deployed, images[:1], model_config.input_size),
            images=images,
            weight=self.weight,
        )


def rounded_program(model: HandModel, images: Tensor, input_size: int) -> RoundedProgram:
    """The program of a model, rounded where the exporter quantises the model's graph.

    Args:
        model: in evaluation mode.
        images: (N, 3, S, S) normalised, to try it on; where Q and DQ stand does not depend on them.
        input_size: S.

    Raises:
        InputError: ModelOpt is not installed or fails, or a quantised node is not found again in the program.
    """
    trace, graph = calibrated_trace(model, images, input_size)
    program = RoundedProgram(trace.program, quantised_places(graph.graph, trace))
    check_ranges(measure(live_fold(model, merged_encoder(model.encoder)), program, images))
    return program


def calibrated_trace(model: HandModel, images: Tensor, input_size: int) -> tuple[Trace, onnx.ModelProto]:
    """What the exporter traces of a model, and the graph with its Q and DQ."""
    trace = trace_folded(fold(model), input_size)
    with modelopt_ready(), tempfile.TemporaryDirectory() as scratch:
        source, calibrated = Path(scratch) / "model.onnx", Path(scratch) / "calibrated.onnx"
        onnx.save_model(simplify(trace.graph), source)
        keep = union(kept_nodes(onnx.load(source).graph, "int8", Keep()))
        calibrate(source, calibrated, keep=keep, images=images.numpy(), method="max")
        return trace, onnx.load(calibrated)


def measure(folded: FoldedHand, program: RoundedProgram, images: Tensor) -> dict[QuantisedInput, float]:
    """Largest magnitude at each place over images, without rounding, as the exporter's calibration measures it."""
    largest: dict[QuantisedInput, float] = {}

    def observe(place: QuantisedInput, value: Tensor) -> Tensor:
        largest[place] = max(largest.get(place, 0.0), float(value.abs().max()))
        return value

    with torch.no_grad():
        for batch in torch.split(images, BATCH):
            program.compute(folded, batch, round_input=observe)
    return largest


def check_ranges(measured: Mapping[QuantisedInput, float]) -> None:
    """Make sure that each place holds what the exporter's calibration found there, on the same images.

    Raises:
        InputError: one does not: it is another operation's.
    """
    for place, largest in measured.items():
        # Where all is zero, any range would do.
        if place.axis is None and largest > 0 and not math.isclose(largest, place.largest, rel_tol=RANGE_TOLERANCE):
            raise InputError(lost(place.node, f"it reads up to {place.largest:.4g}, {place.operation} {largest:.4g}"))


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
        program: RoundedProgram,
        images: Tensor,
        weight: float,
    ) -> None:
        super().__init__(model, topology=topology, model_config=model_config, train=train)
        self.program = program
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
        return self.program.compute(self.fold(), images, round_input=quantiser(self.ranges))

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
        self.ranges = measure(self.fold(), self.program, self.images)

    def validation_step(self, batch: Labelled, batch_index: int) -> None:
        """PA-PJPE of the joints regressed from the mesh, in INT8 and in FP32."""
        self.log_mesh_error(VALIDATION_METRIC, self.predict(batch.image)[1], batch)
        self.log_mesh_error(FP32_METRIC, self.model.hand(batch.image)[1], batch)
