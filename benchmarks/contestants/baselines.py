"""Other ways to run the same weights: the published form of the network, and the compiler that comes with PyTorch."""

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.contestants.exported import Entrant
from benchmarks.contestants.pytorch_variants import compiled, folded, published
from cliphand.model.hand_model import HandModel
from engines.runtimes.eager import EagerEngine, ModuleEngine

# AOTInductor's packages are files of an export folder, and so are artefacts.
FORMS: dict[str, Callable[[HandModel], nn.Module]] = {
    "pytorch, as published": published,
    "pytorch, as exported": folded,
    "torch.compile": compiled,
}


def open_peers(reference: Entrant) -> tuple[dict[str, Entrant], tuple[str, ...]]:
    """Every other way to run the reference's weights, and a sentence for each that does not run here."""
    engine = reference.engine
    if not isinstance(engine, EagerEngine):
        raise TypeError(f"the reference is a {type(engine).__name__}; peers take their weights from a checkpoint")
    peers: dict[str, Entrant] = {}
    omitted: list[str] = []
    for name, form in FORMS.items():
        peer = ModuleEngine(
            form(engine.checkpoint.model), name=name, input_size=engine.input_size, threads=reference.threads
        )
        try:
            peer(torch.zeros(2, 3, engine.input_size, engine.input_size).numpy())
        except Exception as error:  # a compiler that is missing or fails raises what it likes
            omitted.append(f"{name} is left out: {' '.join(str(error).split())[:200]}")
            continue
        peers[name] = Entrant(
            peer, artefact=reference.artefact, size_mb=reference.size_mb, kind="peer", threads=reference.threads
        )
    return peers, tuple(omitted)
