"""What holds for every exported graph, whatever its precision; a graph that breaks one of these is not exported.

Run-times differ in what they read into a graph at the edges of the format. These rules keep it in the middle.
"""

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from cliphand.errors import InputError
from engines.artefact.graph_file import MAX_BYTES, foreign_parts
from engines.base import INPUT_NAME, OUTPUT_SHAPES
from export.graph.node_names import stage_of
from export.graph.tensors import TensorType, tensor_types

OPSET = 18  # from 20 on, TensorRT's parser reads GridSample and others differently
BATCH_NAME = "batch"
PROBE_BATCHES = (3, 5)  # two sizes tell what follows the batch
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
QUANTISED = frozenset({TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN})
RUN_TIME_SHAPES = "shapes would be computed at run time"
CONTROL_FLOW = "control flow splits an engine"
DATA_SHAPES = "its output's shape depends on the data"
CHANCE = "its results change from call to call"
# Operator: why a graph never holds it, whatever TensorRT and the other run-times make of it. What they lack is theirs
# to say: the export has TensorRT's own parser read the graph, and ONNX Runtime run it.
FORBIDDEN: dict[str, str] = {
    "GridSample": "TensorRT's parser falls back to nearest neighbours from opset 20 on (NVIDIA/TensorRT issue 4646)",
    **dict.fromkeys(("If", "Loop", "Scan"), CONTROL_FLOW),
    **dict.fromkeys(("Range", "Shape", "Size"), RUN_TIME_SHAPES),
    **dict.fromkeys(("Compress", "NonMaxSuppression", "NonZero", "Unique"), DATA_SHAPES),
    **dict.fromkeys(("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"), CHANCE),
    **dict.fromkeys(("RandomUniform", "RandomUniformLike"), CHANCE),
}
NORMALISED_STAGE = "mesh_regressor"  # its LayerNorms are this project's; a backbone's are its own affair


def check_guarantees(model: ModelProto, *, layer_norms: int | None = None) -> None:
    """Check a graph, weights inline.

    Args:
        model: the graph, as it is to be written.
        layer_norms: how many LayerNormalization the mesh regressor must have; None where that is not known.

    Raises:
        InputError: a rule is broken; the sentence names the rule and the node or tensor.
    """
    faults = [
        *(f"it {part}" for part in foreign_parts(model)),
        *_opset(model),
        *_operators(model),
        *_weights(model),
        *_dead(model),
        *_interface(model),
        *_folded(model, layer_norms),
    ]
    if not faults:  # shapes can be inferred only of a graph that is sound so far
        faults = [*_tensors(model)]
    if faults:
        more = f" ({len(faults)} faults in all)" if len(faults) > 1 else ""
        raise InputError(f"the graph is not written: {faults[0]}{more}.")


def _opset(model: ModelProto) -> list[str]:
    found = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    return [f"it uses opset {found}; it must be ai.onnx {OPSET} alone"] if found != {"ai.onnx": OPSET} else []


def _operators(model: ModelProto) -> list[str]:
    nodes = [node for node in model.graph.node if node.op_type in FORBIDDEN]
    return [f"node '{node.name}' is a {node.op_type}: {FORBIDDEN[node.op_type]}" for node in nodes]


def _weights(model: ModelProto) -> list[str]:
    faults, n_bytes = [], 0.0
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.DOUBLE:
            faults.append(f"weight '{tensor.name}' is float64; the widest type is float32")
        n_bytes += TensorType(tensor.data_type, tuple(tensor.dims)).n_bytes
    return faults + ([too_large(n_bytes)] if n_bytes > MAX_BYTES else [])


def too_large(n_bytes: float) -> str:
    """Why weights of this size cannot be exported, as the end of a sentence."""
    return (
        f"its weights take {n_bytes / 1e9:.1f} GB, and an ONNX file ends at {MAX_BYTES / 1e9:.1f}; more would have to "
        "lie in further files, which the manifest's hash does not cover: choose a smaller backbone"
    )


