"""A flatbuffer's tensors and operators as plain read-only values, with the schema's numbers as names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.errors import ResourceError
from edgecompress.tflite.format.sparse_reader import expand
from edgecompress.wording import counted

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
#: Operators that carry a layer's weights -> which of their inputs the weights are, and which the bias is.
WEIGHTED_OPS: dict[str, tuple[int, int | None]] = {
    "CONV_2D": (1, 2),
    "CONV_3D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "TRANSPOSE_CONV": (1, 3),
    "BATCH_MATMUL": (1, None),
}

#: Operators that turn stored weights into those that another operator reads.
_EXPANDS = frozenset({"DEQUANTIZE", "DENSIFY"})
#: Operators that only turn one type into another.
CONVERSIONS = frozenset({"DEQUANTIZE", "QUANTIZE"})


@dataclass(frozen=True)
class TensorInfo:
    """One tensor.

    Attributes:
        index: Its number in the graph.
        name: As the file has it; "" where it has none.
        shape: Empty for a scalar.
        dtype: Of the stored values: `int8`, `float32`, ...
        scale: real = scale * (stored - zero_point); one, or one per channel, or none.
        zero_point: As many as scales.
        quantized_dimension: The channel axis of `scale`.
        buffer_bytes: What its values take in the file, 0 for an activation.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    quantized_dimension: int
    buffer_bytes: int

    @property
    def is_constant(self) -> bool:
        """Whether its values are stored in the file (or there are none, as in the shape of a scalar)."""
        return self.buffer_bytes > 0 or self.size == 0

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def bytes_in_memory(self) -> int:
        """What its values take where an interpreter holds them."""
        try:
            return self.size * np.dtype(self.dtype).itemsize
        except TypeError:  # a type NumPy does not have: 8 bytes is the largest there is
            return self.size * 8


