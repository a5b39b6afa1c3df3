"""What a flatbuffer's layers cost: zeros among the weights, and multiply-accumulates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ResourceError
from edgecompress.tflite.format.views import GraphView, OpInfo, TensorInfo, graph_views, tensor_array


@dataclass(frozen=True)
class WeightSparsity:
    """Zeros of one weight tensor.

    Attributes:
        subgraph: The subgraph it belongs to.
        tensor: Its number there.
        op_index: The first operator that uses it.
        zeros: Weights that stand for 0.0: those that equal the zero point.
        total: All of its weights.
    """

    subgraph: int
    tensor: int
    op_index: int
    zeros: int
    total: int

    @property
    def share(self) -> float:
        """Share of zeros, 0 to 1."""
        return self.zeros / self.total if self.total else 0.0


def weight_sparsity(model: schema.ModelT) -> list[WeightSparsity]:
    """Returns the zeros of each weight tensor of convolutions and linear layers; shared tensors count once.

    Raises:
        ResourceError: Values cannot be read or do not fit their shape.
    """
    found = []
    for subgraph, graph in enumerate(graph_views(model)):
        seen: set[int] = set()
        for op in graph.ops:
            weight = graph.weight(op)
            if weight is None or weight.index in seen:
                continue
            seen.add(weight.index)
            found.append(count_zeros(model, subgraph, op, weight))
    return found


def most_values(model: schema.ModelT) -> int:
    """Returns the largest number of different integers that a weight tensor of eight bits holds, 0 where there is none.

    Raises:
        ResourceError: Values cannot be read or do not fit their shape.
    """
    found = [0]
    for subgraph, graph in enumerate(graph_views(model)):
        weights = (graph.weight(op) for op in graph.ops)
        numbers = {weight.index for weight in weights if weight is not None and weight.dtype == "int8"}
        found += [len(np.unique(tensor_array(model, number, subgraph))) for number in numbers]
    return max(found)


def count_zeros(model: schema.ModelT, subgraph: int, op: OpInfo, weight: TensorInfo) -> WeightSparsity:
    """Returns the zeros of one operator's weights.

    Raises:
        ResourceError: Values cannot be read or do not fit their shape.
    """
    values = tensor_array(model, weight.index, subgraph)
    zero_point: Any = 0
    if len(weight.zero_point) == 1:
        zero_point = weight.zero_point[0]
    elif weight.zero_point:
        axis = weight.quantized_dimension
        if not 0 <= axis < values.ndim or values.shape[axis] != len(weight.zero_point):
            raise ResourceError(f"tensor {weight.index} ({weight.name}): its zero points do not fit its shape")
        zero_point = np.array(weight.zero_point).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    zeros = int(np.count_nonzero(values == zero_point))
    return WeightSparsity(subgraph, weight.index, op.index, zeros, values.size)


def macs(graph: GraphView, op: OpInfo) -> int | None:
    """Returns the multiply-accumulates of one operator, None where it is none that multiplies by a matrix.

    Counted for one invoke with the shapes the file states; padding counts as if it were data.
    """
    if op.op not in _MACS or not op.outputs or len(op.inputs) < _MIN_INPUTS or min(op.inputs[:2]) < 0:
        return None
    return _MACS[op.op](graph, op)


_MIN_INPUTS = 2


def _shape(graph: GraphView, number: int) -> tuple[int, ...]:
    return graph.tensors[number].shape


def _convolution(graph: GraphView, op: OpInfo) -> int:
    # Weights are (out, height, width, in / groups).
    return graph.tensors[op.outputs[0]].size * math.prod(_shape(graph, op.inputs[1])[1:])


def _convolution_3d(graph: GraphView, op: OpInfo) -> int:
    # Weights are (depth, height, width, in, out).
    return graph.tensors[op.outputs[0]].size * math.prod(_shape(graph, op.inputs[1])[:-1])


def _depthwise(graph: GraphView, op: OpInfo) -> int:
    # Weights are (1, height, width, out).
    return graph.tensors[op.outputs[0]].size * math.prod(_shape(graph, op.inputs[1])[1:3])


def _fully_connected(graph: GraphView, op: OpInfo) -> int:
    # Weights are (out, in).
    return graph.tensors[op.outputs[0]].size * math.prod(_shape(graph, op.inputs[1])[-1:])


def _transposed(graph: GraphView, op: OpInfo) -> int | None:
    # Inputs are the output's shape, weights (out, height, width, in), data: each datum meets every kernel position.
    if len(op.inputs) <= _MIN_INPUTS or op.inputs[2] < 0:
        return None
    return graph.tensors[op.inputs[2]].size * math.prod(_shape(graph, op.inputs[1])[:3])


def _batch_matmul(graph: GraphView, op: OpInfo) -> int | None:
    left = _shape(graph, op.inputs[0])
    if len(left) < _MIN_INPUTS:
        return None
    return graph.tensors[op.outputs[0]].size * left[-2 if op.options.get("adjX") else -1]


_MACS = {
    "CONV_2D": _convolution,
    "CONV_3D": _convolution_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed,
    "BATCH_MATMUL": _batch_matmul,
}


def weight_zeros(model: schema.ModelT) -> tuple[int, int]:
    """Returns how many weights of convolutions and linear layers are zero, and how many there are."""
    from edgecompress.tflite.facts.weights import weight_sparsity

    tensors = weight_sparsity(model)
    return sum(tensor.zeros for tensor in tensors), sum(tensor.total for tensor in tensors)
