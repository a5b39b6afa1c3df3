"""A flatbuffer that never answers: a loop whose condition always holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.tflite.format.packing import pack


def endless() -> bytes:
    """Returns a sound flatbuffer of four numbers that LiteRT loads, and never gets done with."""
    model = schema.ModelT()
    model.version, model.description = 3, b"endless"
    codes = []
    for operator in (schema.BuiltinOperator.WHILE, schema.BuiltinOperator.LESS, schema.BuiltinOperator.ADD):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = operator
        code.version = 1
        codes.append(code)
    model.operatorCodes = codes
    zero = schema.BufferT()
    zero.data = np.zeros(4, np.uint8)
    model.buffers = [schema.BufferT(), zero]
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    number, truth = schema.TensorType.FLOAT32, schema.TensorType.BOOL
    # x < x + 0 never holds, 0 < 1 always does: the condition compares a constant with the constant one above it.
    one = schema.BufferT()
    one.data = np.frombuffer(np.float32(1.0).tobytes(), np.uint8)
    model.buffers.append(one)
    model.subgraphs = [
        _graph([_tensor(number, (1, 4)), _tensor(number, (1, 4))], [_operator(0, (0,), (1,), options)], (0,), (1,)),
        _graph(
            [_tensor(number, (1, 4)), _tensor(number, (1,), 1), _tensor(number, (1,), 2), _tensor(truth, (1,))],
            [_operator(1, (1, 2), (3,))],
            (0,),
            (3,),
        ),
        _graph(
            [_tensor(number, (1, 4)), _tensor(number, (1,), 1), _tensor(number, (1, 4))],
            [_operator(2, (0, 1), (2,))],
            (0,),
            (2,),
        ),
    ]
    return pack(model)


def _tensor(kind: int, shape: tuple[int, ...], buffer: int = 0) -> schema.TensorT:
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = b"", np.array(shape, np.int32), kind, buffer
    return made


def _operator(code: int, inputs: tuple[int, ...], outputs: tuple[int, ...], options: Any = None) -> schema.OperatorT:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, np.array(inputs, np.int32), np.array(outputs, np.int32)
    if options is not None:
        made.builtinOptions, made.builtinOptionsType = options, schema.BuiltinOptions.WhileOptions
    elif code == 2:
        made.builtinOptions, made.builtinOptionsType = schema.AddOptionsT(), schema.BuiltinOptions.AddOptions
    return made


def _graph(tensors: list[Any], operators: list[Any], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Any:
    made = schema.SubGraphT()
    made.name, made.tensors, made.operators = b"", tensors, operators
    made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    return made
