"""Rules about plans, without TensorRT or a GPU: what is refused, what a name promises, which profile serves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from cliphand.config import require
from cliphand.errors import InputError
from engines.cuda_device import Gpu
from engines.trt_flavour import FLAVOURS, TENSORRT, TENSORRT_RTX, Flavour
from engines.trt_plan import BatchRange, BuildSettings, PlanRecord

WORDS = 600  # characters of TensorRT's own message that a sentence passes on
# What a precision's name promises: the type, the kinds of layer that must have it (as TensorRT's LayerType names them),
# and their least share. In an INT8 graph the matrix products of attention stay in high precision by choice.
PROMISES = {
    "fp32": ("FLOAT", ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"), 1.0),
    "fp16": ("HALF", ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"), 0.5),
    "int8": ("INT8", ("CONVOLUTION",), 0.5),
}


def check_settings(settings: BuildSettings, flavour: Flavour, *, gpu: Gpu | None) -> None:
    """Refuse settings that a flavour does not know, before TensorRT does so less plainly.

    Raises:
        InputError: one is set that this flavour or this machine cannot serve.
    """
    # The lean runtime, the other architectures: TensorRT's alone. Lists of targets: TensorRT for RTX's alone.
    owners = (
        ("version_compatible", settings.version_compatible, TENSORRT),
        ("hardware", settings.hardware != "none", TENSORRT),
        ("compute_capabilities", len(settings.compute_capabilities) > 0, TENSORRT_RTX),
    )
    for name, is_set, owner in owners:
        require(not is_set or flavour is owner, f"{name} is set; it exists in {owner.title}, not in {flavour.title}.")
    require(
        not settings.stripped or gpu is not None,
        "a stripped plan can only be built with a GPU at hand; build a whole one, or build on the target.",
    )


def check_runs_here(record: PlanRecord, plan: Path, *, version: str, gpu: Gpu) -> None:
    """Refuse a plan that this machine cannot run, naming the field that differs.

    Raises:
        InputError: the plan is bound to another TensorRT version or another kind of GPU.
    """
    built, settings = record.key, record.key.settings
    flavour = FLAVOURS[built.flavour]
    again = f"build it here: cliphand build {plan.parent} --flavour {flavour.name}."
    require(
        settings.version_compatible or built.tensorrt_version == version,
        f"{plan} differs in tensorrt_version: built with {built.tensorrt_version}, here is {version}; {again}",
    )
    targets: Sequence[str] = settings.compute_capabilities
    if flavour is TENSORRT and settings.hardware != "ampere_plus" and built.compute_capability is not None:
        targets = (built.compute_capability,)
    require(
        not targets or gpu.compute_capability in targets,
        f"{plan} differs in compute_capability: built for {', '.join(targets)}, {gpu.name} has "
        f"{gpu.compute_capability}; {again}",
    )


def check_precision(precision: str, layers: Mapping[str, int], *, source: str) -> None:
    """Refuse a graph whose arithmetic is not what its name says.

    Args:
        precision: `fp32`, `fp16` or `int8`; any other name states nothing.
        layers: from `engines.trt_network.count_layers`.
        source: named in the error.

    Raises:
        InputError: too few of the layers that do the arithmetic are of that type.
    """
    if precision not in PROMISES:
        return
    kind, layer_kinds, share = PROMISES[precision]
    compute = {key: count for key, count in layers.items() if key.split()[0] in layer_kinds}
    true = sum(count for key, count in compute.items() if key.split()[1] == kind)
    require(
        true >= share * sum(compute.values()) and true > 0,
        f"{source} is called {precision}, but TensorRT sees {compute or 'none of the layers that count'}; export it "
        "again.",
    )


def check_engine_precision(precision: str, engine_layers: Mapping[str, int], *, source: str) -> None:
    """Refuse a plan in which no layer got the type that its name promises.

    Args:
        precision: of the graph.
        engine_layers: from `layer_types`.
        source: named in the error.

    Raises:
        InputError: the inspector names types, and none is the promised one.
    """
    wanted = {"fp16": ("FP16",), "int8": ("INT8",)}.get(precision, ())
    found = any(engine_layers.get(name, 0) for name in wanted)
    require(
        not wanted or found,
        f"{source} is called {precision}, but TensorRT built it from layers of {dict(engine_layers)}; do not use it.",
    )


# As the inspector spells a tensor's format: "Half", "Row major linear FP16 format", "Int8 ...".
TYPE_WORDS = {
    "FP16": ("FP16", "HALF"),
    "INT8": ("INT8",),
    "BF16": ("BF16",),
    "FP8": ("FP8",),
    "FP32": ("FP32", "FLOAT"),
}


def layer_types(information: Mapping[str, object]) -> dict[str, int]:
    """Layers by the type of their first output.

    Args:
        information: what `EngineInspector.get_engine_information` gives as JSON.
    """
    counts: dict[str, int] = {}
    layers = information.get("Layers")
    for layer in layers if isinstance(layers, list) else []:
        outputs = layer.get("Outputs") if isinstance(layer, Mapping) else None
        text = str(outputs[0].get("Format/Datatype", "")).upper() if outputs else ""
        kind = next((name for name, words in TYPE_WORDS.items() if any(word in text for word in words)), "other")
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def choose_profile(profiles: Sequence[BatchRange], batch: int) -> int | None:
    """The profile that serves `batch`, the one tuned nearest to it among several; None where none does."""
    fitting = [place for place, span in enumerate(profiles) if span.min <= batch <= span.max]
    return min(fitting, key=lambda place: abs(math.log(batch / profiles[place].opt)), default=None)


def split_batch(profiles: Sequence[BatchRange], batch: int) -> list[int]:
    """Sizes of the calls that together run `batch` images: as few as the largest profile allows.

    Raises:
        InputError: the remainder is smaller than every profile's least batch.
    """
    largest = max(span.max for span in profiles)
    n_calls = math.ceil(batch / largest)
    # Even shares: a call of 33 and one of 32 are faster than one of 64 and one of 1, and rarely fall below a minimum.
    sizes = [batch // n_calls + (place < batch % n_calls) for place in range(n_calls)]
    for size in sizes:
        if choose_profile(profiles, size) is None:
            spans = ", ".join(f"{span.min} to {span.max}" for span in profiles)
            raise InputError(f"a call of {size} images fits no profile of the plan, which serve {spans}.")
    return sizes
