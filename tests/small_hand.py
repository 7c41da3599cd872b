"""A small network with every part of the real one, and its export, made once for all tests that only read it."""

import functools
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch

from cliphand.checkpoint import save_checkpoint
from cliphand.config import CropConfig, ModelConfig
from cliphand.hand import HandTopology
from cliphand.model.clip_hand import ClipHand
from cliphand.model.hand_model import HandModel, level_templates
from export.graph.agreement import Agreement
from export.graph.deploy_model import deploy_model
from export.graph.trace import export_graph

SIDE = 64
CONFIG = ModelConfig(
    backbone="resnet18",
    input_size=SIDE,
    lixel_channels=16,
    depth_bins=24,
    heatmap_sigma=1.5,
    joint_feature=24,
    levels=(30, 60, 120, 778),
    feature_sizes=(16, 16, 8, 8),
    depths=(1, 2, 0, 1),
    heads=(4, 2, 1, 2),
)
# What trains and exports soonest, for tests of commands from end to end.
TINY = ModelConfig(
    backbone="test_resnet",
    input_size=64,
    lixel_channels=16,
    joint_feature=32,
    feature_sizes=(32, 24, 16, 16),
    depths=(1, 0, 0, 0),
    heads=(4, 4, 2, 2),
)


def small_hand(config: ModelConfig = CONFIG, *, seed: int = 0) -> HandModel:
    """A deployed model whose every weight, bias and running statistic differs from what folding could ignore."""
    torch.manual_seed(seed)
    templates = tuple(torch.randn(nodes, 3) for nodes in config.levels)
    model = deploy_model(HandModel(config, templates))
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.mul_(0.5 + torch.rand_like(tensor))
        elif tensor.dim() == 1 and "template" not in name:
            tensor.add_(0.1 * torch.randn_like(tensor))
    return model


def tiny_checkpoint(
    folder: Path, topology: HandTopology, *, crop: CropConfig | None = None, facts: Mapping[str, object] | None = None
) -> Path:
    """The folder, with an untrained `TINY` saved in it."""
    torch.manual_seed(0)
    save_checkpoint(
        folder,
        model=ClipHand(HandModel(TINY, level_templates(topology, TINY.levels)), None),
        model_config=TINY,
        crop=crop or CropConfig(),
        topology=topology,
        train=None,
        facts=facts or {},
    )
    return folder


_TRACED: dict[str, tuple[bytes, Agreement]] = {}  # by what the model is


def export_graph_once(model: HandModel, path: Path, *, input_size: int) -> Agreement:
    """As `export_graph`; a model that this process exported before has its graph again, without the seconds of a trace.

    For tests of what is done with the graph, in the place of `export.folder.write.export_graph`.
    """
    identity = hashlib.sha256(f"{input_size} {model}".encode())
    for name, tensor in model.state_dict().items():
        identity.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    key = identity.hexdigest()
    if key not in _TRACED:
        agreement = export_graph(model, path, input_size=input_size)
        _TRACED[key] = path.read_bytes(), agreement
    content, agreement = _TRACED[key]
    path.write_bytes(content)
    return agreement


@functools.cache
def small_export() -> tuple[HandModel, Path, Agreement]:
    """A small model, the graph that it was exported to, and how closely the two agree."""
    model = small_hand()
    path = Path(tempfile.mkdtemp()) / "model.onnx"
    return model, path, export_graph_once(model, path, input_size=SIDE)


def small_graph() -> onnx.ModelProto:
    """A copy of the exported graph, free to be broken."""
    return onnx.load(small_export()[1])
