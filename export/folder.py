"""An export folder: `model.onnx`, `hand.npz` and `manifest.json`, complete or absent."""

from pathlib import Path

import onnx
import torch

from cliphand import __version__
from cliphand.checkpoint import load_checkpoint
from cliphand.files import whole_folder
from cliphand.hand import save_hand
from cliphand.provenance import git_commit, library_versions
from engines.manifest import HAND_NAME, CheckpointRecord, Manifest, describe, write_manifest
from export.deploy_model import count_parameters, deploy_model
from export.graph import OPSET, export_graph

GRAPH_NAME = "model.onnx"


def export_checkpoint(checkpoint_path: Path, out: Path) -> Manifest:
    """Export a checkpoint.

    Args:
        checkpoint_path: folder that `cliphand train` wrote.
        out: export folder; an older one is replaced once the new one is whole.

    Raises:
        InputError: the checkpoint cannot be read, or its graph fails a check; `out` is then as it was.
    """
    checkpoint = load_checkpoint(checkpoint_path)
    model = deploy_model(checkpoint.model)
    with whole_folder(out) as folder:
        check = export_graph(model, folder / GRAPH_NAME, input_size=checkpoint.model_config.input_size)
        save_hand(checkpoint.topology, folder / HAND_NAME)
        manifest = Manifest(
            input_size=checkpoint.model_config.input_size,
            crop=checkpoint.crop,
            checkpoint=CheckpointRecord(path=str(checkpoint.path.resolve()), sha256=checkpoint.sha256),
            artefacts={GRAPH_NAME: describe(folder / GRAPH_NAME, precision="fp32")},
            cliphand_version=__version__,
            commit=git_commit(),
            exporter={
                "opset": OPSET,
                "torch": torch.__version__,
                "onnx": onnx.__version__,
                "parameters": count_parameters(model),
                "batches_checked": check.batches,
                "max_difference_uvd": check.max_difference_uvd,
                "max_difference_mm": check.max_difference_mm,
                "versions": library_versions(),
            },
            training={"backbone": checkpoint.model_config.backbone, **checkpoint.facts},
        )
        write_manifest(manifest, folder)
    return manifest
