"""What one training step and one validation step do.

Source: paper sections 3.5 and 4.2.
"""

from collections.abc import Mapping
from typing import cast

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import StepLR

from cliphand.arrays import FloatArray
from cliphand.camera import uvd_to_camera
from cliphand.config import LossConfig, ModelConfig, TrainConfig
from cliphand.hand import HandTopology
from cliphand.metrics import pa_pjpe_mm
from cliphand.model.clip_hand import ClipHand
from cliphand.model.joint_regressor import JointPrediction
from cliphand.training.contrast import clip_loss, match_logits, retrieval_accuracy
from cliphand.training.dataset import Labelled, Pair
from cliphand.training.losses import consistency_2d, consistency_3d, edge_loss, normal_loss, point_l1

TOWER = "model.text.tower."
VALIDATION_METRIC = "val_pa_pjpe_mm"


def weighted_sum(terms: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """L of section 3.5."""
    return torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()


class HandTraining(lightning.LightningModule):
    """Losses, optimiser and validation of `ClipHand`, for one of the two stages."""

    faces: Tensor

    def __init__(
        self, model: ClipHand, *, topology: HandTopology, model_config: ModelConfig, train: TrainConfig
    ) -> None:
        super().__init__()
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
        terms = self.loss_terms(batch)
        total = weighted_sum(terms, self.train_config.loss)
        if not torch.isfinite(total):
            parts = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
            raise FloatingPointError(f"the loss is not finite ({parts}); lower the learning rate or use 32-true")
        size = batch.affine.shape[0]
        self.log("loss", total, prog_bar=True, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        named = {f"loss_{name}": value for name, value in terms.items()}
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return total

    def loss_terms(self, batch: Pair) -> dict[str, Tensor]:
        """The stage's terms by their names in `LossConfig`: all of section 3.5, or those that need joints only."""
        images = torch.cat([batch.first.image, batch.second.image])
        if self.train_config.stage == "joints":
            return self._joint_terms(self.model.hand.predict_joints(images), batch)
        joints, verts = self.model.hand.predict(images)
        target = torch.cat([batch.first.verts_uvd, batch.second.verts_uvd])
        verts = verts.float()
        first_joints, second_joints = joints.uvd.chunk(2)
        first, second = verts.chunk(2)
        return self._joint_terms(joints, batch) | {
            "vertices": point_l1(verts, target),
            "normals": normal_loss(verts, target, self.faces),
            "edges": edge_loss(verts, target, self.faces),
            "consistency_3d": consistency_3d(first, second, first_joints, second_joints, batch.affine),
        }

    def _joint_terms(self, joints: JointPrediction, batch: Pair) -> dict[str, Tensor]:
        target = torch.cat([batch.first.joints_uvd, batch.second.joints_uvd])
        first, second = joints.uvd.chunk(2)
        terms = {"joints": point_l1(joints.uvd, target), "consistency_2d": consistency_2d(first, second, batch.affine)}
        if self.model.text is not None:
            terms["clip"] = self._clip_term(joints, batch)
        return terms

    def _clip_term(self, joints: JointPrediction, batch: Pair) -> Tensor:
        """L_CLIP on the first views: two views of one photograph would be each other's false negatives."""
        text = self.model.text
        assert text is not None  # noqa: S101  # the caller asked
        x, y, z = (axis.chunk(2)[0] for axis in joints.logits)
        logits = match_logits(text((x, y, z), batch.tokens), text.scales())
        size = batch.affine.shape[0]
        accuracy = retrieval_accuracy(logits.detach())
        self.log("retrieval_accuracy", accuracy, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return clip_loss(logits)

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
        self._log_error(VALIDATION_METRIC, self.regressor @ self._metres(verts, batch), batch)
        self._log_error("val_lixel_pa_pjpe_mm", self._metres(joints, batch), batch)

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
        """AdamW with a step schedule over epochs."""
        config = self.train_config
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = StepLR(optimiser, step_size=config.step_epochs, gamma=config.step_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

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
