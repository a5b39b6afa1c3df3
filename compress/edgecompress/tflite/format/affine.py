"""Scales and shifts per channel, as batch norms in front of a convolution are: one operator in the place of two."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.tflite.format.finish import operator_code
from edgecompress.tflite.format.views import op_name

_VALID = 1
_PICTURES = 4


@dataclass(frozen=True)
class _Chain:
    """Products and sums by constants per channel, one behind the other.

    Attributes:
        source: The map that the first of them reads.
        factors: By which each channel is multiplied in all.
        shifts: What is added to it in all.
        operators: They themselves.
    """

    source: int
    factors: NDArray[np.float64]
    shifts: NDArray[np.float64]
    operators: tuple[schema.OperatorT, ...] = ()

    def then(self, name: str, values: NDArray[np.float64], operator: schema.OperatorT) -> _Chain:
        """Returns the chain with one more."""
        factors, shifts = self.factors, self.shifts
        if name == "MUL":
            factors, shifts = factors * values, shifts * values
        else:
            shifts = shifts + values if name == "ADD" else shifts - values
        return _Chain(self.source, factors, shifts, (*self.operators, operator))


def join_scales_and_shifts(graph: schema.SubGraphT, model: schema.ModelT) -> int:
    """Makes products and sums of a map by constants per channel one depthwise convolution of 1x1; returns how many.

    It rounds once where they round each time, and each channel's factor has a scale of its own.
    """
    readers = Counter(int(n) for operator in graph.operators for n in operator.inputs)
    readers.update(int(n) for n in graph.outputs)
    chains: dict[int, _Chain] = {}
    for operator in graph.operators:
        name = op_name(model, operator)
        x, values = _by_channel(graph, model, operator) if name in ("ADD", "MUL", "SUB") else (-1, None)
        if values is None:
            continue
        before = chains.pop(x, None) or _Chain(x, np.ones(values.size), np.zeros(values.size))
        chain, written = before.then(name, values.astype(np.float64), operator), int(operator.outputs[0])
        chains[written] = chain
        if operator.builtinOptions.fusedActivationFunction or readers[written] != 1:
            chains[-1 - written] = chains.pop(written)  # ends here: nothing finds it by what it writes
    ended = [chain for chain in chains.values() if len(chain.operators) > 1]
    gone = [operator for chain in ended for operator in chain.operators[:-1]]
    for chain in ended:
        _become_a_convolution(graph, model, chain)
    graph.operators = [operator for operator in graph.operators if not any(operator is one for one in gone)]
    return len(ended)


def _by_channel(
    graph: schema.SubGraphT, model: schema.ModelT, operator: schema.OperatorT
) -> tuple[int, NDArray[np.float32] | None]:
    """Returns the map that an operator reads and the constant for each channel that it reads beside, or None."""
    written = graph.tensors[int(operator.outputs[0])]
    pairs = [(int(operator.inputs[0]), int(operator.inputs[1])), (int(operator.inputs[1]), int(operator.inputs[0]))]
    for x, other in pairs[: 1 if op_name(model, operator) == "SUB" else 2]:
        tensor, constant = graph.tensors[x], graph.tensors[other]
        data = model.buffers[constant.buffer].data
        shape = [] if tensor.shape is None else [int(side) for side in tensor.shape]
        if data is None or not len(data) or constant.type != schema.TensorType.FLOAT32 or len(shape) != _PICTURES:
            continue
        channels = shape[-1]
        sides = [] if constant.shape is None else [int(side) for side in constant.shape]
        values = np.frombuffer(bytes(data), np.float32)
        same = [int(side) for side in written.shape] == shape
        if same and channels > 1 and sides[-1:] == [channels] and values.size == channels and np.isfinite(values).all():
            return x, values
    return -1, None


def _become_a_convolution(graph: schema.SubGraphT, model: schema.ModelT, chain: _Chain) -> None:
    operator = chain.operators[-1]
    fused = operator.builtinOptions.fusedActivationFunction
    like = graph.tensors[int(operator.outputs[0])]

    def constant(values: NDArray[np.float64], shape: list[int], kind: str) -> int:
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor.type, tensor.hasRank, tensor.buffer = schema.TensorType.FLOAT32, True, len(model.buffers) - 1
        tensor.shape, tensor.name = np.array(shape, np.int32), bytes(like.name) + f"/{kind}".encode()
        tensor.quantization = copy.deepcopy(like.quantization)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    channels = chain.factors.size
    weight, bias = constant(chain.factors, [1, 1, 1, channels], "scale"), constant(chain.shifts, [channels], "shift")
    operator.opcodeIndex = operator_code(model, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    operator.inputs = np.array([chain.source, weight, bias], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.DepthwiseConv2DOptions
    options = operator.builtinOptions = schema.DepthwiseConv2DOptionsT()
    options.padding, options.depthMultiplier, options.fusedActivationFunction = _VALID, 1, fused
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
