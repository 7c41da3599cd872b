"""A deployed model as an ONNX graph: folded, traced, named, simplified, and written only if every guarantee holds."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxsim
import torch

from cliphand.config import require
from cliphand.errors import InputError
from cliphand.model.hand_model import HandModel
from engines.artefact.graph_file import MAX_BYTES
from engines.base import INPUT_NAME, OUTPUT_SHAPES
from export.graph.agreement import Agreement, check_agreement
from export.graph.deploy_model import EXAMPLE_BATCH, example_images
from export.graph.fold import fold
from export.graph.folded_model import FoldedHand
from export.graph.guarantees import BATCH_NAME, OPSET, check_guarantees, too_large
from export.graph.node_names import name_nodes
from export.graph.translations import TRANSLATIONS, Translations

MAX_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Trace:
    """What the exporter made of a model.

    Attributes:
        graph: in ONNX.
        program: the operations of PyTorch that the graph was written from.
        operations: name of the operation in `program` by the name of the graph's node.
    """

    graph: onnx.ModelProto
    program: torch.export.ExportedProgram
    operations: Mapping[str, str]


def export_graph(model: HandModel, path: Path, *, input_size: int) -> Agreement:
    """Write a deployed model as a float32 ONNX graph with a dynamic batch.

    Args:
        model: from `deploy_model`.
        path: of the file to write.
        input_size: side S of the square crops.

    Returns:
        How closely ONNX Runtime, running the file, follows the model.

    Raises:
        InputError: the graph cannot be made, breaks a guarantee, or does not compute what the model computes.
    """
    folded = fold(model)
    n_bytes = sum(weight.numel() * weight.element_size() for weight in folded.state_dict().values())
    require(n_bytes <= MAX_BYTES, f"the graph is not written: {too_large(n_bytes)}.")  # it could not even be traced
    graph = simplify(trace_folded(folded, input_size).graph)
    check_guarantees(graph, layer_norms=count_layer_norms(folded))
    onnx.checker.check_model(graph, full_check=True)
    onnx.save_model(graph, path)
    return check_agreement(model, path, input_size=input_size)


def count_layer_norms(model: FoldedHand) -> int:
    """LayerNorms of the mesh regressor; each must reach the graph as one node."""
    return sum(isinstance(module, torch.nn.LayerNorm) for module in model.mesh_regressor.modules())


def trace_folded(folded: FoldedHand, input_size: int) -> Trace:
    """What every exported graph is made from; S is the crops' side."""
    return trace(folded, input_size, translations=TRANSLATIONS)


def trace(model: torch.nn.Module, input_size: int, *, translations: Translations = ()) -> Trace:
    """A model as an ONNX graph, straight from the exporter but for the names of its nodes.

    Args:
        model: images (B, 3, S, S) to joints and vertices.
        input_size: S.
        translations: PyTorch's operators to functions that write them in ONNX, where the exporter's own will not do.
    """
    images = example_images(EXAMPLE_BATCH, input_size)
    with _silence():
        program = torch.onnx.export(
            model,
            (images,),
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_SHAPES),
            dynamic_shapes=({0: torch.export.Dim(BATCH_NAME, min=1, max=MAX_BATCH)},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            custom_translation_table=dict(translations),
        )
    if program is None or program.exported_program is None:
        raise InputError("the exporter returned no graph; this torch version cannot export the model.")
    graph = program.model_proto
    operations = name_nodes(graph)
    return Trace(graph, program.exported_program, operations)


def simplify(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Fold what is constant.

    onnxsim's own rewrites stay off: they turn each MatMul and Add into Reshape, Gemm, Reshape.
    """
    simplified, same = onnxsim.simplify(graph, perform_optimization=False)
    if not same:
        raise InputError("onnxsim changed what the graph computes; export with another onnxsim version.")
    del simplified.metadata_props[:]  # its log
    return simplified


@contextmanager
def _silence() -> Iterator[None]:
    """The exporter reports its progress on stdout, which belongs to results."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
