"""Means over maps as pools: every runtime divides a pool's integers alike, but not a mean's."""

from __future__ import annotations

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compress.quantization.graph import tensor_values
from compress.tflite.finish import operator_code
from compress.tflite.flatbuffer import read_model, write_model
from compress.tflite.views import op_name

_MAP_RANK, _MAP_AXES = 4, [1, 2]


def pool_means(content: bytes) -> bytes:
    """Returns a float32 flatbuffer with AVERAGE_POOL_2D, and RESHAPE where axes go, in the place of means over maps.

    Tensors keep their names. Means over other axes stay what they are.
    """
    model = read_model(content)
    graph = model.subgraphs[0]
    means = [operator for operator in graph.operators if _is_over_maps(model, operator)]
    for mean in means:
        place = graph.operators.index(mean)
        graph.operators[place : place + 1] = _pool(model, mean)
    return write_model(model) if means else content


def _is_over_maps(model: schema.ModelT, operator: schema.OperatorT) -> bool:
    if op_name(model, operator) != "MEAN":
        return False
    tensors = model.subgraphs[0].tensors
    source, axes = (tensors[int(n)] for n in operator.inputs[:2])
    values = tensor_values(model, axes)
    if values is None or len(source.shape) != _MAP_RANK:
        return False
    return sorted(int(axis) % _MAP_RANK for axis in values.reshape(-1)) == _MAP_AXES


def _pool(model: schema.ModelT, mean: schema.OperatorT) -> list[schema.OperatorT]:
    """Returns the operators that do what a mean over a map does."""
    tensors = model.subgraphs[0].tensors
    source, result = tensors[int(mean.inputs[0])], int(mean.outputs[0])
    batch, height, width, channels = (int(side) for side in source.shape)
    pool = schema.OperatorT()
    pool.opcodeIndex = operator_code(model, schema.BuiltinOperator.AVERAGE_POOL_2D)
    pool.builtinOptionsType = schema.BuiltinOptions.Pool2DOptions
    pool.builtinOptions = schema.Pool2DOptionsT()
    pool.builtinOptions.padding = schema.Padding.VALID
    pool.builtinOptions.strideH = pool.builtinOptions.strideW = 1
    pool.builtinOptions.filterHeight, pool.builtinOptions.filterWidth = height, width
    pool.inputs, pool.outputs = np.array([mean.inputs[0]], np.int32), mean.outputs
    if len(tensors[result].shape) == _MAP_RANK:
        return [pool]
    pooled = copy.deepcopy(tensors[result])
    pooled.name = tensors[result].name + b"/pool"
    pooled.shape = np.array([batch, 1, 1, channels], np.int32)
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
