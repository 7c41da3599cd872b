"""The options of `cliphand export`, and what those of lower precision ask for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cliphand.cli.options import SplitName, Threads

if TYPE_CHECKING:
    from cliphand.checkpoint_config import CheckpointConfig
    from export.gate.images import GateRequest
    from export.gate.parity import Tolerance
    from export.precision.calibration import CalibrationRequest
    from export.precision.request import TypedRequest

PRECISION_FLAGS = ("fp16", "int8")  # flags, each a name of `export.precision.maker.PRECISIONS`


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is written, and how it is judged."""

    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Checkpoint or run folder.", show_default="the newest run's in ./runs, or the shipped"),
    ] = None
    out: Annotated[Path | None, typer.Option(help="Export folder to write.", show_default="exports/RUN")] = None
    fp16: Annotated[bool, typer.Option("--fp16", help="Add an FP16 graph; what needs more stays in FP32.")] = False
    int8: Annotated[bool, typer.Option("--int8", help="Add an INT8 graph; what needs more stays in FP16 or FP32.")] = (
        False
    )
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Data folder whose training images show how large values get.", show_default="what it was trained on"
        ),
    ] = None
    calibration_images: Annotated[int, typer.Option(help="How many of its training images are used.")] = 500
    calibration_method: Annotated[
        Literal["best", "max", "mse-encoder", "mse", "entropy"],
        typer.Option(
            help="INT8 range of a tensor: its largest value (max), that of least squared error (mse; mse-encoder: in "
            "the encoder alone), that which loses least information (entropy), or whichever of the first three is "
            "best on a fifth of these images."
        ),
    ] = "best"
    seed: Annotated[int, typer.Option(help="Seed with which these images are chosen.")] = 0
    gate_data: Annotated[
        Path | None,
        typer.Option(help="Data folder whose photographs the gate judges on.", show_default="the calibration folder"),
    ] = None
    gate_split: Annotated[SplitName, typer.Option(help="Split of that folder.")] = "evaluation"
    images: Annotated[int, typer.Option(help="How many of its photographs.")] = 200
    tolerance_mm: Annotated[
        float | None,
        typer.Option(
            help="Largest change of the mean errors (PA-PJPE and PA-PVPE) that the gate lets pass.",
            show_default="0.1 FP16, 0.3 INT8",
        ),
    ] = None
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Node or module of the graph that stays in FP32; repeat for more."),
    ] = None
    drop_rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Rule not to apply, of those in parity.json that keep nodes in higher precision; repeat for more.",
        ),
    ] = None
    search_s: Annotated[
        float, typer.Option(help="Seconds to search for the layers that make a graph fail; 0 does not search.")
    ] = 600.0
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Keep the layers that this search finds in higher precision, and judge again."),
    ] = False
    threads: Threads = None
    tensorrt: Annotated[
        bool | None,
        typer.Option(
            "--tensorrt/--no-tensorrt", help="Insist on TensorRT plans: refuse where none can be built; or build none."
        ),
    ] = None
    tensorrt_rtx: Annotated[
        bool,
        typer.Option("--tensorrt-rtx", help="Insist on TensorRT for RTX plans: refuse where none can be built."),
    ] = False
    aot: Annotated[
        bool,
        typer.Option("--aot", help="Add model.pt2: native code for this machine, compiled by PyTorch's AOTInductor."),
    ] = False


def typed_request(source: "CheckpointConfig", options: ExportOptions) -> "TypedRequest | None":
    """Which graphs of lower precision are made and how they are judged; None for none.

    Raises:
        InputError: the images to calibrate or to judge on are not there.
    """
    precisions = tuple(name for name in PRECISION_FLAGS if getattr(options, name))
    if not precisions:
        return None

    from export.precision.request import TypedRequest
    from export.precision.table import Keep

    return TypedRequest(
        precisions=precisions,
        calibration=_calibration(source, options),
        gate=_gate(source, options),
        keep=Keep(tuple(options.keep_fp32 or ()), tuple(options.drop_rule or ())),
        tolerances=_tolerances(options.tolerance_mm),
        search_s=options.search_s,
        auto=options.auto,
        threads=options.threads,
        tensorrt=options.tensorrt is not False,
    )


def _calibration(source: "CheckpointConfig", options: ExportOptions) -> "CalibrationRequest":
    """Which images set the ranges, from a folder that has some."""
    from export.precision.calibration import CalibrationRequest, check_calibration, held_out

    request = CalibrationRequest(
        options.calibration or _training_data(source),
        options.calibration_images,
        options.seed,
        options.calibration_method,
        held_out(source.facts),
    )
    check_calibration(request)
    return request


def _gate(source: "CheckpointConfig", options: ExportOptions) -> "GateRequest":
    """Which images judge, from a folder that has some."""
    from export.gate.images import GateRequest, check_gate

    folder = options.gate_data or options.calibration or _training_data(source)
    request = GateRequest(folder, options.gate_split, options.images)
    check_gate(request)
    return request


def _training_data(source: "CheckpointConfig") -> Path:
    """The folder that the model was trained on, as its facts name it."""
    from cliphand.errors import InputError

    data = source.facts.get("data")
    if not isinstance(data, str):
        raise InputError("the checkpoint does not say what it was trained on; name a folder with --calibration DIR.")
    if not Path(data).is_dir():
        raise InputError(f"{data}, which the model was trained on, is not here; name a folder with --calibration DIR.")
    return Path(data)


def _tolerances(tolerance_mm: float | None) -> "dict[str, Tolerance]":
    """Limits by precision."""
    from export.gate.parity import BOUND_OVER_TOLERANCE, TOLERANCES, Tolerance

    if tolerance_mm is None:
        return dict(TOLERANCES)
    return dict(TOLERANCES) | dict.fromkeys(
        PRECISION_FLAGS, Tolerance(tolerance_mm, BOUND_OVER_TOLERANCE * tolerance_mm)
    )
