"""Other ways to run the same weights: the published form of the network, and the compiler that comes with PyTorch."""

from collections.abc import Callable

import torch
from torch import nn

from benchmarks.contestants.exported import Contestant
from benchmarks.contestants.pytorch_variants import compiled, folded, published
from cliphand.model.hand_model import HandModel
from engines.runtimes.eager import EagerEngine, ModuleEngine

# AOTInductor's packages are files of an export folder, and so are artefacts.
FORMS: dict[str, Callable[[HandModel], nn.Module]] = {
    "pytorch, as published": published,
    "pytorch, as exported": folded,
    "torch.compile": compiled,
}


def open_baselines(reference: Contestant) -> tuple[dict[str, Contestant], tuple[str, ...]]:
    """Every other way to run the reference's weights, and a sentence for each that does not run here."""
    engine = reference.engine
    if not isinstance(engine, EagerEngine):
        raise TypeError(f"the reference is a {type(engine).__name__}; baselines take their weights from a checkpoint")
    baselines: dict[str, Contestant] = {}
    omitted: list[str] = []
    for name, form in FORMS.items():
        baseline = ModuleEngine(
            form(engine.checkpoint.model), name=name, input_size=engine.input_size, threads=reference.threads
        )
        try:
            baseline(torch.zeros(2, 3, engine.input_size, engine.input_size).numpy())
        except Exception as error:  # a compiler that is missing or fails raises what it likes
            omitted.append(f"{name} is left out: {' '.join(str(error).split())[:200]}")
            continue
        baselines[name] = Contestant(
            baseline, artefact=reference.artefact, size_mb=reference.size_mb, kind="baseline", threads=reference.threads
        )
    return baselines, tuple(omitted)
