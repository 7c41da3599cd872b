"""`cliphand doctor`: what this machine can run, what is missing, and which engine comes first."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cliphand.extras import install_extra

if TYPE_CHECKING:
    from engines.host.available import Choice
    from engines.host.cuda_device import Gpu

# Without these nothing runs an exported graph; of each, what a half-installed one lacks.
RUNNING = {"cv2": "imread", "onnx": "load", "onnxruntime": "InferenceSession"}
# Without these there is no training and no export.
TRAINING = {
    "torch": "inference_mode",
    "torchvision": "models",
    "timm": "create_model",
    "open_clip": "create_model",
    "lightning": "Trainer",
    "onnxscript": "script",
    "onnxsim": "simplify",
}
ON_TORCH = ("torchvision", "timm", "open_clip", "lightning")  # which cannot be judged where it is broken


def doctor(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the JSON object here as well.")] = None,
) -> None:
    """Say what this machine can run; exit code 1 if what is installed is broken.

    The base package predicts, scores and benchmarks; training and export are in the extra `train`, and where that is
    not installed at all nothing is broken.
    """
    import dataclasses
    import json

    from cliphand.claims import check_file
    from cliphand.files import write_json
    from cliphand.kinds import DOCTOR
    from engines.host.available import choices
    from engines.host.cuda_device import find_gpu

    if json_file is not None:
        check_file(json_file, DOCTOR)
    gpu = find_gpu()
    facts = {name: look(gpu) for name, look in FACTS.items()}
    ranked = choices(gpu)
    faults, missing = _faults(RUNNING), _faults(TRAINING)
    value = {
        "facts": facts,
        "engines": [dataclasses.asdict(choice) for choice in ranked],
        "missing_for_running": faults,
        "missing_for_training": missing,
        "can_run": not faults,
        "can_train": not faults and not missing,
    }
    if json_file is not None:
        write_json(json_file, value, DOCTOR)
    _show(facts, ranked)
    for line in _verdicts(faults, missing):
        typer.echo(line)
    typer.echo(json.dumps(value))
    if faults or (missing and _training_is_begun()):
        raise typer.Exit(1)


def _show(facts: dict[str, str], choices: "list[Choice]") -> None:
    """Two tables."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from engines.choice.choose import NAMES

    console = Console(highlight=False)
    machine = Table(box=box.SIMPLE_HEAD, title="This machine", title_justify="left")
    machine.add_column("")
    machine.add_column("found", overflow="fold")
    for name, found in facts.items():
        machine.add_row(name, Text(found))  # brackets in a command are no markup
    console.print(machine)
    beside = [choice for choice in choices if choice.engine not in NAMES]
    ranked = [choice for choice in choices if choice.engine in NAMES]
    first = next((choice.engine for choice in ranked if choice.usable), None)
    engines = Table(
        box=box.SIMPLE_HEAD, title="Engines in the order of --engine auto, -> the first here", title_justify="left"
    )
    for heading in ("", "engine", "why, or what is missing"):
        engines.add_column(heading, overflow="fold")
    for choice in ranked:
        engines.add_row("->" if choice.engine == first else "", choice.engine, Text(choice.why))
    console.print(engines)
    for choice in beside:
        console.print(Text(f"{choice.engine} (bench compares with it; predict does not take it): {choice.why}"))


def _verdicts(faults: list[str], missing: list[str]) -> list[str]:
    """What can be done here, a sentence each for running and for training."""
    if faults:
        return [f"Nothing can run here: {'; '.join([*faults, *missing])}."]
    runs = "Predicting, scoring and benchmarking of exports can run here."
    if missing and not _training_is_begun():
        return [runs, f"Training and export are not installed: {install_extra('train')} brings them."]
    return [runs, f"Training and export cannot: {'; '.join(missing)}." if missing else "Training and export can, too."]


def _training_is_begun() -> bool:
    """Whether PyTorch, which only training needs, is there: what else lacks is then a fault."""
    from engines.host.available import is_installed

    return is_installed("torch")


def _faults(packages: dict[str, str]) -> list[str]:
    """What is wrong with packages; those on PyTorch cannot be judged where it is broken."""
    order = [name for name in packages if name not in ON_TORCH]
    found = {name: fault for name in order if (fault := _fault(name, packages[name]))}
    if "torch" not in found:
        found |= {name: fault for name in packages if name in ON_TORCH and (fault := _fault(name, packages[name]))}
    return list(found.values())


