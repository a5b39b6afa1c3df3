"""What tells runtimes apart in a quantized graph, and scales under which sums of two activations do not.

A sum has no weights whose scales could be chosen, but few inputs: all 65,536 pairs of integers that it can meet are
tried on the arithmetic of both kernels, XNNPACK's and the reference's, and the output's scale is moved by less than a
thousandth, until no pair is left on which they part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.quantization.graph.graph import Graph, Node, TensorSpec, read_graph
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.grids.portable import BELOW, UNIT, has_integers
from edgecompress.quantization.grids.ranges import INT8, QMAX, QMIN, RangeGroup
from edgecompress.quantization.twin.kernels import (
    ADD_BITS,
    divide_by_power,
    multiplier32,
    xnnpack_multipliers,
    xnnpack_sum,
)
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.sparse import densified
from edgecompress.tflite.format.views import op_name

#: How far a scale is moved at most, as a share of it.
FARTHEST = 5e-4
#: By how many bits the reference kernel shifts its inputs to the left.
LEFT_SHIFT = 20
#: A multiplier counts as just below a power of two within this share of it.
NEAR = 2.0**-20
#: Operators whose INT8 kernels give the same integers everywhere: they move, compare, or divide integers.
ALIKE = frozenset(
    {
        "AVERAGE_POOL_2D", "CONCATENATION", "DEQUANTIZE", "EXPAND_DIMS", "GATHER", "MAXIMUM", "MAX_POOL_2D", "MINIMUM",
        "PACK", "PAD", "PADV2", "REDUCE_MAX", "REDUCE_MIN", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "SLICE",
        "SPACE_TO_DEPTH", "SPLIT", "SQUEEZE", "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK",
    }
)  # fmt: skip

Integers = NDArray[np.int64]


def settle(twin: Twin) -> None:
    """Moves the scales of a twin's sums to where all kernels agree, in place, as far as there are such."""
    for k in dict.fromkeys(twin.group_of.get(node.outputs[0]) for node in twin.graph.nodes if node.op == "ADD"):
        if k is not None:
            _settle_group(twin, k)


def _settle_group(twin: Twin, k: int) -> None:
    group = twin.groups[k]
    sums = [node for node in twin.graph.nodes if node.op == "ADD" and twin.group_of.get(node.outputs[0]) == k]
    pairs = [[twin.groups[twin.group_of[n]] for n in node.inputs if n in twin.group_of] for node in sums]
    if group.fixed or any(len(pair) != 2 or any(one.dtype != INT8 for one in (group, *pair)) for pair in pairs):  # noqa: PLR2004
        return
    before = group.scale

    def parting() -> bool:
        return any(count_parting(a, b, group) for a, b in pairs)

    others = [one for pair in pairs for one in pair if one is not group]
    if not others or not parting():
        return
    for scale in _scales(others[0].scale, before):
        group.set_scale(scale)
        if not parting():
            return
    group.set_scale(before)


def _scales(source: float, scale: float) -> Iterator[float]:
    """Gives scales for an output, the nearest first, of which XNNPACK's multiplier for one input is exact."""
    unit = 2.0 ** (math.frexp(source / scale)[1] - 1 - ADD_BITS)
    middle = round(source / scale / unit)
    for away in range(int(FARTHEST * middle)):
        for multiplier in sorted({middle - away, middle + away}):
            yield source / (multiplier * unit)


def count_parting(a: RangeGroup, b: RangeGroup, out: RangeGroup) -> int:
    """Returns how many of the 65,536 pairs of INT8 inputs XNNPACK and the reference kernel add to different outputs."""
    multipliers = xnnpack_multipliers(a, b, out)
    if multipliers is None:  # another kernel than XNNPACK's adds, with the reference's arithmetic
        return 0
    first, second = np.meshgrid(np.arange(QMIN, QMAX + 1), np.arange(QMIN, QMAX + 1), indexing="ij")
    x, y = first - a.zero_point, second - b.zero_point
    sums = np.clip(xnnpack_sum(x, y, multipliers) + out.zero_point, QMIN, QMAX)
    return int((sums != reference_sum(x, y, a, b, out)).sum())


def reference_sum(x: Integers, y: Integers, a: RangeGroup, b: RangeGroup, out: RangeGroup) -> Integers:
    """Returns the INT8 sums of integers from which the zero points have been taken.

    Source: PopulateOpData in tensorflow/lite/kernels/add.cc and AddElementwise in
    tensorflow/lite/kernels/internal/reference/integer_ops/add.h.
    """
    twice = 2.0 * max(a.scale, b.scale)
    total = _scaled(x << LEFT_SHIFT, a.scale / twice) + _scaled(y << LEFT_SHIFT, b.scale / twice)
    found: Integers = np.clip(_scaled(total, twice / (2.0**LEFT_SHIFT * out.scale)) + out.zero_point, QMIN, QMAX)
    return found


def _scaled(values: Integers, factor: float) -> Integers:
    """Returns MultiplyByQuantizedMultiplierSmallerThanOneExp of tensorflow/lite/kernels/internal/common.h."""
    multiplier, exponent = multiplier32(factor)
    doubled = values * multiplier
    nudged = doubled + np.where(doubled >= 0, 1 << 30, 1 - (1 << 30))
    return divide_by_power(np.sign(nudged) * (np.abs(nudged) >> 31), -exponent)


def parting_layers(model: schema.ModelT, labels: list[str]) -> list[str]:
    """Returns the operators of a flatbuffer that runtimes may compute otherwise, by a step, in order.

    Convolutions and linear layers have weights for which that cannot be (see portable.py) or are named; of sums all
    pairs of inputs are tried; other operators count as alike only where their kernels do integer arithmetic throughout.
    """
    operators = model.subgraphs[0].operators
    dense = [label for label, one in zip(labels, operators, strict=True) if op_name(model, one) != "DENSIFY"]
    graph = read_graph(densified(model), dense)
    return [node.label for node in graph.nodes if node.op not in ALIKE and not _is_alike(graph, node)]


def _is_alike(graph: Graph, node: Node) -> bool:
    if node.op in WEIGHTED and graph.tensors[node.inputs[1]].constant is not None:
        return _rounds_once(graph, node)
    ends = [graph.tensors[n] for n in (*node.inputs, *node.outputs)]
    if node.op != "ADD" or not all(map(_is_int8, ends)):
        return False
    a, b, out = (
        RangeGroup((n,), (), fixed=True, scale=float(end.scale[0]), zero_point=int(end.zero_point[0]))
        for n, end in enumerate(ends)
    )
    return count_parting(a, b, out) == 0


def _is_int8(end: TensorSpec) -> bool:
    return end.dtype == INT8 and len(end.scale) == 1


def _rounds_once(graph: Graph, node: Node) -> bool:
    """Returns whether no sum of a convolution or linear layer can lie on a tie or just below."""
    if not has_integers(graph, node):
        return False
    source, weight, bias = (graph.tensors[n] for n in node.inputs[:3])
    sink = graph.tensors[node.outputs[0]]
    if not (_is_int8(source) and _is_int8(sink)):
        return False
    even = not np.any(np.asarray(weight.constant) % UNIT)
    odd = bool(np.all(np.asarray(bias.constant) % UNIT == 1))
    multiplier = weight.scale.astype(np.float64) * float(source.scale[0]) / float(sink.scale[0])
    mantissa, _ = np.frexp(multiplier)
    return even and odd and bool(np.all((mantissa >= 1.0 - NEAR) & (mantissa <= 1.0 - BELOW / 2.0)))