@dataclass(frozen=True)
class OpInfo:
    """One operator.

    Attributes:
        index: Its place in the order of execution.
        op: Its name in the schema (`CONV_2D`), or the code of a custom one.
        inputs: Tensor numbers, -1 for an optional one that is left out.
        outputs: Tensor numbers.
        options: By the schema's names; empty where the operator has none.
    """

    index: int
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class GraphView:
    """One subgraph."""

    tensors: tuple[TensorInfo, ...]
    ops: tuple[OpInfo, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def weight(self, op: OpInfo) -> TensorInfo | None:
        """Returns the constant weights of an operator, None where it has none.

        Where an operator of its own expands them (weight-only quantization, TFLite's sparse encoding), it is what that
        one reads.
        """
        place = WEIGHTED_OPS.get(op.op, (None, None))[0]
        found = self._constant(op, place)
        if found is not None or place is None or place >= len(op.inputs):
            return found
        expands = self._expanding.get(op.inputs[place])
        return None if expands is None else self._constant(expands, 0)

    @cached_property
    def _expanding(self) -> dict[int, OpInfo]:
        """The first operator that expands constants to each tensor."""
        found: dict[int, OpInfo] = {}
        for op in self.ops:
            if op.op in _EXPANDS and len(op.outputs) == 1:
                found.setdefault(op.outputs[0], op)
        return found

    def bias(self, op: OpInfo) -> TensorInfo | None:
        """Returns the constant bias of an operator, None where it has none."""
        return self._constant(op, WEIGHTED_OPS.get(op.op, (None, None))[1])

    def _constant(self, op: OpInfo, place: int | None) -> TensorInfo | None:
        if place is None or place >= len(op.inputs) or op.inputs[place] < 0:
            return None
        tensor = self.tensors[op.inputs[place]]
        return tensor if tensor.is_constant else None


def graph_views(model: schema.ModelT) -> tuple[GraphView, ...]:
    """Returns a view of each subgraph of a model that `read_model` gave; the first one is the model's own."""
    names = [_code_name(code) for code in model.operatorCodes]
    return tuple(
        GraphView(
            tensors=tuple(_tensor(model, index, tensor) for index, tensor in enumerate(graph.tensors)),
            ops=tuple(
                OpInfo(
                    index=index,
                    op=names[operator.opcodeIndex],
                    inputs=_numbers(operator.inputs),
                    outputs=_numbers(operator.outputs),
                    options=dict(vars(operator.builtinOptions)) if operator.builtinOptions is not None else {},
                )
                for index, operator in enumerate(graph.operators)
            ),
            inputs=_numbers(graph.inputs),
            outputs=_numbers(graph.outputs),
        )
        for graph in model.subgraphs
    )


def least_bytes(views: Sequence[GraphView]) -> int:
    """Returns the least memory that the tensors of a model take at once: those of its most demanding operator."""
    most = 0
    for view in views:
        taking = [(op.inputs, op.outputs) for op in view.ops] + [(view.inputs, view.outputs)]
        for read, written in taking:
            tensors = [view.tensors[index] for index in {*read, *written} if index >= 0]
            most = max(most, sum(tensor.bytes_in_memory for tensor in tensors if not tensor.is_constant))
    return most


def op_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Returns an operator's name in the schema, a custom one's own code, or `UNKNOWN_n` for a newer one."""
    return _code_name(model.operatorCodes[operator.opcodeIndex])


def _code_name(code: schema.OperatorCodeT) -> str:
    # Files from before 2020 have the number in the deprecated one-byte field only.
    number = max(int(code.builtinCode or 0), int(code.deprecatedBuiltinCode or 0))
    if number == schema.BuiltinOperator.CUSTOM:
        return text(code.customCode) or "CUSTOM"
    return str(_OPERATORS.get(number, f"UNKNOWN_{number}"))


def dtype_name(number: int) -> str:
    """Returns the name of a schema type in lower case, or `unknown_n` for a newer one."""
    return str(_DTYPES.get(number, f"unknown_{number}"))


def tensor_array(model: schema.ModelT, index: int, subgraph: int = 0) -> NDArray[Any]:
    """Returns a constant tensor's values, in its shape; 4-bit integers are unpacked, sparse tensors expanded.

    Raises:
        ResourceError: The tensor has no stored values, or they do not fit its shape or type.
    """
    tensor = model.subgraphs[subgraph].tensors[index]
    dtype, shape = dtype_name(tensor.type), _numbers(tensor.shape)
    data = model.buffers[tensor.buffer].data
    what = f"tensor {index} ({text(tensor.name) or 'unnamed'}, {dtype}{list(shape)})"
    if data is None or len(data) == 0:
        raise ResourceError(f"{what} has no values in the file")
    raw = np.asarray(data, np.uint8)
    count = math.prod(shape)
    if dtype == "int4":
        # Two a byte, the low four bits first; shifting up and back down extends the sign.
        pairs = np.stack([raw << 4, raw & 0xF0], axis=-1).reshape(-1).view(np.int8) >> 4
        values: NDArray[Any] = pairs[:count] if (count + 1) // 2 == len(raw) else pairs
    elif dtype == "bfloat16":
        values = (raw.view("<u2").astype("<u4") << 16).view("<f4") if len(raw) % 2 == 0 else raw
    else:
        try:
            numpy_type = np.dtype(dtype)
        except TypeError as error:
            raise ResourceError(f"{what} holds values of a type that cannot be read") from error
        values = raw.view(numpy_type) if len(raw) % numpy_type.itemsize == 0 else raw
    if tensor.sparsity is not None:
        try:
            return expand(tensor.sparsity, values.reshape(-1), shape)
        except ResourceError as error:
            raise ResourceError(f"{what} cannot be read: {error}") from error
    if values.size != count:
        raise ResourceError(f"{what} has {counted(len(raw), 'byte')} of values, which do not fit its shape")
    return values.reshape(shape)


def text(value: bytes | str | None) -> str:
    """Returns a text of the schema, which may be bytes of any kind, as str without control characters."""
    decoded = value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
    if decoded.isprintable():
        return decoded
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in decoded)


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _tensor(model: schema.ModelT, index: int, tensor: schema.TensorT) -> TensorInfo:
    q = tensor.quantization
    data = model.buffers[tensor.buffer].data
    return TensorInfo(
        index=index,
        name=text(tensor.name),
        shape=_numbers(tensor.shape),
        dtype=dtype_name(tensor.type),
        scale=() if q is None or q.scale is None else tuple(float(scale) for scale in q.scale),
        zero_point=() if q is None or q.zeroPoint is None else _numbers(q.zeroPoint),
        quantized_dimension=0 if q is None else int(q.quantizedDimension),
        buffer_bytes=0 if data is None else len(data),
    )
