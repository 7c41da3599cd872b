"""Other ways to run the same weights: the published form of the network, and the compiler that comes with PyTorch."""

from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

import torch
from torch import nn

from benchmarks.entrants import Entrant
from benchmarks.naive_form import NaiveHand
from cliphand.arrays import FloatArray
from engines.base import HandOutput, check_images
from engines.eager import EagerEngine
from export.deploy_model import deploy_model
from export.fold import fold


class ModuleEngine:
    """A PyTorch module on the CPU in FP32 behind the engines' protocol.

    Args:
        module: images (B, 3, S, S) to joints and vertices.
        name: as reports print it.
        input_size: S.
        threads: of one call; None leaves PyTorch's setting alone.
    """

    precision = "fp32"

    def __init__(self, module: nn.Module, *, name: str, input_size: int, threads: int | None) -> None:
        self.name, self.input_size = name, input_size
        self._module: nn.Module | None = module.eval()
        self._threads = threads

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

    def __enter__(self) -> Self:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _compiled(engine: EagerEngine) -> nn.Module:
    # One graph for every batch size, as the exported ones are.
    return cast("nn.Module", torch.compile(deploy_model(engine.checkpoint.model), dynamic=True))


def _folded(engine: EagerEngine) -> nn.Module:
    return fold(deploy_model(engine.checkpoint.model))


def _published(engine: EagerEngine) -> nn.Module:
    return NaiveHand(deploy_model(engine.checkpoint.model))


# AOTInductor's packages are files of an export folder, and so are artefacts.
FORMS: dict[str, Callable[[EagerEngine], nn.Module]] = {
    "pytorch, as published": _published,
    "pytorch, as exported": _folded,
    "torch.compile": _compiled,
}


def open_peers(reference: Entrant) -> tuple[dict[str, Entrant], tuple[str, ...]]:
    """Every other way to run the reference's weights, and a sentence for each that does not run here."""
    engine = reference.engine
    if not isinstance(engine, EagerEngine):
        raise TypeError(f"the reference is a {type(engine).__name__}; peers take their weights from a checkpoint")
    peers: dict[str, Entrant] = {}
    omitted: list[str] = []
    for name, form in FORMS.items():
        peer = ModuleEngine(form(engine), name=name, input_size=engine.input_size, threads=reference.threads)
        try:
            peer(torch.zeros(2, 3, engine.input_size, engine.input_size).numpy())
        except Exception as error:  # a compiler that is missing or fails raises what it likes
            omitted.append(f"{name} is left out: {' '.join(str(error).split())[:200]}")
            continue
        peers[name] = Entrant(
            peer, artefact=reference.artefact, size_mb=reference.size_mb, kind="peer", threads=reference.threads
        )
    return peers, tuple(omitted)
