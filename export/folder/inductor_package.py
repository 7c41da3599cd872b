"""A deployed model as native code, compiled ahead of time by AOTInductor and checked against eager PyTorch."""

import dataclasses
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cliphand.checkpoint import Checkpoint
from cliphand.errors import InputError
from cliphand.files import whole_file
from cliphand.model.hand_model import HandModel
from engines.artefact.manifest import describe, read_manifest, write_manifest
from engines.host.available import COMPILERS
from engines.runtimes.inductor import PRECISION_KEY, SIZE_KEY, InductorEngine
from export.graph.agreement import BATCHES
from export.graph.deploy_model import EXAMPLE_BATCH, deploy_model, example_images

MAX_SHARE = 1e-4  # of an output's range: float32 rounding in another order
Precision = Literal["fp32", "fp16", "bf16"]
PACKAGES: dict[str, tuple[str, Precision]] = {"model.pt2": ("cpu", "fp32"), "model.fp16.pt2": ("cuda", "fp16")}
REDUCED: dict[str, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class PackageCheck:
    """A package against eager PyTorch in FP32 on noise images.

    Attributes:
        compile_s: seconds that the compiler took.
        batches: batch sizes that were run.
        max_share: largest difference of an output as a share of its range.
    """

    compile_s: float
    batches: tuple[int, ...]
    max_share: float


class _Reduced(nn.Module):
    """A model under autocast, float32 at both ends."""

    def __init__(self, model: nn.Module, device: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.device, self.dtype = model, device, dtype

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device, dtype=self.dtype):
            joints, verts = self.model(images)
        return joints.float(), verts.float()


def add_packages(folder: Path, checkpoint: Checkpoint) -> dict[Path, PackageCheck]:
    """Compile the checkpoint of an export folder for this machine and list the packages in its manifest.

    Args:
        checkpoint: that it was exported from.
        folder: gets `model.pt2` for the processor and, where PyTorch sees a GPU, `model.fp16.pt2` for that.

    Raises:
        InputError: see `build_package`.
    """
    manifest = read_manifest(folder)
    model = deploy_model(checkpoint.model)
    checks: dict[Path, PackageCheck] = {}
    artefacts = dict(manifest.artefacts)
    for name, (device, precision) in PACKAGES.items():
        if device == "cpu" or torch.cuda.is_available():
            path = folder / name
            checks[path] = build_package(
                model, path, input_size=manifest.input_size, precision=precision, device=device
            )
            artefacts[name] = describe(path, precision=precision)
    write_manifest(dataclasses.replace(manifest, artefacts=artefacts), folder)
    return checks


def build_package(
    model: HandModel, path: Path, *, input_size: int, precision: Precision = "fp32", device: str = "cpu"
) -> PackageCheck:
    """Compile a deployed model for this machine, with a dynamic batch, and check the package.

    Args:
        model: from `deploy_model`.
        path: of the file to write, ending in `.pt2`.
        input_size: side S of the square crops.
        precision: of the arithmetic; FP16 is for GPUs.
        device: `cpu` or `cuda`.

    Raises:
        InputError: there is no C++ compiler or no such device, or the package does not compute what the model does.
    """
    if not any(shutil.which(name) for name in COMPILERS):
        raise InputError(f"AOTInductor compiles C++ and finds none of {', '.join(COMPILERS)}; install a compiler.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("AOTInductor compiles only for a GPU that PyTorch sees; run this on its machine.")
    if device == "cpu" and precision == "fp16":
        raise InputError("an FP16 package is for GPUs; on a CPU choose fp32 or bf16.")
    with whole_file(path, None) as temporary:
        start = time.perf_counter()
        _compile(model, temporary, input_size=input_size, precision=precision, device=device)
        compile_s = time.perf_counter() - start
        share = check_package(model, temporary, input_size=input_size)
        if precision == "fp32" and not share <= MAX_SHARE:
            raise InputError(
                f"the compiled package differs from PyTorch by {share:.3g} of an output's range; at most {MAX_SHARE} "
                "is rounding, so it is not written."
            )
    return PackageCheck(compile_s, BATCHES, share)


def check_package(model: HandModel, path: Path, *, input_size: int) -> float:
    """Largest difference to eager FP32, as a share of each output's range; infinite where one is not finite."""
    worst = 0.0
    with InductorEngine(path) as engine:
        for batch in BATCHES:
            images = example_images(batch, input_size, seed=batch)
            with torch.inference_mode():
                expected = model.cpu()(images)
            found = engine(images.numpy())
            for ours, theirs in zip((found.joints_uvd, found.verts_uvd), expected, strict=True):
                share = float((torch.from_numpy(ours) - theirs).abs().max() / (theirs.max() - theirs.min()))
                worst = max(worst, share if share == share else float("inf"))
    return worst


def _compile(model: HandModel, path: Path, *, input_size: int, precision: Precision, device: str) -> None:
    """Trace the model and compile the trace."""
    deployed: nn.Module = model if precision == "fp32" else _Reduced(model, device, REDUCED[precision])
    images = example_images(EXAMPLE_BATCH, input_size).to(device)
    with torch.no_grad():
        program = torch.export.export(
            deployed.to(device).eval(),
            (images,),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
        )
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(path),
            inductor_configs={
                "aot_inductor.metadata": {PRECISION_KEY: precision, SIZE_KEY: str(input_size)},
                "cpp.dynamic_threads": True,  # else the threads of this process are compiled in
                "max_autotune": device == "cuda",
            },
        )
    model.to("cpu")
