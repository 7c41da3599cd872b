"""What a run leaves on disk after every epoch, each file whole or absent."""

import math
from collections.abc import Mapping
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import Checkpoint

from cliphand.checkpoint import save_checkpoint
from cliphand.config import CropConfig, ModelConfig, TrainConfig
from cliphand.files import read_json_object, whole_file, write_json
from cliphand.hand import HandTopology
from cliphand.training.module import VALIDATION_METRIC, HandTraining

METRICS_FILE = "metrics.json"


class RunRecorder(Checkpoint):
    """Writes `resume.ckpt`, `last/`, `best/` (lowest validation PA-PJPE) and `metrics.json`."""

    def __init__(
        self,
        out: Path,
        *,
        resume_file: str,
        model: ModelConfig,
        crop: CropConfig,
        topology: HandTopology,
        train: TrainConfig,
        facts: Mapping[str, object],
    ) -> None:
        self.out = out
        self.resume_path = out / resume_file
        self.model = model
        self.crop = crop
        self.topology = topology
        self.train = train
        self.facts = facts
        self.best = math.inf
        self.learning_rate = math.nan
        self.history: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, object]:
        """What a resumed run must know."""
        return {"best": self.best, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Take over the best error and the history of the run so far."""
        best, history = state_dict["best"], state_dict["history"]
        assert isinstance(best, float)  # noqa: S101  # written by state_dict
        assert isinstance(history, list)  # noqa: S101
        self.best, self.history = best, list(history)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the epoch's learning rate: at its end the schedule has already stepped."""
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Record the epoch: metrics first, then checkpoints, the resumable state last."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics |= {"epoch": trainer.current_epoch, "learning_rate": self.learning_rate}
        self.history.append(metrics)
        error = metrics.get(VALIDATION_METRIC, math.inf)
        improved, self.best = error < self.best, min(error, self.best)
        if trainer.is_global_zero:
            write_json(self.out / METRICS_FILE, {"epochs": self.history})
            assert isinstance(pl_module, HandTraining)  # noqa: S101  # the only module this recorder is made for
            for name in ("last", "best") if improved else ("last",):
                self._save(name, pl_module, metrics)
        self._save_state(trainer)

    def _save(self, name: str, module: HandTraining, metrics: Mapping[str, float]) -> None:
        facts = {**self.facts, "epoch": metrics["epoch"], VALIDATION_METRIC: metrics.get(VALIDATION_METRIC)}
        save_checkpoint(
            self.out / name,
            model=module.model,
            model_config=self.model,
            crop=self.crop,
            topology=self.topology,
            train=self.train,
            facts=facts,
        )

    def _save_state(self, trainer: lightning.Trainer) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.resume_path)  # takes part in the barrier; only process 0 writes
            return
        with whole_file(self.resume_path) as temporary:
            trainer.save_checkpoint(temporary)


def read_history(out: Path) -> list[Mapping[str, float]]:
    """The epochs of a run so far, oldest first; empty where none has finished."""
    path = out / METRICS_FILE
    epochs = read_json_object(path).get("epochs") if path.exists() else []
    return epochs if isinstance(epochs, list) else []
