"""What a run leaves on disk after every epoch, each file whole or absent.

The resumable state comes first: it holds the history, from which everything else is written, again where a run was
stopped in between.
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback
from torch.utils.tensorboard import SummaryWriter

from cliphand.checkpoint import save_checkpoint
from cliphand.checkpoint_place import BEST, LAST
from cliphand.config import CropConfig, ModelConfig, TrainConfig
from cliphand.files import whole_file, write_json
from cliphand.hand import HandTopology
from cliphand.training.module import VALIDATION_METRIC, HandTraining
from cliphand.training.run_place import METRICS_FILE, RESUME_FILE

STATE_KEY = "RunRecorder"


class RunRecorder(CheckpointCallback):
    """Writes `resume.ckpt`, `metrics.json`, the logs, `last/` and `best/` (lowest validation PA-PJPE).

    Args:
        out: the run folder.
        run: what the states of one run have in common.
        model: of the checkpoints, as the following.
        crop: how photographs become the input.
        topology: of the mesh.
        train: the run's config.
        facts: what travels with the checkpoints.
    """

    def __init__(
        self,
        out: Path,
        *,
        run: str,
        model: ModelConfig,
        crop: CropConfig,
        topology: HandTopology,
        train: TrainConfig,
        facts: Mapping[str, object],
    ) -> None:
        self.out = out
        self.run = run
        self.model = model
        self.crop = crop
        self.topology = topology
        self.train = train
        self.facts = facts
        self.learning_rate = math.nan
        self.history: list[dict[str, float]] = []
        self.tensorboard: SummaryWriter | None = None

    @property
    def state_key(self) -> str:
        """Its place in the state."""
        return STATE_KEY

    def state_dict(self) -> dict[str, object]:
        """What a resumed run must know."""
        return {"run": self.run, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Take over the history of the run so far."""
        history = state_dict["history"]
        assert isinstance(history, list)  # noqa: S101  # written by state_dict
        self.history = list(history)

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write anew what the last epoch of a run that goes on may have left undone."""
        if self.history:
            self._publish(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the epoch's learning rate: at its end the schedule has already stepped."""
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Refuse weights that the epoch's last step has spoilt, which no loss has shown."""
        for name, parameter in pl_module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise FloatingPointError(f"the weight '{name}' is not finite")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Record the epoch."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"'{name}' is {value}")
        self.history.append(metrics | {"epoch": trainer.current_epoch, "learning_rate": self.learning_rate})
        trainer.save_checkpoint(self.out / RESUME_FILE)
        self._publish(trainer, pl_module)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Close the log."""
        if self.tensorboard is not None:
            self.tensorboard.close()

    def _publish(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write everything but the state, from the history and the weights of its last epoch."""
        if not trainer.is_global_zero:
            return
        assert isinstance(module, HandTraining)  # noqa: S101  # the only module this recorder is made for
        write_json(self.out / METRICS_FILE, {"epochs": self.history}, None)
        self._log()
        *before, last = (entry.get(VALIDATION_METRIC, math.inf) for entry in self.history)
        improved = last < min(before, default=math.inf)
        for name in (LAST, BEST) if improved else (LAST,):
            self._save(name, module)

    def _log(self) -> None:
        """The history as a table, and its last epoch to TensorBoard, where it replaces that epoch and later ones."""
        columns = sorted({name for entry in self.history for name in entry}, key=lambda name: (name != "epoch", name))
        with whole_file(self.out / "csv" / "metrics.csv", None) as temporary, temporary.open("w", newline="") as stream:
            table = csv.DictWriter(stream, columns)
            table.writeheader()
            table.writerows(self.history)
        epoch = len(self.history) - 1
        if self.tensorboard is None:
            self.tensorboard = SummaryWriter(str(self.out / "tensorboard"), purge_step=epoch)
        for name, value in self.history[-1].items():
            self.tensorboard.add_scalar(name, value, epoch)
        self.tensorboard.flush()

    def _save(self, name: str, module: HandTraining) -> None:
        last = self.history[-1]
        facts = {**self.facts, "epoch": last["epoch"], VALIDATION_METRIC: last.get(VALIDATION_METRIC)}
        save_checkpoint(
            self.out / name,
            model=module.model,
            model_config=self.model,
            crop=self.crop,
            topology=self.topology,
            train=self.train,
            facts=facts,
        )
