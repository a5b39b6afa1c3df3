"""A flatbuffer that never answers: a loop whose condition always holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.tflite.format.packing import pack


def endless(shape: tuple[int, ...] = (1, 4), dtype: str = "float32", answers: int = 4) -> bytes:
    """Returns a sound flatbuffer that LiteRT loads, and never gets done with.

    Args:
        shape: Of its input.
        dtype: Of its input, which is not quantized.
        answers: How many numbers its output would have.
    """
    model = schema.ModelT()
    model.version, model.description = 3, b"endless"
    codes = []
    for operator in (schema.BuiltinOperator.WHILE, schema.BuiltinOperator.LESS, schema.BuiltinOperator.ADD):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = operator
        code.version = 1
        codes.append(code)
    model.operatorCodes = codes
    model.buffers = [schema.BufferT(), *(_buffer(values) for values in ([0.0], [1.0], [0.0] * answers))]
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    number, truth = schema.TensorType.FLOAT32, schema.TensorType.BOOL
    start, state = _tensor(number, (1, answers), 3), _tensor(number, (1, answers))
    zero, one = _tensor(number, (1,), 1), _tensor(number, (1,), 2)
    given = _tensor(getattr(schema.TensorType, dtype.upper()), shape)
    # The condition, 0 < 1, does not look at the state; the body adds nothing to it.
    model.subgraphs = [
        _graph([given, start, state], [_operator(0, (1,), (2,), options)], (0,), (2,)),
        _graph([state, zero, one, _tensor(truth, (1,))], [_operator(1, (1, 2), (3,))], (0,), (3,)),
        _graph([state, zero, _tensor(number, (1, answers))], [_operator(2, (0, 1), (2,))], (0,), (2,)),
    ]
    return pack(model)


def _buffer(values: list[float]) -> schema.BufferT:
    made = schema.BufferT()
    made.data = np.frombuffer(np.array(values, np.float32).tobytes(), np.uint8)
    return made


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
