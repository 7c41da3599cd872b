"""What a TensorRT plan was built from, with and for: plain values, their sidecar `<plan>.json`, and reuse.

A plan is reused only where every field of its `PlanKey` is the same.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cliphand.config import from_json, require
from cliphand.errors import InputError
from cliphand.files import read_json_object, sha256_of, write_json
from engines.cuda_device import Gpu
from engines.trt_flavour import FLAVOURS, Flavour

FORMAT_VERSION = 1
NO_GPU = "built without a GPU"
NOT_EXECUTED = "not executed here"


@dataclass(frozen=True, slots=True)
class BatchRange:
    """Batch sizes that one optimisation profile serves; it is tuned for `opt`."""

    min: int = 1
    opt: int = 1
    max: int = 64

    def __post_init__(self) -> None:
        require(
            1 <= self.min <= self.opt <= self.max,
            f"a profile's batches are {self.min}:{self.opt}:{self.max}; give MIN:OPT:MAX with 1 <= MIN <= OPT <= MAX.",
        )


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How a plan is built.

    Attributes:
        profiles: one optimisation profile for each.
        level: TensorRT's builder optimisation level, 0 to 5: the higher, the longer it searches.
        workspace_mib: limit of the scratch memory that a layer may use; None leaves all of the GPU's.
        tf32: whether FP32 layers may round to TF32.
        version_compatible: the plan runs in later TensorRT versions and in the lean runtime.
        hardware: GPUs beside the building one on which the plan runs, more slowly.
        compute_capabilities: GPUs for which a plan of TensorRT for RTX is built, such as `8.9`; empty means all of its
            default targets.
        stripped: leave the weights out; they are put back from the ONNX file when the plan is opened.
    """

    profiles: tuple[BatchRange, ...] = (BatchRange(),)
    level: int = 3
    workspace_mib: int | None = None
    tf32: bool = False
    version_compatible: bool = False
    hardware: Literal["none", "ampere_plus", "same_compute_capability"] = "none"
    compute_capabilities: tuple[str, ...] = ()
    stripped: bool = False

    def __post_init__(self) -> None:
        require(len(self.profiles) > 0, "there is no profile; give at least one range of batch sizes.")
        require(0 <= self.level <= 5, f"the builder's level is {self.level}; valid are 0 to 5.")
        require(
            self.workspace_mib is None or self.workspace_mib > 0,
            f"the workspace is {self.workspace_mib} MiB; it must be positive.",
        )


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan's bytes depend on.

    Attributes:
        flavour: `tensorrt` or `tensorrt-rtx`.
        precision: of the graph: `fp32`, `fp16`, `int8`.
        checkpoint_sha256: of the weights that were exported.
        onnx_sha256: of the graph.
        tensorrt_version: of the builder.
        gpu: its name, or `NO_GPU`.
        compute_capability: of the GPU, or None.
        cuda_version: of the CUDA runtime, or None.
        driver_version: or None.
        settings: of the build.
    """

    flavour: str
    precision: str
    checkpoint_sha256: str
    onnx_sha256: str
    tensorrt_version: str
    gpu: str
    compute_capability: str | None
    cuda_version: str | None
    driver_version: str | None
    settings: BuildSettings


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A plan's sidecar.

    Attributes:
        key: what it was built from, with and for.
        onnx: file name of the graph in the same folder.
        input_size: side of the square crops in pixels.
        plan_sha256: of the plan.
        build_s: seconds that the builder took.
        layers: the parsed network's layers by kind and type.
        engine_layers: layers that TensorRT made of them by type, as its inspector tells; None without a GPU.
        parity: largest difference to the graph in ONNX Runtime, or `NOT_EXECUTED`.
    """

    key: PlanKey
    onnx: str
    input_size: int
    plan_sha256: str
    build_s: float
    layers: Mapping[str, int] = field(default_factory=dict)
    engine_layers: Mapping[str, int] | None = None
    parity: Mapping[str, object] | str = NOT_EXECUTED


@dataclass(frozen=True, slots=True)
class _Typed:
    """The part of the file that `from_json` can check: everything but the tables."""

    format_version: int
    key: PlanKey
    onnx: str
    input_size: int
    plan_sha256: str
    build_s: float


