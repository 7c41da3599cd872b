"""What the GPU check runs: a user's export, or an untrained model exported for the purpose."""

import shutil
from pathlib import Path

import torch

from benchmarks.gpu.candidates import Subject
from cliphand import __version__
from cliphand.checkpoint import load_checkpoint
from cliphand.config import CropConfig, ModelConfig
from cliphand.model.hand_model import HandModel
from cliphand.provenance import git_commit
from engines.artefact.manifest import (
    CheckpointRecord,
    Manifest,
    checkpoint_path,
    describe,
    read_manifest,
    write_manifest,
)
from export.graph.deploy_model import deploy_model
from export.graph.inventory import read_inventory, total
from export.graph.trace import export_graph


def untrained_subject(out: Path, *, backbone: str, input_size: int) -> Subject:
    """Export an untrained model with random mesh templates: speed does not depend on weights."""
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, input_size=input_size)
    templates = tuple(torch.rand(nodes, 3) * 0.1 for nodes in config.levels)
    model = deploy_model(HandModel(config, templates))
    out.mkdir(parents=True, exist_ok=True)
    graph = out / "model.onnx"
    export_graph(model, graph, input_size=input_size)
    manifest = Manifest(
        input_size=input_size,
        crop=CropConfig(),
        checkpoint=CheckpointRecord(path="none", sha256="untrained"),
        hand_sha256="none",
        artefacts={graph.name: describe(graph, precision="fp32")},
        cliphand_version=__version__,
        commit=git_commit(),
        exporter={},
        training={"backbone": backbone, "trained": False},
    )
    write_manifest(manifest, out)
    return _subject(out, manifest, model)


def exported_subject(export: Path, out: Path) -> Subject:
    """A copy of an export folder, since plans and packages are written into it, and the checkpoint it came from.

    Raises:
        InputError: the folder is no export, or its checkpoint is not where it says.
    """
    manifest = read_manifest(export)
    model = deploy_model(load_checkpoint(checkpoint_path(manifest, export)).model)
    shutil.copytree(export, out, dirs_exist_ok=True)
    return _subject(out, manifest, model)


def _subject(folder: Path, manifest: Manifest, model: HandModel) -> Subject:
    graphs = {item.precision: folder / name for name, item in manifest.artefacts.items() if name.endswith(".onnx")}
    gflop = total(read_inventory(graphs["fp32"])).gflop
    return Subject(folder=folder, model=model, input_size=manifest.input_size, gflop=gflop, graphs=graphs)
