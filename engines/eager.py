"""PyTorch as it is: the reference every other engine is compared with."""

from pathlib import Path

import torch

from cliphand.arrays import FloatArray
from cliphand.checkpoint import Checkpoint, load_checkpoint
from engines.base import Engine, HandOutput, check_images


class EagerEngine(Engine):
    """The deployed network in eager PyTorch on the CPU, FP32.

    Args:
        checkpoint: a loaded checkpoint; its model is put into evaluation mode.
        threads: of one call; None leaves PyTorch's setting alone.
    """

    name = "pytorch"
    precision = "fp32"

    def __init__(self, checkpoint: Checkpoint, *, threads: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.input_size = checkpoint.model_config.input_size
        self._threads = threads
        self._model: torch.nn.Module | None = checkpoint.model.eval()

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`."""
        check_images(images, self.input_size)
        if self._model is None:
            raise RuntimeError("this engine is closed; open it again")
        # The setting is the whole process's, so another engine may have changed it since the last call.
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            joints, verts = self._model(torch.from_numpy(images))
        return HandOutput(joints_uvd=joints.numpy(), verts_uvd=verts.numpy())

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._model = None


def load(path: Path, *, precision: str, threads: int | None) -> EagerEngine:
    """Open a checkpoint; the form that `engines.open` calls. Its weights are FP32 whatever `precision` says."""
    return EagerEngine(load_checkpoint(path), threads=threads)
