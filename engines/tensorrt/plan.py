"""What a TensorRT plan is built from, with and for: plain values, their sidecar `<plan>.json`, and the rules for them.

Nothing here needs TensorRT or a GPU.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Le

from cliphand.checked import checked, from_json
from cliphand.config import require
from cliphand.errors import InputError
from cliphand.files import read_json_object, sha256_of, write_json
from engines.artefact.manifest import is_plain
from engines.host.cuda_device import Gpu
from engines.tensorrt.flavour import FLAVOURS, TENSORRT, TENSORRT_RTX, Flavour, FlavourName

NOT_EXECUTED = "not executed here"
Batch = Annotated[int, Le(65_536)]

# Settings that only one of the flavours knows.
OWNERS = {"version_compatible": TENSORRT, "hardware": TENSORRT, "compute_capabilities": TENSORRT_RTX}


@checked
class BatchRange:
    """Batch sizes that one optimisation profile serves; it is tuned for `opt`."""

    min: Batch = 1
    opt: Batch = 1
    max: Batch = 64

    def __post_init__(self) -> None:
        given = f"{self.min}:{self.opt}:{self.max}"
        require(1 <= self.min <= self.opt <= self.max, f"a profile is {given}; MIN:OPT:MAX must rise from at least 1.")


@checked
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
        workspace = self.workspace_mib
        require(len(self.profiles) > 0, "there is no profile; give at least one range of batch sizes.")
        require(0 <= self.level <= 5, f"the builder's level is {self.level}; valid are 0 to 5.")
        require(workspace is None or workspace > 0, f"the workspace is {workspace} MiB; it must be positive.")


@checked
class PlanKey:
    """Everything that a plan's bytes depend on: hashes of what it was built from, the builder, the GPU, the settings.

    `gpu` is None for a plan that was built without one.
    """

    flavour: FlavourName
    precision: str
    checkpoint_sha256: str
    onnx_sha256: str
    tensorrt_version: str
    gpu: Gpu | None
    settings: BuildSettings


@checked
class PlanRecord:
    """A plan's sidecar.

    Attributes:
        key: what it was built from, with and for.
        onnx: file name of the graph in the same folder.
        input_size: side of the square crops in pixels.
        plan_sha256: of the plan.
        build_s: seconds that parsing and building took.
        findings: the network's `layers` by kind and type, the finished engine's `engine_layers` likewise, the `proof`
            of its precision in words, the `gpu`, and what the gate says: `parity`, whose `passed` decides whether
            `--engine auto` may take the plan.
        format_version: of the file.
    """

    key: PlanKey
    onnx: str
    input_size: int
    plan_sha256: str
    build_s: float
    findings: Mapping[str, object] = field(default_factory=dict)
    format_version: Literal[1] = 1


def parse_range(text: str) -> BatchRange:
    """`MIN:OPT:MAX`, `OPT:MAX` with 1 as the least, or one batch size for all three."""
    try:
        numbers = [int(part) for part in text.split(":")]
        return BatchRange(*({1: numbers * 3, 2: [1, *numbers], 3: numbers}[len(numbers)]))
    except (ValueError, KeyError):
        raise InputError(f"a profile is {text!r}; give MIN:OPT:MAX, such as 1:8:64.") from None


def has_passed(record: PlanRecord) -> bool | None:
    """Whether the gate let a plan pass; None where it was not executed."""
    parity = record.findings.get("parity")
    return parity.get("passed") is True if isinstance(parity, Mapping) else None


def plan_path(onnx: Path, flavour: Flavour) -> Path:
    """Where the plan of a graph stands: `model.fp16.onnx` gives `model.fp16.plan` or `model.fp16.rtx.plan`."""
    return onnx.with_name(onnx.stem + flavour.suffix)


def record_path(plan: Path) -> Path:
    """`<plan>.json`."""
    return plan.with_name(plan.name + ".json")


def write_record(record: PlanRecord, plan: Path) -> Path:
    """Write `<plan>.json`, atomically, and return its path."""
    write_json(path := record_path(plan), dataclasses.asdict(record), None)
    return path


def read_record(plan: Path) -> PlanRecord:
    """Read and check a plan's sidecar.

    Raises:
        InputError: it is missing, not of this form, or describes another plan.
    """
    path = record_path(plan)
    value = dict(read_json_object(path))
    findings = value.pop("findings", None)
    if not isinstance(findings, Mapping):
        raise InputError(f"{path}: findings are {findings!r}; they must be a JSON object: build the plan again.")
    record = dataclasses.replace(from_json(PlanRecord, value, source=str(path)), findings=findings)
    require(is_plain(record.onnx), f"{path}: onnx {record.onnx[:80]!r} is not a plain file name; build the plan again.")
    whole = plan.is_file() and sha256_of(plan) == record.plan_sha256
    require(whole, f"{plan} is not the plan that its sidecar describes (plan_sha256 differs); build it again.")
    return record


def reusable(plan: Path, key: PlanKey) -> PlanRecord | None:
    """The record of the plan at `plan` if every field of its key is the same and the plan is whole, else None."""
    with suppress(InputError):
        record = read_record(plan)
        return record if record.key == key else None
    return None


def check_settings(settings: BuildSettings, flavour: Flavour, *, gpu: Gpu | None) -> None:
    """Refuse settings that a flavour does not know, before TensorRT does so less plainly.

    Raises:
        InputError: one is set that this flavour or this machine cannot serve.
    """
    for name, owner in OWNERS.items():
        is_set = getattr(settings, name) != getattr(BuildSettings(), name)
        require(not is_set or flavour is owner, f"{name} is set; it exists in {owner.title}, not in {flavour.title}.")
    buildable = gpu is not None or not settings.stripped
    require(buildable, "a stripped plan can only be built with a GPU at hand; build a whole one, or on the target.")


def check_runs_here(record: PlanRecord, plan: Path, *, version: str, gpu: Gpu | str) -> None:
    """Refuse a plan that is bound to another TensorRT version or another kind of GPU.

    Raises:
        InputError: naming the field that differs.
    """
    built, settings = record.key, record.key.settings
    again = f"build it here: cliphand build {plan.parent} --flavour {built.flavour}."
    if isinstance(gpu, str):
        raise InputError(f"{plan} needs a GPU and {gpu}; run the ONNX graph {record.onnx} instead.")
    targets = settings.compute_capabilities
    if FLAVOURS[built.flavour] is TENSORRT and settings.hardware != "ampere_plus" and built.gpu is not None:
        targets = (built.gpu.compute_capability,)
    versions = () if settings.version_compatible else (built.tensorrt_version,)
    bound = {"tensorrt_version": (versions, version), "compute_capability": (targets, gpu.compute_capability)}
    for name, (valid, here) in bound.items():
        built_for = ", ".join(valid)
        require(not valid or here in valid, f"{plan} differs in {name}: built for {built_for}, here is {here}; {again}")


def choose_profile(profiles: Sequence[BatchRange], batch: int) -> int:
    """The profile that serves `batch`, the one tuned nearest to it among several.

    Raises:
        InputError: none does.
    """
    fitting = [place for place, span in enumerate(profiles) if span.min <= batch <= span.max]
    spans = ", ".join(f"{span.min} to {span.max}" for span in profiles)
    require(len(fitting) > 0, f"a call of {batch} images fits no profile of the plan, which serve {spans}.")
    return min(fitting, key=lambda place: abs(math.log(batch / profiles[place].opt)))


def split_batch(profiles: Sequence[BatchRange], batch: int) -> list[int]:
    """Sizes of the calls that together run `batch` images: as few as the largest profile allows.

    Raises:
        InputError: the remainder is smaller than every profile's least batch.
    """
    n_calls = math.ceil(batch / max(span.max for span in profiles))
    # Even shares: a call of 33 and one of 32 are faster than one of 64 and one of 1, and rarely fall below a minimum.
    sizes = [batch // n_calls + (place < batch % n_calls) for place in range(n_calls)]
    for size in sizes:
        choose_profile(profiles, size)
    return sizes