def _dead(model: ModelProto) -> list[str]:
    """Whatever no output needs: nodes, single outputs of nodes, weights."""
    graph = model.graph
    used = {value for node in graph.node for value in node.input} | {value.name for value in graph.output}
    values = [(node.name, value) for node in graph.node for value in node.output if value]
    faults = [f"output '{value}' of node '{name}' is used by nothing" for name, value in values if value not in used]
    return faults + [f"weight '{t.name}' is used by nothing" for t in graph.initializer if t.name not in used]


def _interface(model: ModelProto) -> list[str]:
    """Names of inputs and outputs, and the batch as the one dimension that is free."""
    graph = model.graph
    faults = []
    for role, values, valid in (("inputs", graph.input, [INPUT_NAME]), ("outputs", graph.output, list(OUTPUT_SHAPES))):
        if [value.name for value in values] != valid:
            faults.append(f"its {role} are {[value.name for value in values]}; they must be {valid}")
        for value in values:
            tensor = value.type.tensor_type
            free = [dim.dim_param or "?" for dim in tensor.shape.dim if not dim.HasField("dim_value")]
            if (
                tensor.elem_type != TensorProto.FLOAT
                or free != [BATCH_NAME]
                or tensor.shape.dim[0].dim_param != BATCH_NAME
            ):
                faults.append(
                    f"'{value.name}' must be float32 with '{BATCH_NAME}' as its first and only free dimension"
                )
    return faults


def _folded(model: ModelProto, layer_norms: int | None) -> list[str]:
    """BatchNorm behind a convolution is folded; LayerNorm is one node."""
    made_by = {value: node for node in model.graph.node for value in node.output}
    faults = []
    for node in model.graph.node:
        before = made_by.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if before is not None and before.op_type in ("Conv", "ConvTranspose"):
            faults.append(f"node '{node.name}' is a BatchNormalization behind a {before.op_type}; it must be folded")
    norms = [n for n in model.graph.node if n.op_type == "LayerNormalization" and stage_of(n.name) == NORMALISED_STAGE]
    if layer_norms is not None and len(norms) != layer_norms:
        faults.append(f"its {NORMALISED_STAGE} has {len(norms)} LayerNormalization nodes; the model has {layer_norms}")
    return faults


def _tensors(model: ModelProto) -> list[str]:
    """Every tensor computed at run time holds numbers, not shapes, and follows the batch in one extent alone.

    Which one is the backbone's affair: windows of an image count as images, behind query, key and value.
    """
    try:
        types = [tensor_types(model, batch=batch) for batch in PROBE_BATCHES]
    except onnx.shape_inference.InferenceError as error:
        return [f"its shapes contradict each other ({' '.join(str(error).split())})"]
    return [fault for node in _computed(model) for value in node.output for fault in _tensor(node, value, types)]


def _computed(model: ModelProto) -> list[NodeProto]:
    """Nodes that depend on the input."""
    varying = {value.name for value in model.graph.input}
    computed = []
    for node in model.graph.node:
        if varying & set(node.input):
            varying |= set(node.output)
            computed.append(node)
    return computed


def _tensor(node: NodeProto, value: str, types: list[dict[str, TensorType]]) -> list[str]:
    unknown = TensorType(TensorProto.UNDEFINED, ())
    first, second = (each.get(value, unknown) for each in types)
    where = f"the output of node '{node.name}'"
    if first.dtype == TensorProto.DOUBLE:
        return [f"{where} is float64; the widest type is float32"]
    if first.dtype not in FLOATS | QUANTISED:
        kind = TensorProto.DataType.Name(first.dtype).lower()
        return [f"{where} is {kind}; shapes and conditions must not be computed at run time"]
    if not _one_extent_follows(first.shape, second.shape):
        small, large = PROBE_BATCHES
        shapes = f"{first.shape} at batch {small} and {second.shape} at batch {large}"
        return [f"{where} is {shapes}; one extent alone may follow the batch, in proportion to it"]
    return []


def _one_extent_follows(small: tuple[int | None, ...], large: tuple[int | None, ...]) -> bool:
    """Whether two shapes, at the probed batch sizes, differ in one extent that counts images or parts of images."""
    if len(small) != len(large) or not all(small) or not all(large):
        return False
    grown = [(few or 0, many or 0) for few, many in zip(small, large, strict=True) if few != many]
    few_images, many_images = PROBE_BATCHES
    return len(grown) == 1 and grown[0][0] * many_images == grown[0][1] * few_images
