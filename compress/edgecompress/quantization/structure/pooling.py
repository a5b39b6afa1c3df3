"""Means over maps as pools: every runtime divides a pool's integers alike, but not a mean's."""

from __future__ import annotations

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.graph.graph import tensor_values
from edgecompress.tflite.format.finish import drop_unused, operator_code
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.views import op_name

_RANK = 4
#: Axes of a map, with channels behind and in front.
_BEHIND, _IN_FRONT = [1, 2], [2, 3]
#: Order of axes that brings channels to the front.
_TO_FRONT = [0, 3, 1, 2]


def pool_means(content: bytes) -> bytes:
    """Returns a float32 flatbuffer with AVERAGE_POOL_2D, and RESHAPE where axes go, in the place of means over maps.

    Tensors keep their names. A transposition in front of a mean goes with it. Means over other axes stay what they are.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    sources = {k: n for k, operator in enumerate(graph.operators) if (n := _map_of(model, operator)) is not None}
    for k, source in reversed(sources.items()):
        graph.operators[k : k + 1] = _pool(model, graph.operators[k], source)
    if not sources:
        return content
    read = {int(n) for operator in graph.operators for n in operator.inputs} | {int(n) for n in graph.outputs}
    graph.operators = [
        one for one in graph.operators if op_name(model, one) != "TRANSPOSE" or int(one.outputs[0]) in read
    ]
    drop_unused(model)  # calibration asks for every tensor's values, and such a one has none
    return write_model(model)


def _map_of(model: schema.ModelT, operator: schema.OperatorT) -> int | None:
    """Returns the tensor, channels behind, over whose map an operator takes the mean; None where it does not."""
    if op_name(model, operator) != "MEAN":
        return None
    graph = model.subgraphs[0]
    source, axes = int(operator.inputs[0]), tensor_values(model, graph.tensors[int(operator.inputs[1])])
    if axes is None or len(graph.tensors[source].shape) != _RANK:
        return None
    found = sorted(int(axis) % _RANK for axis in axes.reshape(-1))
    if found == _BEHIND:
        return source
    maker = next((one for one in graph.operators if source in map(int, one.outputs)), None)
    if found != _IN_FRONT or maker is None or op_name(model, maker) != "TRANSPOSE":
        return None
    order = tensor_values(model, graph.tensors[int(maker.inputs[1])])
    return int(maker.inputs[0]) if order is not None and order.reshape(-1).tolist() == _TO_FRONT else None


def _pool(model: schema.ModelT, mean: schema.OperatorT, source: int) -> list[schema.OperatorT]:
    """Returns the operators that do what a mean over a map does, channels behind."""
    tensors = model.subgraphs[0].tensors
    result = int(mean.outputs[0])
    batch, height, width, channels = (int(side) for side in tensors[source].shape)
    pool = schema.OperatorT()
    pool.opcodeIndex = operator_code(model, schema.BuiltinOperator.AVERAGE_POOL_2D)
    pool.builtinOptionsType = schema.BuiltinOptions.Pool2DOptions
    pool.builtinOptions = schema.Pool2DOptionsT()
    pool.builtinOptions.padding = schema.Padding.VALID
    pool.builtinOptions.strideH = pool.builtinOptions.strideW = 1
    pool.builtinOptions.filterHeight, pool.builtinOptions.filterWidth = height, width
    shape = [batch, 1, 1, channels]
    pool.inputs, pool.outputs = np.array([source], np.int32), mean.outputs
    if [int(side) for side in tensors[result].shape] == shape:
        return [pool]
    pooled = copy.deepcopy(tensors[result])
    pooled.name, pooled.shape = tensors[result].name + b"/pool", np.array(shape, np.int32)
    pooled.shapeSignature = None
    tensors.append(pooled)
    pool.outputs = np.array([len(tensors) - 1], np.int32)
    return [pool, _reshape(model, len(tensors) - 1, result)]


def _reshape(model: schema.ModelT, source: int, result: int) -> schema.OperatorT:
    tensors = model.subgraphs[0].tensors
    shape, buffer = schema.TensorT(), schema.BufferT()
    values = np.array(tensors[result].shape, np.int32)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    shape.name, shape.type, shape.shape = tensors[result].name + b"/shape", schema.TensorType.INT32, [len(values)]
    shape.buffer, shape.hasRank = len(model.buffers) - 1, True
    tensors.append(shape)
    reshape = schema.OperatorT()
    reshape.opcodeIndex = operator_code(model, schema.BuiltinOperator.RESHAPE)
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    reshape.builtinOptions.newShape = values
    reshape.inputs = np.array([source, len(tensors) - 1], np.int32)
    reshape.outputs = np.array([result], np.int32)
    return reshape
