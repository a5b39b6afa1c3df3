"""The same computation in operators that INT8 kernels are fast at.

HARD_SWISH has a kernel in INT8 that is some 17 times slower than float32's (docs/kernels.md), and XNNPACK, which knows
none, is entered anew behind each. `x * relu6(x + 3) / 6` is a sum and a product, which XNNPACK has. The sixth goes into
the weights that read the product, where nothing else does: their integers stay what they were. So do other products
with a number, such as a hard sigmoid's.

A lone RELU takes some 80 times as long in INT8 as in float32; a product with one that the activation is fused with is
60 times as fast.
"""

from __future__ import annotations

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.graph.exchange import replace_values
from edgecompress.quantization.graph.graph import tensor_values
from edgecompress.tflite.format.finish import drop_unused
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.tidy import Steps
from edgecompress.tflite.format.views import op_name

_OPS = schema.BuiltinOperator
_FUSED = schema.ActivationFunctionType
#: Operators that a product with one can be fused with.
_FUSIBLE = {"RELU": _FUSED.RELU, "RELU6": _FUSED.RELU6, "RELU_N1_TO_1": _FUSED.RELU_N1_TO_1}
_OFFSET, _SIXTH = 3.0, 1.0 / 6.0
#: Factors below this, or above its reciprocal, stay where they are.
_LEAST = 1e-3
#: Operators with constant weights, at this place among their inputs, that multiply what they read at the other.
_WEIGHTS = {"CONV_2D": (0, 1), "DEPTHWISE_CONV_2D": (0, 1), "FULLY_CONNECTED": (0, 1), "TRANSPOSE_CONV": (2, 1)}
#: Operators that give c times as much for c times as much of their first input, whatever else they read.
_PASSING = frozenset(
    {"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "PAD", "RESHAPE", "SLICE", "SQUEEZE", "STRIDED_SLICE", "TRANSPOSE"}
)
#: Fused activations of which the same holds.
_HOMOGENEOUS = (_FUSED.NONE, _FUSED.RELU)


def swift(content: bytes, *, absorb: bool) -> bytes:
    """Returns a float32 flatbuffer without the operators above, and without products that weights can take.

    Args:
        content: The float32 flatbuffer; tensors keep their names.
        absorb: Whether factors may go into weights. In training these would learn faster than the others: they are
            smaller, and their gradients larger.
    """
    model = read_model(content)
    changed = 0
    for operator in list(model.subgraphs[0].operators):
        name = op_name(model, operator)
        if name == "HARD_SWISH":
            _spell_hard_swish(model, operator, absorb=absorb)
        elif name in _FUSIBLE:
            _fuse(model, operator, _FUSIBLE[name])
        changed += name == "HARD_SWISH" or name in _FUSIBLE
    changed += _without_factors(model) if absorb else 0
    if not changed:
        return content
    drop_unused(model)
    return write_model(model)


def _spell_hard_swish(model: schema.ModelT, operator: schema.OperatorT, *, absorb: bool) -> None:
    steps, x = Steps(model.subgraphs[0], model, operator), int(operator.inputs[0])
    gate = steps.add(_OPS.ADD, [x, steps.constant(_OFFSET)], _FUSED.RELU6)
    if not (absorb and _absorbed(model, int(operator.outputs[0]), _SIXTH)):
        x = steps.add(_OPS.MUL, [x, steps.constant(_SIXTH)])
    steps.add(_OPS.MUL, [x, gate])
    steps.replace()


def _fuse(model: schema.ModelT, operator: schema.OperatorT, fused: int) -> None:
    steps = Steps(model.subgraphs[0], model, operator)
    steps.add(_OPS.MUL, [int(operator.inputs[0]), steps.constant(1.0)], fused)
    steps.replace()


def _without_factors(model: schema.ModelT) -> int:
    """Takes out products with a positive number that the weights behind them can take; returns how many."""
    graph = model.subgraphs[0]
    changed = 0
    for operator in list(graph.operators):
        if op_name(model, operator) != "MUL" or operator.builtinOptions.fusedActivationFunction != _FUSED.NONE:
            continue
        values = [tensor_values(model, graph.tensors[int(n)]) for n in operator.inputs]
        known = [place for place, value in enumerate(values) if value is not None and value.size == 1]
        if len(known) != 1 or values[1 - known[0]] is not None:
            continue
        number = values[known[0]]
        assert number is not None  # noqa: S101 - it is known
        factor, x, y = float(number.reshape(())), int(operator.inputs[1 - known[0]]), int(operator.outputs[0])
        if not (_LEAST <= factor <= 1 / _LEAST) or not _absorbed(model, y, factor):
            continue
        graph.operators.remove(operator)
        for reader in graph.operators:
            reader.inputs = np.array([x if int(n) == y else int(n) for n in reader.inputs], np.int32)
        changed += 1
    return changed


def _reads(model: schema.ModelT, constant: int) -> int:
    """Returns how often operators read what a constant holds, under whatever number."""
    graph = model.subgraphs[0]
    buffer = graph.tensors[constant].buffer
    inputs = (int(n) for operator in graph.operators for n in operator.inputs)
    return sum(n >= 0 and graph.tensors[n].buffer == buffer for n in inputs)


def _absorbed(model: schema.ModelT, tensor: int, factor: float) -> bool:
    """Lets the weights behind a tensor take a factor of it, and returns whether they could: else nothing changes."""
    readers = _readers(model, tensor)
    if readers is None:
        return False
    tensors = model.subgraphs[0].tensors
    for operator in readers:
        place = _WEIGHTS[op_name(model, operator)][1]
        number = int(operator.inputs[place])
        values = tensor_values(model, tensors[number])
        assert values is not None  # noqa: S101 - `_readers` looked
        own = copy.copy(tensors[number])
        own.name = bytes(own.name) + b"/times" + str(len(tensors)).encode()
        replace_values(model, own, (values * np.float32(factor)).astype(np.float32))
        tensors.append(own)
        operator.inputs = np.array(operator.inputs, np.int32)
        operator.inputs[place] = len(tensors) - 1
    return True


def _readers(model: schema.ModelT, tensor: int) -> list[schema.OperatorT] | None:
    """Returns the operators whose weights can take a factor of a tensor; None where something else would notice it."""
    graph = model.subgraphs[0]
    outputs, found = set(map(int, graph.outputs)), list[schema.OperatorT]()
    scaled, queue = {tensor}, [tensor]
    while queue:
        n = queue.pop()
        if n in outputs:
            return None
        for operator in graph.operators:
            inputs, name = list(map(int, operator.inputs)), op_name(model, operator)
            if n not in inputs:
                continue
            if name in _WEIGHTS:
                source, weight = (inputs[place] for place in _WEIGHTS[name])
                if source != n or weight == n or tensor_values(model, graph.tensors[weight]) is None:
                    return None
                if _reads(model, weight) > 1:  # the steps of a cell, a table: each would need a copy of its own
                    return None
                found.append(operator)
                continue
            passes = name == "MUL" or (name in _PASSING and inputs.index(n) == 0)
            if (
                not passes
                or getattr(operator.builtinOptions, "fusedActivationFunction", _FUSED.NONE) not in _HOMOGENEOUS
            ):
                return None
            result = int(operator.outputs[0])
            if result not in scaled:
                scaled.add(result)
                queue.append(result)
    # A product of two that are scaled has the factor twice.
    products = (list(map(int, one.inputs)) for one in graph.operators if op_name(model, one) == "MUL")
    return found if all(sum(n in scaled for n in inputs) < 2 for inputs in products) else None  # noqa: PLR2004
