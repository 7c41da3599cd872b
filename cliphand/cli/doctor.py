"""`cliphand doctor`: what this machine can run, what is missing, and which engine comes first."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engines.host.available import Choice
    from engines.host.cuda_device import Gpu

# Without these there is no training, export or benchmark; of each, what a half-installed one lacks.
MAIN_JOB = {
    "torch": "inference_mode",
    "torchvision": "models",
    "timm": "create_model",
    "open_clip": "create_model",
    "lightning": "Trainer",
    "cv2": "imread",
    "onnx": "load",
    "onnxscript": "script",
    "onnxsim": "simplify",
    "onnxruntime": "InferenceSession",
}
ON_TORCH = ("torchvision", "timm", "open_clip", "lightning")  # which cannot be judged where it is broken


def doctor(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the JSON object here as well.")] = None,
) -> None:
    """Say what this machine can run; exit code 0 if it can train, export and benchmark."""
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
    missing = _missing()
    value = {
        "facts": facts,
        "engines": [dataclasses.asdict(choice) for choice in ranked],
        "missing_for_the_main_job": missing,
        "can_run_the_main_job": not missing,
    }
    if json_file is not None:
        write_json(json_file, value, DOCTOR)
    _show(facts, ranked, missing)
    typer.echo(json.dumps(value))
    if missing:
        raise typer.Exit(1)


def _show(facts: dict[str, str], choices: "list[Choice]", missing: list[str]) -> None:
    """Two tables and the verdict."""
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
    console.print(
        Text(f"The main job cannot run: {'; '.join(missing)}.")
        if missing
        else "The main job (train, export, bench) can run here."
    )


def _missing() -> list[str]:
    """What is wrong with the packages of the main job."""
    found = {name: fault for name in MAIN_JOB if name not in ON_TORCH and (fault := _fault(name, MAIN_JOB[name]))}
    if "torch" not in found:
        found |= {name: fault for name in MAIN_JOB if name in ON_TORCH and (fault := _fault(name, MAIN_JOB[name]))}
    return list(found.values())


def _fault(module: str, part: str) -> str | None:
    """What is wrong with a package of the main job, and the remedy."""
    from engines.host.available import import_fault, is_installed

    again = "run `pip install -e .` in the checkout again"
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

    openvino = importlib.import_module("openvino")
    return f"{openvino.__version__}, devices {', '.join(openvino.Core().available_devices)}"


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