def _fault(module: str, part: str) -> str | None:
    """What is wrong with a package, and the remedy."""
    from engines.host.available import import_fault, is_installed

    again = f"run {install_extra('train') if module in TRAINING else '`pip install -e .` in the checkout'} again"
    if not is_installed(module):
        return f"{module} is not installed: {again}"
    fault = import_fault(module, part)
    return None if fault is None else f"{fault.why}: {fault.remedy or again}"


def _python(gpu: "Gpu | str") -> str:
    import platform

    return f"{platform.python_version()}, {platform.platform()}"


def _processor(gpu: "Gpu | str") -> str:
    from benchmarks.measure.machine import machine_facts

    facts = machine_facts()
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB"


def _torch(gpu: "Gpu | str") -> str:
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "sees no GPU"
    return f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}, {device}"


def _gpu(gpu: "Gpu | str") -> str:
    if isinstance(gpu, str):
        return gpu
    return (
        f"{gpu.name}, compute capability {gpu.compute_capability}, driver {gpu.driver_version}, CUDA {gpu.cuda_version}"
    )


def _onnxruntime(gpu: "Gpu | str") -> str:
    import onnxruntime

    return f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"


def _openvino(gpu: "Gpu | str") -> str:
    import importlib

    from engines.runtimes.openvino_cpu import shared_core

    openvino = importlib.import_module("openvino")
    return f"{openvino.__version__}, devices {', '.join(shared_core().available_devices)}"


def _plans(flavour_name: str) -> Callable[["Gpu | str"], str]:
    """What can be done with one TensorRT flavour."""

    def look(gpu: "Gpu | str") -> str:
        from engines.host.available import driver_fault
        from engines.tensorrt.flavour import FLAVOURS, load_tensorrt, why_not_built

        flavour = FLAVOURS[flavour_name]
        why = why_not_built(flavour, gpu=lambda: gpu)
        why_not_run = gpu if isinstance(gpu, str) else driver_fault(flavour_name, gpu)
        runs = "runs plans" if why_not_run is None else f"runs none: {why_not_run}"
        return f"{load_tensorrt(flavour).__version__}, builds plans, {runs}" if why is None else why

    return look


def _version(distribution: str) -> Callable[["Gpu | str"], str]:
    """Version of an installed package."""

    def look(gpu: "Gpu | str") -> str:
        import importlib.metadata

        return str(importlib.metadata.version(distribution) or "its metadata name no version: install it again")

    return look


def _compiler(gpu: "Gpu | str") -> str:
    import shutil

    from engines.host.available import COMPILERS

    found = [path for name in COMPILERS if (path := shutil.which(name)) is not None]
    return found[0] if found else "none of " + ", ".join(COMPILERS) + ": AOTInductor needs one"


def _working(engine: str, look: Callable[["Gpu | str"], str]) -> Callable[["Gpu | str"], str]:
    """The look where the engine's package works, else what is wrong with it: the engines' table says the same."""

    def asked(gpu: "Gpu | str") -> str:
        from engines.host.available import package_fault

        return package_fault(engine) or look(gpu)

    return asked


def _said(look: Callable[["Gpu | str"], str]) -> Callable[["Gpu | str"], str]:
    """The look, or in one line why it failed: a broken package must not hide the others."""

    def guarded(gpu: "Gpu | str") -> str:
        try:
            return look(gpu)
        except ModuleNotFoundError as error:  # PackageNotFoundError is one
            return f"not installed ({' '.join(str(error.name or error).split())})"
        except Exception as error:  # whatever a package does at its import
            words = " ".join(f"{type(error).__name__}: {error}".split())
            return f"broken ({words}): install it again"

    return guarded


FACTS: dict[str, Callable[["Gpu | str"], str]] = {
    name: _said(look)
    for name, look in {
        "Python": _python,
        "processor": _processor,
        "GPU": _gpu,
        "PyTorch": _working("pytorch", _torch),
        "ONNX Runtime": _working("onnxruntime", _onnxruntime),
        "OpenVINO": _working("openvino", _openvino),
        "TensorRT": _plans("tensorrt"),
        "TensorRT for RTX": _plans("tensorrt-rtx"),
        "Polygraphy": _version("polygraphy"),
        "cuda-bindings": _version("cuda-bindings"),
        "C++ compiler": _compiler,
    }.items()
}