_TABLES = ("layers", "engine_layers", "parity")


def parse_range(text: str) -> BatchRange:
    """`MIN:OPT:MAX`, `OPT:MAX` with 1 as the least, or one batch size for all three."""
    try:
        numbers = [int(part) for part in text.split(":")]
        return BatchRange(*({1: numbers * 3, 2: [1, *numbers], 3: numbers}[len(numbers)]))
    except (ValueError, KeyError):
        raise InputError(f"a profile is {text!r}; give MIN:OPT:MAX, such as 1:8:64.") from None


def plan_path(onnx: Path, flavour: Flavour) -> Path:
    """Where the plan of a graph stands: `model.fp16.onnx` gives `model.fp16.plan` or `model.fp16.rtx.plan`."""
    return onnx.with_name(onnx.stem + flavour.suffix)


def record_path(plan: Path) -> Path:
    """`<plan>.json`."""
    return plan.with_name(plan.name + ".json")


def find_plans(folder: Path) -> list[Path]:
    """Plans in an export folder that have their sidecar."""
    return sorted(plan for plan in folder.glob("*.plan") if record_path(plan).exists())


def make_key(
    flavour: Flavour,
    settings: BuildSettings,
    *,
    version: str,
    gpu: Gpu | None,
    precision: str,
    checkpoint_sha256: str,
    onnx_sha256: str,
) -> PlanKey:
    """The key of a plan built here and now."""
    return PlanKey(
        flavour=flavour.name,
        precision=precision,
        checkpoint_sha256=checkpoint_sha256,
        onnx_sha256=onnx_sha256,
        tensorrt_version=version,
        gpu=NO_GPU if gpu is None else gpu.name,
        compute_capability=None if gpu is None else gpu.compute_capability,
        cuda_version=None if gpu is None else gpu.cuda_version,
        driver_version=None if gpu is None else gpu.driver_version,
        settings=settings,
    )


def differing_fields(first: PlanKey, second: PlanKey) -> list[str]:
    """Names of the fields in which two keys differ."""
    names = (item.name for item in dataclasses.fields(PlanKey))
    return [name for name in names if getattr(first, name) != getattr(second, name)]


def reusable(plan: Path, key: PlanKey) -> PlanRecord | None:
    """The record of the plan at `plan` if it was built from the same key and is whole, else None."""
    try:
        record = read_record(plan)
    except InputError:
        return None
    whole = not differing_fields(record.key, key) and plan.exists() and sha256_of(plan) == record.plan_sha256
    return record if whole else None


def write_record(record: PlanRecord, plan: Path) -> None:
    """Write `<plan>.json`, atomically."""
    write_json(record_path(plan), {"format_version": FORMAT_VERSION} | dataclasses.asdict(record))


def read_record(plan: Path) -> PlanRecord:
    """Read and check a plan's sidecar.

    Raises:
        InputError: it is missing, or not of this form.
    """
    path = record_path(plan)
    value = dict(read_json_object(path))
    tables = {name: value.pop(name, None) for name in _TABLES}
    typed = from_json(_Typed, value, source=str(path))
    require(
        typed.format_version == FORMAT_VERSION,
        f"{path} has format {typed.format_version}; this version reads {FORMAT_VERSION}: build the plan again.",
    )
    require(typed.key.flavour in FLAVOURS, f"{path}: flavour is {typed.key.flavour!r}; valid are {sorted(FLAVOURS)}.")
    return PlanRecord(
        key=typed.key,
        onnx=typed.onnx,
        input_size=typed.input_size,
        plan_sha256=typed.plan_sha256,
        build_s=typed.build_s,
        layers=_counts(tables["layers"], f"{path}: layers"),
        engine_layers=None if tables["engine_layers"] is None else _counts(tables["engine_layers"], str(path)),
        parity=tables["parity"] if isinstance(tables["parity"], Mapping) else str(tables["parity"]),
    )


def _counts(value: object, where: str) -> dict[str, int]:
    """A table of counts, or InputError."""
    if not isinstance(value, Mapping) or not all(isinstance(count, int) for count in value.values()):
        raise InputError(f"{where} is {value!r}; it must be a table of counts: build the plan again.")
    return {str(key): int(count) for key, count in value.items()}
