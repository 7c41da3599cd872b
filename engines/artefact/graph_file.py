"""ONNX files as they are read: the one way in which graphs from outside enter.

A manifest's hash covers one file, so all that a graph needs must lie in that file, and every engine must know all that
it asks for: ONNX's own operators, and no others.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, NodeProto, TensorProto

from cliphand.errors import InputError
from cliphand.files import require_file

MAX_BYTES = 2**31 - 1  # where protobuf ends
DOMAINS = ("", "ai.onnx")
WORDS = 300  # characters of the checker's own message that a sentence passes on


def read_graph(path: Path) -> ModelProto:
    """Read and check an ONNX file.

    Raises:
        InputError: it is missing, broken, larger than an ONNX file can be, keeps weights in other files, or holds what
            is not of ONNX itself.
    """
    content = _content(path)
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError:
        raise InputError(f"{path} is not an ONNX graph, or only the beginning of one; export it again.") from None
    if (fault := next(foreign_parts(model), None)) is not None:
        raise InputError(f"{path} {fault}; export it again.")
    try:
        onnx.checker.check_model(content)
    except Exception as error:  # its C++ raises whatever the fault led to
        words = " ".join(str(error).split())[:WORDS]
        raise InputError(f"{path} is not a valid ONNX graph ({words}); export it again.") from None
    return model


def _content(path: Path) -> bytes:
    require_file(path, advice="give an ONNX file or a folder that `cliphand export` wrote")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"{path} has {size / 1e9:.1f} GB; an ONNX file ends at 2.1 GB, and weights in further files are not read: "
            "choose a smaller backbone."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); make it readable.") from None


def foreign_parts(model: ModelProto) -> Iterator[str]:
    """What a graph needs beyond its own file and ONNX's own operators, as ends of sentences."""
    messages = list(_messages(model))
    for tensor in messages:
        if isinstance(tensor, TensorProto) and (tensor.data_location == TensorProto.EXTERNAL or tensor.external_data):
            places = ", ".join(entry.value for entry in tensor.external_data if entry.key == "location")
            yield f"keeps weight '{tensor.name}' in another file ({places or 'unnamed'}), which no hash covers"
    if model.functions:
        yield f"holds local functions ('{model.functions[0].name}'), which run-times inline differently"
    for node in messages:
        if isinstance(node, NodeProto) and node.domain not in DOMAINS:
            yield f"asks for {node.domain}.{node.op_type} (node '{node.name}'), which is no operator of ONNX"
    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in DOMAINS and entry.version > newest:
            yield f"uses opset {entry.version}; the onnx {onnx.__version__} installed here knows up to {newest}"


def _messages(message: Message) -> Iterator[Message]:
    """The message and all that it is made of, subgraphs, functions and attributes among it, down to its tensors."""
    yield message
    if isinstance(message, TensorProto):
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _messages(part)
