"""What one training step and one validation step do.

Source: paper sections 3.5 and 4.2.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, StepLR

from cliphand.arrays import FloatArray
from cliphand.camera import uvd_to_camera
from cliphand.config import LossConfig, ModelConfig, TrainConfig, require
from cliphand.hand import HandTopology
from cliphand.metrics import pa_pjpe_mm
from cliphand.model.clip_hand import ClipHand, Matched, TextBranch
from cliphand.model.hand_model import HandPrediction
from cliphand.model.image_encoder import Maps
from cliphand.model.joint_regressor import JointPrediction
from cliphand.training.contrast import clip_loss, match_logits, retrieval_accuracy
from cliphand.training.distil_config import DistilConfig
from cliphand.training.losses import (
    consistency_2d,
    consistency_3d,
    edge_loss,
    heatmap_cross_entropy,
    heatmap_cross_entropy_2d,
    normal_loss,
    point_l1,
    surface_loss,
)
from cliphand.training.samples import Labelled, Pair

TOWER = "model.text.tower."
VALIDATION_METRIC = "val_pa_pjpe_mm"
WARM_UP = 20

JOINT_TERMS = frozenset({"joints", "consistency_2d", "heatmaps", "heatmaps_2d", "surface"})
# Terms by their names in `LossConfig`; only a model with a text branch has the last.
STAGE_TERMS = {
    "joints": JOINT_TERMS,
    "mesh": JOINT_TERMS | {"vertices", "normals", "edges", "consistency_3d", "clip"},
}


def weighted_sum(terms: Mapping[str, Tensor], weights: LossConfig | DistilConfig) -> Tensor:
    """L of section 3.5, or what a teacher adds to it; zero where there is no term."""
    if not terms:
        return torch.zeros(())
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()


def cosine_share(step: int, steps: int) -> float:
    """Share of the learning rate at a step: up over the first twentieth, then down to zero as a cosine."""
    rising = min((step + 1) / max(steps // WARM_UP, 1), 1.0)
    return rising * (1 + math.cos(math.pi * step / steps)) / 2


def both_views(batch: Pair) -> Tensor:
    """(2 B, 3, S, S): the first views, then the second."""
    return torch.cat([batch.first.image, batch.second.image])


class HandTraining(lightning.LightningModule):
    """Losses, optimiser and validation of `ClipHand`, for one of the two stages.

    Raises:
        InputError: no term of the stage's loss has a weight.
    """

    faces: Tensor
    has_more_terms: ClassVar[bool] = False  # than those of `LossConfig`

    def __init__(
        self, model: ClipHand, *, topology: HandTopology, model_config: ModelConfig, train: TrainConfig
    ) -> None:
        super().__init__()
        terms = STAGE_TERMS[train.stage] - (set() if model.text is not None else {"clip"})
        require(
            self.has_more_terms or any(getattr(train.loss, name) != 0 for name in terms),
            f"no term of the loss in stage {train.stage} has a weight; give one that is not zero.",
        )
        self.model = model
        self.train_config = train
        self.side_px = model_config.input_size
        self.register_buffer("faces", torch.from_numpy(topology.faces), persistent=False)
        self.regressor = topology.joint_regressor
        # The frozen tower is not in the saved state; everything else is loaded strictly (see on_load_checkpoint).
        self.strict_loading = False
        if train.stage == "joints":
            model.hand.joint_feature.requires_grad_(False)
            model.hand.mesh_regressor.requires_grad_(False)

    def training_step(self, batch: Pair, batch_index: int) -> Tensor:
        """The weighted sum of section 3.5 on a batch of pairs."""
        return self.step(self.loss_terms(batch), size=batch.affine.shape[0])

    def step(self, terms: Mapping[str, Tensor], *, size: int) -> Tensor:
        """Log the terms and their sum over a batch of `size` pairs; the sum is what is minimised."""
        total = self.total(terms)
        if not torch.isfinite(total):
            parts = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
            raise FloatingPointError(f"the loss is not finite ({parts})")
        self.log("loss", total, prog_bar=True, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        named = {f"loss_{name}": value for name, value in terms.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return total

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms."""
        return weighted_sum(terms, self.train_config.loss)

    def loss_terms(self, batch: Pair) -> dict[str, Tensor]:
        """The stage's terms by their names in `LossConfig`: all of section 3.5, or those that need joints only.

        A term without a weight is neither computed nor logged.
        """
        images = both_views(batch)
        if self.train_config.stage == "joints":
            maps = self.model.hand.encoder(images).maps
            joints = self.model.hand.joint_regressor(maps[-1])
            return self.joint_terms(joints.uvd, batch) | self.map_terms(joints, maps, batch)
        return self.hand_terms(self.model.hand.predict(images), batch)

    def hand_terms(self, prediction: HandPrediction, batch: Pair) -> dict[str, Tensor]:
        """The terms of section 3.5 of a prediction on both views."""
        joints, verts, maps = prediction
        terms = self.point_terms(joints.uvd, verts, batch) | self.map_terms(joints, maps, batch)
        text = self.model.text
        if text is not None:
            x, y, z = (axis.chunk(2)[0] for axis in joints.logits)
            matched = text((x, y, z), batch.tokens)
            terms |= self._weighed({"clip": lambda: self._clip_term(text, matched, batch)})
        return terms

    def point_terms(self, joints: Tensor, verts: Tensor, batch: Pair) -> dict[str, Tensor]:
        """The terms of joints (2 B, 21, 3) and vertices (2 B, 778, 3) in uvd, first views first."""
        target = torch.cat([batch.first.verts_uvd, batch.second.verts_uvd])
        first_joints, second_joints = joints.chunk(2)
        first, second = verts.chunk(2)
        how = self.train_config.reduction
        views = (first, second, first_joints, second_joints, batch.affine)
        terms = {
            "vertices": lambda: point_l1(verts, target, reduction=how),
            "normals": lambda: normal_loss(verts, target, self.faces, reduction=how),
            "edges": lambda: edge_loss(verts, target, self.faces, reduction=how),
            "consistency_3d": lambda: consistency_3d(*views, reduction=how),
        }
        return self.joint_terms(joints, batch) | self._weighed(terms)

    def joint_terms(self, joints: Tensor, batch: Pair) -> dict[str, Tensor]:
        """The terms of joints (2 B, 21, 3) in uvd, first views first."""
        target = torch.cat([batch.first.joints_uvd, batch.second.joints_uvd])
        first, second = joints.chunk(2)
        how = self.train_config.reduction
        terms = {
            "joints": lambda: point_l1(joints, target, reduction=how),
            "consistency_2d": lambda: consistency_2d(first, second, batch.affine, reduction=how),
        }
        return self._weighed(terms)

    def map_terms(self, joints: JointPrediction, maps: Maps, batch: Pair) -> dict[str, Tensor]:
        """The terms of the 1D heatmaps, and of what the dense branch reads from the pyramid's maps."""
        terms = {"heatmaps": lambda: self._heatmaps_term(joints, batch)}
        if self.model.dense is not None:
            dense = self.model.dense(maps)
            uv = torch.cat([batch.first.joints_uvd, batch.second.joints_uvd])[..., :2]
            surface = torch.cat([batch.first.surface, batch.second.surface])
            terms["heatmaps_2d"] = lambda: heatmap_cross_entropy_2d(dense.heatmaps, uv)
            terms["surface"] = lambda: surface_loss(dense, surface)
        return self._weighed(terms)

    def _heatmaps_term(self, joints: JointPrediction, batch: Pair) -> Tensor:
        """The cross entropy of the 1D heatmaps, summed over the axes."""
        regressor = self.model.hand.joint_regressor
        u, v, d = torch.cat([batch.first.joints_uvd, batch.second.joints_uvd]).unbind(-1)
        positions = (regressor.positions_xy, regressor.positions_xy, regressor.positions_z)
        targets = (u, v, d / regressor.depth_range + regressor.depth_origin)
        axes = zip(joints.logits, positions, targets, strict=True)
        return torch.stack([heatmap_cross_entropy(*axis) for axis in axes]).sum()

    def _weighed(self, terms: Mapping[str, Callable[[], Tensor]]) -> dict[str, Tensor]:
        """The terms whose weight is not zero; only those are computed, in float32 under autocast too."""
        with torch.autocast(self.device.type, enabled=False):
            return {name: term() for name, term in terms.items() if getattr(self.train_config.loss, name) != 0}

    def _clip_term(self, text: TextBranch, matched: Matched, batch: Pair) -> Tensor:
        """L_CLIP on the first views: two views of one photograph would be each other's false negatives."""
        logits = match_logits(matched, text.scales())
        size = batch.affine.shape[0]
        accuracy = retrieval_accuracy(logits.detach())
        self.log("retrieval_accuracy", accuracy, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return clip_loss(logits, reduction=self.train_config.reduction)

    def on_train_batch_end(self, *_: object) -> None:
        """Keep the temperatures in their range."""
        if self.model.text is not None:
            self.model.text.clamp_scales()

    def validation_step(self, batch: Labelled, batch_index: int) -> None:
        """PA-PJPE: of the joints regressed from the mesh, and of the joint regressor (all there is in stage 1)."""
        hand = self.model.hand
        if self.train_config.stage == "joints":
            self._log_error(VALIDATION_METRIC, self._metres(hand.predict_joints(batch.image).uvd, batch), batch)
            return
        joints, verts = hand(batch.image)
        self.log_mesh_error(VALIDATION_METRIC, verts, batch)
        self._log_error("val_lixel_pa_pjpe_mm", self._metres(joints, batch), batch)

    def log_mesh_error(self, name: str, verts: Tensor, batch: Labelled) -> None:
        """Log the PA-PJPE of the joints regressed from vertices (B, 778, 3) in uvd."""
        self._log_error(name, self.regressor @ self._metres(verts, batch), batch)

    def _metres(self, uvd: Tensor, batch: Labelled) -> FloatArray:
        return uvd_to_camera(
            uvd.detach().double().cpu().numpy(),
            batch.K.cpu().numpy(),
            side_px=self.side_px,
            root_depth_m=batch.root_depth_m.cpu().numpy(),
            bone_m=batch.bone_m.cpu().numpy(),
        )

    def _log_error(self, name: str, predicted: FloatArray, batch: Labelled) -> None:
        error = pa_pjpe_mm(predicted, batch.xyz_m.cpu().numpy())
        self.log(
            name,
            torch.tensor(error, dtype=torch.float32, device=self.device),
            prog_bar=True,
            on_epoch=True,
            batch_size=len(batch.image),
            sync_dist=True,
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with the schedule that the run names."""
        config = self.train_config
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # One kernel over all weights; under 16-mixed it would unscale the gradients after they were clipped.
        fused = config.precision != "16-mixed"
        optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
        if config.schedule == "cosine":
            steps = int(self.trainer.estimated_stepping_batches)
            cosine = LambdaLR(optimiser, lambda step: cosine_share(step, steps))
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}
        schedule = StepLR(optimiser, step_size=config.step_epochs, gamma=config.step_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm over all weights; the trainer's own refuses a fused optimiser even where nothing is scaled."""
        if gradient_clip_val:
            clip_grad_norm_(self.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Leave the frozen tower out: 250 MB that the config gives back."""
        state = cast("dict[str, Tensor]", checkpoint["state_dict"])
        checkpoint["state_dict"] = {key: value for key, value in state.items() if not key.startswith(TOWER)}

    def on_load_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Refuse a state that lacks anything but the tower, or holds anything else."""
        state = cast("Mapping[str, Tensor]", checkpoint["state_dict"])
        expected = {key for key in self.state_dict() if not key.startswith(TOWER)}
        if set(state) != expected:
            odd = sorted(set(state) ^ expected)[0]
            raise RuntimeError(f"the saved state does not fit the model: '{odd}'")
