"""PyTorch operators as the run-times like to read them, where the exporter writes something else."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op

# Each operator with the function that writes it; see `torch.onnx.export`, custom_translation_table.
Translations = Sequence[tuple[Callable[..., object], Callable[..., object]]]


def attention(
    query: FLOAT,
    key: FLOAT,
    value: FLOAT,
    attn_mask: None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> FLOAT:
    """Attention of folded models: MatMul, Softmax, MatMul and nothing between.

    TensorRT fuses that pattern, given that the scale is part of the query (its documentation, "Fused Attention"). The
    exporter scales both factors, and computes shapes at run time to do so.
    """
    if attn_mask is not None or dropout_p or is_causal or enable_gqa:
        raise ValueError("only attention without mask, dropout and groups can be written so")
    if scale != 1.0:
        raise ValueError("only attention whose query carries the scale can be written so")
    scores = op.MatMul(query, op.Transpose(key, perm=(0, 1, 3, 2)))
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def gelu(x: FLOAT, approximate: Literal["none", "tanh"] = "none") -> FLOAT:
    """GELU in the order of operations that ONNX Runtime and TensorRT run as one; the exporter's they run one by one."""
    return op.Mul(op.Mul(x, _number(0.5)), op.Add(_GELU[approximate](x), _number(1.0)))


def _erf(x: FLOAT) -> FLOAT:
    return op.Erf(op.Div(x, _number(math.sqrt(2))))


def _tanh(x: FLOAT) -> FLOAT:
    cubed = op.Mul(op.Pow(x, _number(3.0)), _number(0.044715))
    return op.Tanh(op.Mul(op.Add(x, cubed), _number(math.sqrt(2 / math.pi))))


def _number(value: float) -> FLOAT:
    """A constant, which the exporter makes of a plain number."""
    return cast("FLOAT", value)


_GELU: dict[str, Callable[[FLOAT], FLOAT]] = {"none": _erf, "tanh": _tanh}
TRANSLATIONS: Translations = (
    (torch.ops.aten.scaled_dot_product_attention.default, attention),
    (torch.ops.aten.gelu.default, gelu),
)
