"""What a flatbuffer would compute from constants alone, computed once: positions, masks, tables of relative places."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.tflite.format.flatbuffer import write_model
from edgecompress.tflite.format.interpreter import plain_interpreter
from edgecompress.tflite.format.views import op_name

#: Operators that give something else each time, or that hold on to something.
_NOT_FIXED = frozenset({"MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "STABLEHLO_RNG_BIT_GENERATOR"})
_STATEFUL = ("VAR_", "READ_VARIABLE", "ASSIGN_VARIABLE", "HASHTABLE", "CALL", "IF", "WHILE", "STABLEHLO_", "CUSTOM")
#: Bytes that a result may have whatever it is made of; larger ones may be twice what they are made of.
_SMALL, _GROWTH = 1 << 18, 2
_COUNTING = "STABLEHLO_IOTA"
_DTYPES: dict[int, type[np.generic]] = {
    schema.TensorType.BOOL: np.bool_,
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}


def fold_constants(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    """Replaces operators that read constants alone by what they give, and returns how many they were.

    The converter leaves some of them, most of them in integers, as relative positions of an attention are.
    """
    counted = _count_up(graph, model)
    known = {n for n, tensor in enumerate(graph.tensors) if _data(model, tensor) is not None}
    ends = {int(n) for n in graph.outputs}
    folded: list[schema.OperatorT] = []
    for operator in graph.operators:
        inputs, outputs = _present(operator.inputs), _present(operator.outputs)
        if not inputs or not known.issuperset(inputs) or ends.intersection(outputs):
            continue
        name = op_name(model, operator)
        sizes = [_size(graph.tensors[n]) for n in (*inputs, *outputs)]
        if name in _NOT_FIXED or name.startswith(_STATEFUL) or None in sizes:
            continue
        given, made = (sum(filter(None, part)) for part in (sizes[: len(inputs)], sizes[len(inputs) :]))
        if made > max(_SMALL, _GROWTH * given):  # a table is smaller than what is spread from it
            continue
        folded.append(operator)
        known.update(outputs)
    kept = [operator for operator in graph.operators if not any(operator is one for one in folded)]
    wanted = sorted({n for o in kept for n in _present(o.inputs)} & {n for o in folded for n in _present(o.outputs)})
    values = _computed(graph, model, folded, wanted) if folded else {}
    if values is None:  # LiteRT cannot run one of them: whoever reads the file says so, with the layer's name
        return counted
    for n, value in values.items():
        _store(model, graph.tensors[n], value)
    graph.operators = kept
    return counted + len(folded)


def _count_up(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    """Replaces the numbers 0, 1, 2, ... along an axis, which LiteRT has no kernel for; `torch.eye` is made of them."""
    ends = {int(n) for n in graph.outputs}
    kept = []
    if any(op_name(model, operator) == _COUNTING for operator in graph.operators):
        _widen(graph, model)
    for operator in graph.operators:
        n = int(operator.outputs[0]) if len(operator.outputs) else -1
        if op_name(model, operator) != _COUNTING or n in ends or graph.tensors[n].type not in _DTYPES:
            kept.append(operator)
            continue
        tensor, axis = graph.tensors[n], int(operator.builtinOptions2.iotaDimension)
        shape = [int(side) for side in tensor.shape]
        numbers = np.arange(shape[axis], dtype=_DTYPES[tensor.type])
        along = numbers.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        _store(model, tensor, np.ascontiguousarray(np.broadcast_to(along, shape)))
    count = len(graph.operators) - len(kept)
    graph.operators = kept
    return count


def _widen(graph: schema.SubGraphT, model: schema.ModelT) -> None:
    """Makes whole numbers of eight bits 32 bits wide: kernels take them for quantized values, and end the process."""
    for tensor in graph.tensors:
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        if tensor.type != schema.TensorType.UINT8 or (scaled and len(tensor.quantization.scale)):
            continue
        data = _data(model, tensor)
        tensor.type = schema.TensorType.INT32
        if data is not None:
            _store(model, tensor, np.frombuffer(bytes(data), np.uint8).astype(np.int32))


def _store(model: schema.ModelT, tensor: schema.TensorT, values: NDArray[Any]) -> None:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1


def _computed(
    graph: schema.SubGraphT, model: schema.ModelT, operators: Sequence[schema.OperatorT], wanted: Sequence[int]
) -> dict[int, NDArray[np.generic]] | None:
    """Returns what operators give, by LiteRT's plain kernels, None where it cannot run them."""
    own = schema.ModelT()
    own.version, own.description = 3, b""
    codes = sorted({operator.opcodeIndex for operator in operators})  # an unknown one would stop the interpreter
    own.operatorCodes, own.buffers = [model.operatorCodes[number] for number in codes], model.buffers
    alone = schema.SubGraphT()
    alone.tensors, alone.operators = copy.deepcopy(graph.tensors), [copy.copy(operator) for operator in operators]
    for operator in alone.operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)
    alone.inputs, alone.outputs = np.array([], np.int32), np.array(wanted, np.int32)
    own.subgraphs = [alone]
    try:
        interpreter = plain_interpreter(write_model(own))
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return None
    return {n: np.array(interpreter.get_tensor(n)) for n in wanted}


def _present(numbers: Sequence[int]) -> list[int]:
    return [int(n) for n in numbers if n >= 0]


def _data(model: schema.ModelT, tensor: schema.TensorT) -> Sequence[int] | None:
    data = model.buffers[tensor.buffer].data
    return data if data is not None and len(data) else None


def _size(tensor: schema.TensorT) -> int | None:
    """Returns the bytes of a tensor, None where it is of a type, or of a shape, that is not folded."""
    shape = [] if tensor.shape is None else [int(side) for side in tensor.shape]
    signature = [] if tensor.shapeSignature is None else [int(side) for side in tensor.shapeSignature]
    if tensor.type not in _DTYPES or min([*shape, *signature, 0]) < 0:
        return None
    return math.prod(shape) * np.dtype(_DTYPES[tensor.type]).itemsize
