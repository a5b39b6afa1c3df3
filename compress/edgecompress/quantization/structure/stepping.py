"""The integers of a whole sequence's model for the model of one step.

Both are converted from the same layers, so every operator of the step is found in the whole by its name; it takes over
that one's scales, weights and biases. What is checked is that each operator then gets exactly what it gets there: the
step, repeated with its state handed on as raw integers, computes what the whole computes.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError
from edgecompress.tflite.format.views import CONVERSIONS, op_name

_NUMBER = re.compile(r"#\d+$")


def take_integers(step: schema.ModelT, labels: list[str], whole: schema.ModelT, whole_labels: list[str]) -> None:
    """Gives the quantized model of one step, in place, the scales and constants of the whole sequence's.

    Args:
        step: One input and output, then as many states in as out.
        labels: Layer name of each of its operators.
        whole: The quantized model of the whole sequence.
        whole_labels: Layer name of each of its operators.

    Raises:
        ModelError: The two have not the same operators, or an operator gets something else in the two.
    """
    ours, theirs = step.subgraphs[0], whole.subgraphs[0]
    before, after = _states(step)
    pairs = _pairs(step, labels, whole, whole_labels)
    _take_grid(ours.tensors[ours.inputs[0]], theirs.tensors[theirs.inputs[0]])
    for operator, model, _ in pairs:
        for mine, other in zip(operator.outputs, model.outputs, strict=True):
            _take_grid(ours.tensors[mine], theirs.tensors[other])
        for mine, other in _inputs(operator, model):
            _take_values(step, ours.tensors[mine], whole, theirs.tensors[other])
    for mine, handed in zip(before, after, strict=True):
        _take_grid(ours.tensors[mine], ours.tensors[handed])
    for operator, model, name in pairs:
        if not all(_same_grid(ours.tensors[mine], theirs.tensors[other]) for mine, other in _inputs(operator, model)):
            raise ModelError(
                f"{' of '.join(name)} gets other integers in one step than in the whole sequence, so the step cannot "
                "be streamed"
            )


def _states(step: schema.ModelT) -> tuple[list[int], list[int]]:
    """Returns the tensors of the states before a step, and those behind it."""
    graph = step.subgraphs[0]
    before, after = ([int(n) for n in numbers[1:]] for numbers in (graph.inputs, graph.outputs))
    return before, after


def _pairs(
    step: schema.ModelT, labels: list[str], whole: schema.ModelT, whole_labels: list[str]
) -> list[tuple[schema.OperatorT, schema.OperatorT, tuple[str, ...]]]:
    """Returns each operator of the step with the one it is in the whole, and its name there."""
    ours, theirs = step.subgraphs[0], whole.subgraphs[0]
    before, after = _states(step)
    conversions = [op for op in ours.operators if op_name(step, op) in CONVERSIONS]
    # Named after the model's outputs: the states, and what is rounded to become one.
    outputs = {*after, *(int(op.inputs[0]) for op in conversions if int(op.outputs[0]) in after)}
    # Of operators that are there once a step the last one counts: the first step begins from nothing.
    known = {name: operator for operator, *names in _named(whole, whole_labels) for name in names}
    pairs = []
    for operator, by_layer, by_makers in _named(step, labels):
        if by_layer[0] in CONVERSIONS:
            continue
        name = by_makers if int(operator.outputs[0]) in outputs else by_layer
        if name not in known:
            raise ModelError(f"the model of one step has {' of '.join(name)}, which the whole sequence lacks")
        pairs.append((operator, known[name], name))
    # A conversion is known by what it converts; a state that comes in is the one that goes out.
    made = {int(op.outputs[0]): int(model.outputs[0]) for op, model, _ in pairs}
    made[int(ours.inputs[0])] = int(theirs.inputs[0])
    for operator in conversions:
        read, kind = int(operator.inputs[0]), op_name(step, operator)
        read = after[before.index(read)] if read in before else read
        model = _reader(whole, kind, made.get(read))
        if model is None:
            raise ModelError(f"the model of one step has a {kind} that the whole sequence lacks")
        pairs.append((operator, model, (kind, "a state" if read in after else "an activation")))
    return pairs


def _reader(model: schema.ModelT, kind: str, n: int | None) -> schema.OperatorT | None:
    """Returns the operator of some kind that reads a tensor, None where there is none."""
    found = (op for op in model.subgraphs[0].operators if op_name(model, op) == kind and int(op.inputs[0]) == n)
    return next(found, None)


def _inputs(operator: schema.OperatorT, model: schema.OperatorT) -> Iterator[tuple[int, int]]:
    for mine, other in zip(operator.inputs, model.inputs, strict=True):
        if mine >= 0:
            yield int(mine), int(other)


def _named(
    model: schema.ModelT, labels: list[str]
) -> Iterator[tuple[schema.OperatorT, tuple[str, ...], tuple[str, ...]]]:
    """Yields each operator, its name with its layer, and its name with the layers that made what it gets.

    An output of a model is named after that and not after its layer; what it is made of tells it apart. Its own last
    value does not count, which in the model of one step comes from outside.
    """
    graph = model.subgraphs[0]
    layers = [_NUMBER.sub("", label) for label in labels]
    makers = {int(n): layer for layer, operator in zip(layers, graph.operators, strict=True) for n in operator.outputs}
    for layer, operator in zip(layers, graph.operators, strict=True):
        name = op_name(model, operator)
        made = (makers.get(int(n), "") for n in operator.inputs)
        yield operator, (name, layer), (name, "made", *(maker for maker in made if maker not in ("", layer)))


def _is_constant(model: schema.ModelT, tensor: schema.TensorT) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _take_grid(mine: schema.TensorT, other: schema.TensorT) -> None:
    if mine.type != other.type:
        raise ModelError("the model of one step has other types than that of the whole sequence")
    mine.quantization = copy.deepcopy(other.quantization)


def _take_values(step: schema.ModelT, mine: schema.TensorT, whole: schema.ModelT, other: schema.TensorT) -> None:
    if not _is_constant(step, mine) or (mine.type == schema.TensorType.INT32 and _unquantized(mine)):
        return  # shapes, beginnings and sizes are of this graph
    _take_grid(mine, other)
    buffer = schema.BufferT()
    buffer.data = np.array(whole.buffers[other.buffer].data, np.uint8)
    step.buffers.append(buffer)
    mine.buffer = len(step.buffers) - 1


def _unquantized(tensor: schema.TensorT) -> bool:
    q = tensor.quantization
    return q is None or q.scale is None or len(q.scale) == 0


def _same_grid(mine: schema.TensorT, other: schema.TensorT) -> bool:
    if _unquantized(mine) or _unquantized(other):
        return _unquantized(mine) == _unquantized(other)
    a, b = mine.quantization, other.quantization
    return np.array_equal(a.scale, b.scale) and np.array_equal(a.zeroPoint, b.zeroPoint)
