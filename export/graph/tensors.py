"""Type and shape of every tensor of a graph at one batch size."""

from dataclasses import dataclass

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

LARGE = 4096  # numbers; a larger tensor holds weights, never a shape that inference has to read


@dataclass(frozen=True, slots=True)
class TensorType:
    """One tensor.

    Attributes:
        dtype: ONNX's element type, such as `onnx.TensorProto.FLOAT`.
        shape: its extents, None where the graph does not fix one.
    """

    dtype: int
    shape: tuple[int | None, ...]

    @property
    def size(self) -> int:
        """Numbers in it.

        Raises:
            ValueError: an extent is not fixed.
        """
        size = 1
        for extent in self.shape:
            if extent is None:
                raise ValueError(f"a tensor of shape {self.shape} has no size")
            size *= extent
        return size

    @property
    def n_bytes(self) -> float:
        """Bytes it takes."""
        if self.dtype in HALF_BYTES:
            return self.size / 2
        return float(self.size * helper.tensor_dtype_to_np_dtype(self.dtype).itemsize)


HALF_BYTES: frozenset[int] = frozenset({TensorProto.INT4, TensorProto.UINT4})


def tensor_types(model: ModelProto, *, batch: int) -> dict[str, TensorType]:
    """Types of inputs, initializers and every node's outputs when the batch is `batch`.

    Raises:
        onnx.shape_inference.InferenceError: types or shapes contradict each other.
    """
    light = _without_weights(model)
    for value in light.graph.input[: len(model.graph.input)]:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    inferred = shape_inference.infer_shapes(light, check_type=True, strict_mode=True, data_prop=True).graph
    types = {value.name: _tensor_type(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    return types | {tensor.name: TensorType(tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer}


def _without_weights(model: ModelProto) -> ModelProto:
    """A copy with inputs for large initializers and without the shapes that the graph states for itself."""
    graph = onnx.GraphProto(name=model.graph.name)
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    for output in model.graph.output:
        free = graph.output.add()
        free.CopyFrom(output)
        free.type.tensor_type.ClearField("shape")
    for tensor in model.graph.initializer:
        if _count(tensor) <= LARGE:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _count(tensor: TensorProto) -> int:
    return TensorType(tensor.data_type, tuple(tensor.dims)).size


def _tensor_type(value: ValueInfoProto) -> TensorType:
    tensor = value.type.tensor_type
    return TensorType(
        tensor.elem_type, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    )
