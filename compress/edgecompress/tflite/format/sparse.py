"""TFLite's sparse encoding: weights without their zeros, which a DENSIFY operator expands when the model is loaded.

The last axis of a weight is compressed (CSR): for each row the places of its non-zero values, or of blocks of
neighbours that are not all zero, and these values. Operators that read a sparse tensor themselves are of no use:
LiteRT's and TensorFlow's INT8 kernels take the values for a dense tensor and compute something else, without an error.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.tflite.format.views import graph_views, tensor_array

#: Operators whose weights may come from a DENSIFY. LiteRT 2.3 refuses linear layers with such weights.
READERS = frozenset({schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D})
#: Neighbours that are kept or left out together; one size is chosen for each tensor.
BLOCKS = (1, 2, 4, 8, 16)
#: What a second tensor, an operator and the tables of the encoding take in the file, in bytes, rounded up.
TABLES_BYTES = 400
DENSE, CSR = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
#: Widths of index vectors: largest value -> kind and class in the schema.
_VECTORS = (
    (np.uint8, schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    (np.uint16, schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    (np.int32, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
)
_OPERATOR_VERSION = 1


@dataclass(frozen=True)
class Encoding:
    """A tensor without its zeros.

    Attributes:
        block: Neighbours on the last axis that are kept together.
        starts: (rows + 1,) where each row begins among the blocks.
        places: Place of each block in its row.
        values: (blocks, block) what is kept.
    """

    block: int
    starts: NDArray[np.int64]
    places: NDArray[np.int64]
    values: NDArray[np.int8]

    @property
    def size_bytes(self) -> int:
        """Bytes of values and indices."""
        indices = sum(vector.size * np.dtype(_width(vector)[0]).itemsize for vector in (self.starts, self.places))
        return int(self.values.size + indices)


def encode(values: NDArray[np.int8]) -> Encoding:
    """Returns the smallest encoding of a tensor, over the sizes of block that its last axis can be divided by."""
    found = (_encode(values, block) for block in BLOCKS if values.shape[-1] % block == 0)
    return min(found, key=lambda encoding: encoding.size_bytes)


def _encode(values: NDArray[np.int8], block: int) -> Encoding:
    blocks = values.reshape(math.prod(values.shape[:-1]), -1, block)
    kept = blocks.any(-1)
    starts = np.concatenate([[0], np.cumsum(kept.sum(1))])
    return Encoding(block, starts, np.nonzero(kept)[1], blocks[kept])


def encode_weights(model: schema.ModelT, labels: list[str]) -> list[str]:
    """Encodes the INT8 weights of convolutions that become smaller by it.

    Args:
        model: Changed in place.
        labels: Layer name per operator.

    Returns:
        The names with those of the new operators.
    """
    graph = model.subgraphs[0]
    new: list[schema.OperatorT] = []
    names: list[str] = []
    for number, label in _candidates(model, labels):
        tensor = graph.tensors[number]
        data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
        encoding = encode(data.view(np.int8).reshape([int(side) for side in tensor.shape]))
        if encoding.size_bytes + TABLES_BYTES >= data.size:
            continue
        source = copy.copy(tensor)
        source.sparsity = _parameters(encoding, source.shape)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(encoding.values.tobytes(), np.uint8)
        model.buffers.append(buffer)
        source.buffer, tensor.buffer = len(model.buffers) - 1, 0
        graph.tensors.append(source)
        operator = schema.OperatorT()
        operator.opcodeIndex = _densify_code(model)
        operator.inputs = np.array([len(graph.tensors) - 1], np.int32)
        operator.outputs = np.array([number], np.int32)
        operator.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
        operator.builtinOptions = schema.DensifyOptionsT()
        new.append(operator)
        names.append(f"{label}.weight")
    graph.operators = [*new, *graph.operators]
    return [*names, *labels]


def expanded_bytes(model: schema.ModelT) -> list[int]:
    """Returns what each weight that a DENSIFY operator expands takes in the runtime's memory, in bytes."""
    return [
        info.size * np.dtype(info.dtype).itemsize
        for view in graph_views(model)
        for op in view.ops
        if op.op == "DENSIFY"
        for info in (view.tensors[op.outputs[0]],)
    ]


