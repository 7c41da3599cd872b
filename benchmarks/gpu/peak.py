"""What the device itself can do: the speed of a large matrix product, and of training steps."""

import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from cliphand.model.hand_model import HandModel
from export.graph.deploy_model import example_images

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
SIDES = {"cuda": 8192, "cpu": 1024}
STEPS = 10  # at most
LIMIT_S = 20.0
FLOP_PER_TFLOP = 1e12


def matmul_tflops(device: str, precision: str) -> float:
    """Measured speed of a square matrix product in TFLOP/s, TF32 off: the roofline that engines are held against."""
    torch.backends.cuda.matmul.allow_tf32 = False
    side = SIDES[device]
    first, second = (torch.rand(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    seconds = _seconds_a_call(lambda: first @ second, device)
    return 2 * side**3 / seconds / FLOP_PER_TFLOP


def training_images_per_s(model: HandModel, *, device: str, batch: int, input_size: int) -> float:
    """Speed of training steps of the image branch: forward, backward, AdamW; bf16 autocast on a GPU, FP32 on a CPU."""
    model = model.to(device).train().requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")
    images = example_images(batch, input_size).to(device)
    reduced = torch.autocast("cuda", dtype=torch.bfloat16) if device == "cuda" else nullcontext()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with reduced:
            outputs: tuple[Tensor, Tensor] = model(images)
        loss = sum((output.float().abs().mean() for output in outputs), start=torch.zeros((), device=device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return batch / _seconds_a_call(step, device)


def _seconds_a_call(call: Callable[[], object], device: str) -> float:
    """Mean over some calls, after one that is not counted."""
    call()
    _wait(device)
    done, start = 0, time.perf_counter()
    while done == 0 or (done < STEPS and time.perf_counter() - start < LIMIT_S):
        call()
        _wait(device)
        done += 1
    return (time.perf_counter() - start) / done


def _wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
