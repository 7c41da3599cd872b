"""What a run computes on, and in which precision it is fastest there."""

import timeit
from typing import Literal

import torch

from cliphand.config import TrainConfig
from cliphand.errors import InputError


def accelerator_of(train: TrainConfig) -> str:
    """`cpu` or `cuda`: what `auto` becomes on this machine.

    Raises:
        InputError: `cuda` was asked for and torch finds no GPU, or fewer than processes.
    """
    found = torch.cuda.is_available()
    if train.accelerator == "cuda" and not found:
        raise InputError("accelerator is cuda but torch finds no GPU here; use --accelerator cpu or auto.")
    chosen = ("cuda" if found else "cpu") if train.accelerator == "auto" else train.accelerator
    if chosen == "cuda" and train.devices > torch.cuda.device_count():
        raise InputError(f"devices is {train.devices}; torch finds {torch.cuda.device_count()} GPUs here.")
    return chosen


def fastest_precision(size: int = 512, rounds: int = 5) -> Literal["32-true", "bf16-mixed"]:
    """The precision in which this machine multiplies matrices faster: some CPUs only emulate bfloat16."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.randn(size, size, device=device).to(dtype)
        seconds[dtype] = min(timeit.repeat("(m @ m).sum().item()", globals={"m": matrix}, number=3, repeat=rounds))
    return "bf16-mixed" if seconds[torch.bfloat16] < seconds[torch.float32] else "32-true"
