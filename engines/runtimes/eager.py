"""PyTorch as it is: the reference every other engine is compared with."""

from pathlib import Path

import torch
from torch import nn

from cliphand.arrays import FloatArray
from cliphand.checkpoint import Checkpoint, load_checkpoint
from engines.base import Engine, HandOutput, check_images


class ModuleEngine(Engine):
    """A PyTorch module on the CPU in FP32.

    Args:
        module: images (B, 3, S, S) to joints and vertices; it is put into evaluation mode.
        name: as reports print it.
        input_size: S.
        threads: of one call; None leaves PyTorch's setting alone.
    """

    precision = "fp32"

    def __init__(self, module: nn.Module, *, name: str, input_size: int, threads: int | None) -> None:
        self.name, self.input_size = name, input_size
        self._threads = threads
        self._module: nn.Module | None = module.eval()

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`."""
        check_images(images, self.input_size)
        if self._module is None:
            raise RuntimeError("this engine is closed; open it again")
        # The setting is the whole process's, so another engine may have changed it since the last call.
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            joints, verts = self._module(torch.from_numpy(images))
        return HandOutput(joints_uvd=joints.numpy(), verts_uvd=verts.numpy())

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        self._module = None


class EagerEngine(ModuleEngine):
    """The deployed network of a checkpoint, as PyTorch runs it."""

    def __init__(self, checkpoint: Checkpoint, *, threads: int | None = None) -> None:
        self.checkpoint = checkpoint
        side = checkpoint.model_config.input_size
        super().__init__(checkpoint.model, name="pytorch", input_size=side, threads=threads)


def load(path: Path, *, precision: str, threads: int | None) -> EagerEngine:
    """Open a checkpoint; the form that `engines.open` calls. Its weights are FP32 whatever `precision` says."""
    return EagerEngine(load_checkpoint(path), threads=threads)
