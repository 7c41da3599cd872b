"""Lightning's progress bar with epochs counted as people count them."""

from lightning.pytorch.callbacks import RichProgressBar


class EpochBar(RichProgressBar):
    """`Epoch 1/20` to `Epoch 20/20`, where Lightning begins with 0."""

    def _get_train_description(self, current_epoch: int) -> str:
        description = f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"
        return description.ljust(len(self.validation_description))  # so that the two bars stand below each other