def _candidates(model: schema.ModelT, labels: list[str]) -> list[tuple[int, str]]:
    """Returns the INT8 weights that only convolutions of INT8 activations read, each with the first one's layer."""
    graph = model.subgraphs[0]
    found: dict[int, str] = {}
    others: set[int] = set(map(int, graph.outputs))
    for operator, label in zip(graph.operators, labels, strict=True):
        inputs = [int(n) for n in operator.inputs]
        fits = (
            model.operatorCodes[operator.opcodeIndex].builtinCode in READERS
            and graph.tensors[inputs[0]].type == graph.tensors[inputs[1]].type == schema.TensorType.INT8
            and _stored(model, graph.tensors[inputs[1]])
        )
        if fits:
            found.setdefault(inputs[1], label)
        others.update(n for place, n in enumerate(inputs) if not (fits and place == 1))
    return [(number, label) for number, label in found.items() if number not in others]


def _stored(model: schema.ModelT, tensor: schema.TensorT) -> bool:
    """Returns whether a tensor is a constant that is not sparse, with zero at zero."""
    data, q = model.buffers[tensor.buffer].data, tensor.quantization
    plain = data is not None and len(data) > 0 and tensor.sparsity is None
    return plain and q is not None and not np.any(q.zeroPoint)


def _densify_code(model: schema.ModelT) -> int:
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == schema.BuiltinOperator.DENSIFY:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DENSIFY
    code.version = _OPERATOR_VERSION
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _parameters(encoding: Encoding, shape: Any) -> schema.SparsityParametersT:
    rank = len(shape)
    found = schema.SparsityParametersT()
    levels = [_dense_level(int(side)) for side in shape[:-1]]
    rows = schema.DimensionMetadataT()
    rows.format = CSR
    rows.arraySegmentsType, rows.arraySegments = _vector(encoding.starts)
    rows.arrayIndicesType, rows.arrayIndices = _vector(encoding.places)
    levels.append(rows)
    if encoding.block > 1:
        levels.append(_dense_level(encoding.block))
        found.blockMap = np.array([rank - 1], np.int32)
    found.traversalOrder = np.arange(len(levels), dtype=np.int32)
    found.dimMetadata = levels
    return found


def _dense_level(size: int) -> schema.DimensionMetadataT:
    level = schema.DimensionMetadataT()
    level.format, level.denseSize = DENSE, size
    return level


def _width(values: NDArray[np.int64]) -> tuple[Any, int, Any]:
    largest = int(values.max(initial=0))
    return next(entry for entry in _VECTORS if largest <= np.iinfo(entry[0]).max)


def _vector(values: NDArray[np.int64]) -> tuple[int, Any]:
    dtype, kind, vector_class = _width(values)
    vector = vector_class()
    vector.values = values.astype(dtype)
    return kind, vector


def densified(model: schema.ModelT) -> schema.ModelT:
    """Returns the same model without DENSIFY operators and with the tensors they write as dense constants.

    Tensors keep their numbers. The model that is given stays as it is.

    Raises:
        ResourceError: A sparse tensor's values cannot be read.
    """
    found = copy.copy(model)
    found.buffers = list(model.buffers)
    found.subgraphs = [copy.copy(graph) for graph in model.subgraphs]
    for place, graph in enumerate(found.subgraphs):
        graph.tensors, kept = list(graph.tensors), []
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.DENSIFY:
                kept.append(operator)
                continue
            number = int(operator.outputs[0])
            values = tensor_array(model, int(operator.inputs[0]), place)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            found.buffers.append(buffer)
            tensor = graph.tensors[number] = copy.copy(graph.tensors[number])
            tensor.buffer = len(found.buffers) - 1
        graph.operators = kept
    return found
