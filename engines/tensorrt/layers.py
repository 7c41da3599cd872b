"""Proof of a precision: each convolution and matrix product is judged by what it multiplies, never by what it puts out.

The same in the parsed network and in the finished engine.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cliphand.config import require

if TYPE_CHECKING:
    import tensorrt

CONVOLUTION, PRODUCT = "CONVOLUTION", "MATRIX_MULTIPLY"
ARITHMETIC = (CONVOLUTION, PRODUCT)
# Layers that only move numbers: the builder takes a dequantisation past them, to the layer that multiplies.
MOVERS = frozenset({"SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY", "CAST"})
# What a precision's name promises: the types, the kinds of layer that must have one of them (as TensorRT's LayerType
# names them), their least share, and why not all. FP16 is no BF16, which has an eighth of its digits.
PROMISES: Mapping[str, tuple[frozenset[str], tuple[str, ...], float, str]] = {
    "fp32": (frozenset({"FLOAT", "TF32"}), ARITHMETIC, 1.0, "no rounding is part of its name"),
    "fp16": (frozenset({"HALF"}), ARITHMETIC, 0.5, "heads and what overflows stay in FP32 by choice"),
    "int8": (frozenset({"INT8"}), (CONVOLUTION,), 0.5, "attention's products and kept layers are in FP16 by choice"),
}
UNTOLD = "UNTOLD"
# Of a layer of the engine's inspector, in any of the words that TensorRT's versions use for it: the kind of its
# arithmetic, from its type or, where it was fused into another, from the name of its kernel.
KINDS = (
    (CONVOLUTION, re.compile(r"conv(?!ert)|fprop|implicit_gemm", re.IGNORECASE)),
    (PRODUCT, re.compile(r"gemm|matmul|matrixmult|fullyconnected|_fc[_0-9]|\bfc\b", re.IGNORECASE)),
)
TRANSPOSED = re.compile(r"deconv|dgrad", re.IGNORECASE)
# What a kernel multiplies is the first type in its name: `..._i8i8_i8i32_f32_...`, `ampere_h16816gemm_...`.
TACTIC_TYPE = re.compile(
    r"(?:^|_)(?:(?P<INT8>i8|s8|int8|imma|i8816|i16832)|(?P<BF16>bf16|s16816gemm_bf16)|(?P<TF32>tf32|s1688gemm(?!_fp16))"
    r"|(?P<FP8>e4m3|fp8)|(?P<HALF>f16|fp16|h884|h1688|h16816|hmma|hgemm|s16816gemm_fp16|s1688gemm_fp16)"
    r"|(?P<FLOAT>f32|fp32|sgemm|scudnn|ffma))"
)
# A type in the spelling of a tensor's format: "Half", "Row major linear FP16 format", "BFloat16", "... Int8 format".
FORMAT_TYPE = re.compile(
    r"(?P<BF16>bf16|bfloat16|bfp16)|(?P<TF32>tf32)|(?P<HALF>fp16|half|float16)|(?P<INT8>int8)|(?P<FP8>fp8|e4m3)"
    r"|(?P<FLOAT>fp32|float)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of a plan's or a graph's layers that do the arithmetic have the type that its name promises.

    Attributes:
        types: that are promised.
        kinds: of the layers.
        true: how many have one of the types.
        told: how many tell what they multiply.
    """

    types: frozenset[str]
    kinds: tuple[str, ...]
    true: int
    told: int

    def __str__(self) -> str:
        names = {CONVOLUTION: "convolutions", PRODUCT: "matrix products"}
        kinds = " and ".join(names[kind] for kind in self.kinds)
        return f"{self.true} of {self.told} {kinds} in {' or '.join(sorted(self.types))}"


def share_of(precision: str, layers: Mapping[str, object], *, kinds: tuple[str, ...] = ARITHMETIC) -> Share:
    """Of `layers` by kind and type, from `count_layers` or `engine_layers`; those of other `kinds` left out."""
    types, _, _, _ = PROMISES[precision]
    by_type: Counter[str] = Counter()
    for key, count in layers.items():
        kind, _, found = key.partition(" ")
        if kind in kinds and found != UNTOLD and isinstance(count, int):
            by_type[found] += count
    return Share(types, kinds, sum(by_type[name] for name in types), by_type.total())


