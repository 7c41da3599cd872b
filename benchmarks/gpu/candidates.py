"""What the GPU check measures: the model as every engine there is, on CPU and GPU, opened only when it is due."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from benchmarks.contestants.pytorch_variants import compiled, plain, published
from cliphand.arrays import FloatArray
from cliphand.config import require
from cliphand.model.hand_model import HandModel
from engines.base import Engine, HandOutput, check_images
from engines.runtimes.inductor import InductorEngine
from engines.runtimes.ort import OrtEngine
from engines.tensorrt.flavour import FLAVOURS
from engines.tensorrt.plan import BatchRange, BuildSettings, plan_path
from engines.tensorrt.process import build_plans
from engines.tensorrt.run import TrtEngine
from export.folder.inductor_package import build_package
from export.graph.deploy_model import deploy_model

Device = Literal["cpu", "cuda"]
# One profile for each range in which other kernels are the fastest.
PLAN_SETTINGS = BuildSettings(profiles=(BatchRange(1, 1, 1), BatchRange(2, 8, 16), BatchRange(17, 64, 256)))


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is measured.

    Attributes:
        folder: an export folder, which plans and packages are written into.
        model: the deployed model that the folder was exported from.
        input_size: side of its crops.
        gflop: of one image, multiplications and additions.
        graphs: precision to ONNX file.
    """

    folder: Path
    model: HandModel
    input_size: int
    gflop: float
    graphs: Mapping[str, Path]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An engine that may be measured; `open` raises InputError where it cannot be."""

    engine: str
    device: Device
    precision: str
    open: Callable[[], Engine]


class TorchEngine(Engine):
    """A model in PyTorch on one device, eager or compiled: FP32 without TF32, or under FP16 autocast."""

    def __init__(self, model: nn.Module, *, name: str, device: Device, precision: str, input_size: int) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.name, self.precision, self.input_size = name, precision, input_size
        self._model, self._device = model.to(device), device

    def __call__(self, images: FloatArray) -> HandOutput:
        """See `engines.base.Engine`."""
        check_images(images, self.input_size)
        reduced = torch.autocast(self._device, dtype=torch.float16) if self.precision == "fp16" else nullcontext()
        with torch.inference_mode(), reduced:
            joints, verts = self._model(torch.from_numpy(images).to(self._device))
        return HandOutput(joints.float().cpu().numpy(), verts.float().cpu().numpy())

    def close(self) -> None:
        """Give the memory back."""
        self._model = nn.Identity()
        if self._device == "cuda":
            torch.cuda.empty_cache()


def candidates(subject: Subject) -> Iterator[Candidate]:
    """Every engine in every precision that the export has, those of the CPU first."""
    yield _pytorch(subject, "pytorch", "cpu", "fp32", plain)
    yield Candidate("inductor", "cpu", "fp32", lambda: _inductor(subject, "cpu"))
    yield from _onnxruntime(subject, "cpu")
    yield _pytorch(subject, "pytorch, as published", "cuda", "fp32", published)
    for precision in ("fp32", "fp16"):
        yield _pytorch(subject, "pytorch", "cuda", precision, plain)
        yield _pytorch(subject, "torch.compile", "cuda", precision, compiled)
    yield Candidate("inductor", "cuda", "fp16", lambda: _inductor(subject, "cuda"))
    yield from _onnxruntime(subject, "cuda")
    for flavour in FLAVOURS:
        yield from _tensorrt(subject, flavour)


def _pytorch(
    subject: Subject, name: str, device: Device, precision: str, form: Callable[[HandModel], nn.Module]
) -> Candidate:
    def opened() -> Engine:
        require(device == "cpu" or torch.cuda.is_available(), "PyTorch sees no GPU.")
        return TorchEngine(
            form(subject.model), name=name, device=device, precision=precision, input_size=subject.input_size
        )

    return Candidate(name, device, precision, opened)


def _inductor(subject: Subject, device: Device) -> Engine:
    path = subject.folder / f"model.{device}.pt2"
    build_package(
        deploy_model(subject.model),
        path,
        input_size=subject.input_size,
        precision="fp32" if device == "cpu" else "fp16",
        device=device,
    )
    return InductorEngine(path)


def _onnxruntime(subject: Subject, device: Device) -> Iterator[Candidate]:
    for precision, graph in subject.graphs.items():
        name = "onnxruntime" if device == "cpu" else f"onnxruntime-{device}"

        def opened(graph: Path = graph, precision: str = precision) -> Engine:
            return OrtEngine(graph, precision=precision, device=device)

        yield Candidate(name, device, precision, opened)


def _tensorrt(subject: Subject, flavour: str) -> Iterator[Candidate]:
    for precision, graph in subject.graphs.items():

        def opened(graph: Path = graph) -> Engine:
            built = build_plans(subject.folder, flavour=flavour, settings=PLAN_SETTINGS)  # equal ones are kept
            require(graph.name not in built.failures, f"{built.failures.get(graph.name)}.")
            return TrtEngine(plan_path(graph, FLAVOURS[flavour]))

        yield Candidate(flavour, "cuda", precision, opened)
