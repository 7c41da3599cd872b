"""Operators that the exporter is told how to write."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.base import OUTPUT_SHAPES
from export.graph.trace import trace
from export.graph.translations import TRANSLATIONS, attention

FORMULAS = {"none": "Erf", "tanh": "Tanh"}


class Activated(nn.Module):
    """Images to outputs of the right shapes, through one activation."""

    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.activation = nn.GELU(approximate)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.activation(images * 6).mean(dim=(2, 3)).unsqueeze(1)
        return x + torch.zeros(21, 3), x + torch.zeros(778, 3)


class Attending(nn.Module):
    """The same, through attention over the pixels of a row."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mixed = functional.scaled_dot_product_attention(images * 3, images, images, scale=1.0)
        x = mixed.mean(dim=(2, 3)).unsqueeze(1)
        return x + torch.zeros(21, 3), x + torch.zeros(778, 3)


def run(model: nn.Module, path: Path, images: Tensor) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """The graph, its joints and the model's."""
    graph = trace(model.eval(), images.shape[3], translations=TRANSLATIONS).graph
    onnx.save(graph, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return graph, session.run(list(OUTPUT_SHAPES)[:1], {"image": images.numpy()})[0], model(images)[0].numpy()


@pytest.mark.parametrize("approximate", FORMULAS)
def test_gelu_is_pytorchs(tmp_path: Path, approximate: str) -> None:
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    graph, ours, theirs = run(Activated(approximate), tmp_path / "gelu.onnx", images)
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=1e-5)
    assert FORMULAS[approximate] in {node.op_type for node in graph.graph.node}


@pytest.mark.parametrize(("approximate", "fused"), [("none", "Gelu"), ("tanh", "FastGelu")])
def test_onnxruntime_runs_gelu_as_one_operator(tmp_path: Path, approximate: str, fused: str) -> None:
    path, optimised = tmp_path / "gelu.onnx", tmp_path / "optimised.onnx"
    run(Activated(approximate), path, torch.zeros(1, 3, 16, 16))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert any(fused in node.op_type for node in onnx.load(optimised).graph.node)


def test_attention_is_pytorchs_in_three_operators(tmp_path: Path) -> None:
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    graph, ours, theirs = run(Attending(), tmp_path / "attention.onnx", images)
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=1e-5)
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds[: kinds.index("ReduceMean")] == ["Mul", "Transpose", "MatMul", "Softmax", "MatMul"]


@pytest.mark.parametrize(
    "options",
    [{"scale": None}, {"scale": 0.5}, {"attn_mask": 0}, {"dropout_p": 0.1}, {"is_causal": True}, {"enable_gqa": True}],
    ids=lambda options: next(iter(options)),
)
def test_other_attention_is_not_written_as_if_it_were_plain(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="can be written so"):
        attention(None, None, None, **({"scale": 1.0} | options))  # type: ignore[arg-type]