def check_precision(precision: str, layers: Mapping[str, int], *, source: str, silence: bool = False) -> None:
    """Refuse a graph or a plan, named by `source`, whose layers are not what its precision's name says.

    Args:
        precision: `fp32`, `fp16` or `int8`.
        layers: by kind and type, from `count_layers` or `engine_layers`.
        source: for the sentence.
        silence: whether layers may tell nothing: an engine of TensorRT for RTX does, before its just-in-time
            compilation.

    Raises:
        InputError: too few of the layers that do the arithmetic are of that type.
    """
    _, kinds, least, why = PROMISES[precision]
    share = share_of(precision, layers, kinds=kinds)
    if silence and share.told == 0:
        return
    compute = {key: count for key, count in layers.items() if key.split()[0] in kinds}
    require(
        share.told > 0 and share.true >= least * share.told,
        f"{source} is called {precision}, but TensorRT sees {share}, {compute or 'no such layer'}; at least "
        f"{least:.0%} is the rule ({why}): export it again, do not use it.",
    )


def proof_of(precision: str, *, network: Mapping[str, int], engine: Mapping[str, int] | str | None) -> str:
    """How many layers have the type that the name promises, and what was judged: the engine, where it tells them.

    Args:
        precision: `fp32`, `fp16` or `int8`.
        network: layers of the parsed network, from `count_layers`.
        engine: layers of the finished engine, from `engine_layers`; why this GPU does not load it; None without a GPU.
    """
    if isinstance(engine, Mapping):
        if (share := share_of(precision, engine)).told:
            return f"{share} (of the finished engine)"
        silence = "this TensorRT does not tell the types in its finished engine"
    elif engine is None:
        silence = "without a GPU, TensorRT tells nothing of the finished engine"
    else:
        silence = "this GPU does not load the finished engine"
    return f"{share_of(precision, network)} (of the parsed network: {silence})"


def count_layers(network: "tensorrt.INetworkDefinition") -> dict[str, int]:
    """Layers of a parsed network by kind and type, such as `CONVOLUTION HALF`.

    The type of a convolution or matrix product is its first factor's, and INT8 where both its factors come from a
    DequantizeLinear, straight or past layers that only move numbers, which the builder fuses into an INT8 kernel; the
    type of any other layer is its output's.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised: set[str] = set()
    counts: Counter[str] = Counter()
    for layer in layers:  # each comes after those that it takes from
        kind = layer.type.name
        factors = [
            factor for place in range(min(layer.num_inputs, 2)) if (factor := layer.get_input(place)) is not None
        ]
        if kind == "DEQUANTIZE" or (kind in MOVERS and factors and factors[0].name in dequantised):
            dequantised.add(layer.get_output(0).name)
        if kind in ARITHMETIC and len(factors) == 2 and {factor.name for factor in factors} <= dequantised:
            counts[f"{kind} INT8"] += 1
        elif kind in ARITHMETIC and factors:
            counts[f"{kind} {factors[0].dtype.name}"] += 1
        else:
            counts[f"{kind} {layer.get_output(0).dtype.name}"] += 1
    return dict(sorted(counts.items()))


def engine_layers(information: Mapping[str, object]) -> dict[str, int]:
    """Convolutions and matrix products of a finished engine by kind and type, and how many other layers there are.

    Args:
        information: the JSON of `EngineInspector.get_engine_information`, detailed.
    """
    entries = information.get("Layers")
    counts: Counter[str] = Counter()
    for entry in entries if isinstance(entries, list) else ():
        kind = _kind(entry) if isinstance(entry, dict) else None
        counts["other" if kind is None else f"{kind} {_multiplied(entry)}"] += 1
    return dict(sorted(counts.items()))


def _kind(entry: Mapping[str, object]) -> str | None:
    """What arithmetic a layer of the engine does; a reformat or a fused pointwise kernel does none."""
    if any(TRANSPOSED.search(str(entry.get(field, ""))) for field in ("ParameterType", "LayerType", "TacticName")):
        return None  # a name promises nothing about transposed convolutions
    for field in ("ParameterType", "LayerType", "TacticName"):
        for kind, words in KINDS:
            if words.search(str(entry.get(field, ""))):
                return kind
    return None


def _multiplied(entry: Mapping[str, object]) -> str:
    """The type that a layer multiplies: its kernel's, else its first input's."""
    found = TACTIC_TYPE.search(str(entry.get("TacticName", "")).lower())
    if found is None:
        found = FORMAT_TYPE.search(next(_formats(entry.get("Inputs")), ""))
    return str(found.lastgroup) if found else UNTOLD


def _formats(tensors: object) -> Iterator[str]:
    """Formats of the tensors that tell one."""
    for tensor in tensors if isinstance(tensors, list) else ():
        if isinstance(tensor, dict):
            yield str(tensor.get("Format/Datatype", ""))
