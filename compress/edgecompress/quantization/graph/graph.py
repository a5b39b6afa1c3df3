"""A flatbuffer's graph as the twin sees it: nodes in order, tensors with their quantization, constants as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.errors import ModelError
from edgecompress.tflite.format.sparse_reader import expand
from edgecompress.wording import counted

#: Schema type number -> NumPy type, for the types the twin works with.
DTYPES: dict[int, type[np.generic]] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT4: np.int8,
}
_OPERATOR_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        index: Its position in the flatbuffer.
        op: Its name in the schema, such as `CONV_2D`.
        label: The layer it belongs to, unique in the graph.
        inputs: Tensor numbers, -1 where an optional one is absent.
        outputs: Tensor numbers.
        options: The operator's options, by the schema's names.
        input_shapes: For one sample.
        output_shapes: For one sample.
        foreign: What computes it, where nothing here can.
    """

    index: int
    op: str
    label: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    foreign: Callable[[Node, Sequence[torch.Tensor]], tuple[torch.Tensor, ...]] | None = field(
        default=None, compare=False, repr=False
    )


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the flatbuffer.

    Attributes:
        name: As the flatbuffer has it.
        dtype: Of the values.
        scale: Empty where the tensor is not quantized; one per channel for most weights.
        zero_point: As many as scales.
        axis: The channel axis of `scale`.
        constant: The values, None for activations.
        bits: Of one value in the file; four-bit integers are held as INT8 here.
    """

    name: str
    dtype: np.dtype[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    constant: NDArray[Any] | None
    bits: int

    @property
    def quantized(self) -> bool:
        """Whether the values are integers that stand for real numbers."""
        return len(self.scale) > 0


@dataclass(frozen=True)
class Graph:
    """The first subgraph of a flatbuffer."""

    nodes: tuple[Node, ...]
    tensors: tuple[TensorSpec, ...]
    input: int
    output: int


def operands(op: str, inputs: Sequence[int]) -> tuple[int, ...]:
    """Returns an operator's inputs as all that multiply by weights have them: values, weights, bias, and what is left.

    A transposed convolution has the shape of its output first, then weights, values and the bias.
    """
    if op != "TRANSPOSE_CONV":
        return tuple(int(n) for n in inputs)
    shape, weights, values, *bias = (int(n) for n in inputs)
    return values, weights, bias[0] if bias else -1, shape


def tensor_values(model: schema.ModelT, tensor: schema.TensorT) -> NDArray[Any] | None:
    """Returns a constant tensor's values, those of a sparse one with its zeros, None for an activation."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    dtype = DTYPES.get(tensor.type)
    if dtype is None:
        raise ModelError(f"tensor {tensor.name!r} has a type this tool cannot read (schema type {tensor.type})")
    shape = [int(side) for side in tensor.shape] if tensor.shape is not None else []
    values = np.frombuffer(bytes(data), dtype=dtype)
    if tensor.type == schema.TensorType.INT4:
        values = unpack_int4(values)[: math.prod(shape)]
    if tensor.sparsity is not None:
        return expand(tensor.sparsity, values, tuple(shape))
    return values.reshape(shape)


def unpack_int4(packed: NDArray[Any]) -> NDArray[np.int8]:
    """Returns the values of bytes that hold two each, the low four bits first; an odd count leaves one too many."""
    raw = packed.view(np.uint8)
    # Shifting up and back down extends the sign.
    values: NDArray[np.int8] = np.stack([raw << 4, raw & 0xF0], axis=-1).reshape(-1).view(np.int8) >> 4
    return values


def pack_int4(values: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Returns the bytes that hold four-bit integers, two each, the low four bits first."""
    raw = values.reshape(-1).astype(np.int8).view(np.uint8) & 0x0F
    pairs = np.append(raw, np.zeros(len(raw) % 2, np.uint8)).reshape(-1, 2)
    packed: NDArray[np.uint8] = pairs[:, 0] | pairs[:, 1] << 4
    return packed


def _spec(model: schema.ModelT, tensor: schema.TensorT) -> TensorSpec:
    dtype = DTYPES.get(tensor.type)
    if dtype is None:
        raise ModelError(f"tensor {tensor.name!r} has a type this tool cannot read (schema type {tensor.type})")
    q = tensor.quantization
    empty = q is None or q.scale is None or len(q.scale) == 0
    return TensorSpec(
        name=tensor.name.decode("utf-8", "replace"),
        dtype=np.dtype(dtype),
        scale=np.zeros(0, np.float32) if empty else np.asarray(q.scale, np.float32),
        zero_point=np.zeros(0, np.int64) if empty else np.asarray(q.zeroPoint, np.int64),
        axis=0 if empty else int(q.quantizedDimension or 0),
        constant=tensor_values(model, tensor),
        bits=4 if tensor.type == schema.TensorType.INT4 else 8 * np.dtype(dtype).itemsize,
    )


def last_uses(graph: Graph) -> dict[int, list[int]]:
    """Returns, for each node's index, the activations that no later node reads; the graph's output is none of them."""
    last = {n: node.index for node in graph.nodes for n in node.inputs}
    frees: dict[int, list[int]] = {}
    for n, index in last.items():
        if n >= 0 and graph.tensors[n].constant is None and n != graph.output:
            frees.setdefault(index, []).append(n)
    return frees


def read_graph(model: schema.ModelT, labels: list[str]) -> Graph:
    """Returns the graph of a flatbuffer with one subgraph and one input; of several outputs the first one counts.

    Args:
        model: The flatbuffer, unpacked.
        labels: A unique layer name per operator.

    Raises:
        ModelError: The flatbuffer has another shape.
    """
    if len(model.subgraphs) != 1:
        graphs = counted(len(model.subgraphs), "subgraph")
        raise ModelError(f"the flatbuffer has {graphs}; control flow cannot be simulated")
    subgraph = model.subgraphs[0]
    if len(subgraph.inputs) != 1 or not len(subgraph.outputs):
        raise ModelError(
            f"the model has {counted(len(subgraph.inputs), 'input')} and {counted(len(subgraph.outputs), 'output')}; "
            "one input is expected, and an output"
        )
    tensors = tuple(_spec(model, tensor) for tensor in subgraph.tensors)

    def shapes(numbers: Any) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(int(side) for side in subgraph.tensors[n].shape)
            if n >= 0 and subgraph.tensors[n].shape is not None
            else ()
            for n in numbers
        )

    nodes = []
    for index, operator in enumerate(subgraph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        builtin = max(int(code.builtinCode or 0), int(code.deprecatedBuiltinCode or 0))
        name = _OPERATOR_NAMES.get(builtin, f"BUILTIN_{builtin}")
        if name == "CUSTOM" and code.customCode:
            name = code.customCode.decode("utf-8", "replace")
        given = operands(name, operator.inputs)
        options = dict(vars(operator.builtinOptions)) if operator.builtinOptions is not None else {}
        if name == "CAST":  # often has no options, and kernels go by the tensor's type
            options["outDataType"] = int(subgraph.tensors[int(operator.outputs[0])].type)
        nodes.append(
            Node(
                index=index,
                op=name,
                label=labels[index],
                inputs=given,
                outputs=tuple(int(n) for n in operator.outputs),
                options=options,
                input_shapes=shapes(given),
                output_shapes=shapes(operator.outputs),
            )
        )
    return Graph(tuple(nodes), tensors, int(subgraph.inputs[0]), int(subgraph.outputs[0]))
