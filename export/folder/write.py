"""An export folder: `model.onnx`, `hand.npz` and `manifest.json`, complete or absent.

The FP32 graph alone; `export.precision.typed_graphs.write_typed_graphs` adds the others, as `cliphand export` asks for.
"""

from pathlib import Path

import onnx
import torch

from cliphand import __version__
from cliphand.checkpoint import Checkpoint
from cliphand.errors import InputError
from cliphand.files import whole_folder
from cliphand.hand import HAND_NAME, save_hand, topology_sha256
from cliphand.kinds import EXPORTED_HAND
from cliphand.provenance import git_commit, library_versions
from engines.artefact.manifest import GRAPH_NAME, CheckpointRecord, Manifest, describe, write_manifest
from export.folder.contents import EXPORT
from export.graph.deploy_model import count_parameters, deploy_model
from export.graph.guarantees import OPSET
from export.graph.inventory import inventory, total
from export.graph.trace import export_graph
from export.precision.proof import prove

PRECISION = "fp32"


def export_checkpoint(checkpoint: Checkpoint, out: Path, *, tensorrt: bool = True) -> Manifest:
    """Export a checkpoint.

    Args:
        checkpoint: of `cliphand train` or `cliphand import-released`.
        out: export folder; an older one is replaced once the new one is whole.
        tensorrt: as `write_export`.

    Raises:
        InputError: as `write_export`, or `out` holds what no export does; `out` is then as it was.
    """
    with whole_folder(out, EXPORT) as folder:
        return write_export(checkpoint, folder, tensorrt=tensorrt)


def write_export(checkpoint: Checkpoint, folder: Path, *, tensorrt: bool) -> Manifest:
    """Write the FP32 export of a checkpoint into an empty folder.

    Args:
        checkpoint: of `cliphand train` or `cliphand import-released`.
        folder: there already.
        tensorrt: have TensorRT for RTX, where it is installed, parse and build the graph.

    Raises:
        InputError: the graph fails a check.
    """
    model = deploy_model(checkpoint.model)
    graph = folder / GRAPH_NAME
    agreement = export_graph(model, graph, input_size=checkpoint.model_config.input_size)
    try:
        proof = prove(graph, PRECISION, tensorrt=tensorrt)
    except InputError as error:
        remedy = "choose another backbone, or export without TensorRT (--no-tensorrt)"
        raise InputError(f"{str(error).rstrip('.')}; {remedy}.") from None
    save_hand(checkpoint.topology, folder / HAND_NAME, EXPORTED_HAND)
    manifest = Manifest(
        input_size=checkpoint.model_config.input_size,
        crop=checkpoint.crop,
        checkpoint=CheckpointRecord(path=str(checkpoint.path.resolve()), sha256=checkpoint.sha256),
        hand_sha256=topology_sha256(checkpoint.topology),
        artefacts={GRAPH_NAME: describe(graph, precision=PRECISION)},
        cliphand_version=__version__,
        commit=git_commit(),
        exporter={
            "opset": OPSET,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "parameters": count_parameters(model),
            "gflop": total(inventory(onnx.load(graph))).gflop,
            "batches_checked": agreement.batches,
            "max_difference_uvd": agreement.max_difference_uvd,
            "max_difference_relative": agreement.max_difference_relative,
            "max_difference_mm": agreement.max_difference_mm,
            "max_neighbour_effect": agreement.max_neighbour_effect,
            "tensorrt_rtx": proof.tensorrt,
            "versions": library_versions(),
        },
        training={"backbone": checkpoint.model_config.backbone, **checkpoint.facts},
    )
    write_manifest(manifest, folder)
    return manifest
