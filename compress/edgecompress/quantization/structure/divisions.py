"""Divisions by what a network computes: no INT8 kernel divides rightly.

LiteRT's writes full scale where a quotient is below what its fixed point holds, and ends the whole run with an error
where a divisor has been rounded to zero (measured; tensorflow/lite/kernels/div.cc). Divisions by constants are products
by then (see `tflite.format.tidy`).

What a divisor is computed from behind the last product of weights is float32 too: a sum's small values and the epsilon
that keeps it from zero are below a step of INT8, and a divisor of zero gives infinity. So is what the numerator is
computed from out of these values.
"""

from __future__ import annotations

import numpy as np

from edgecompress.quantization.graph.graph import Graph, Node
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.structure.attention import MOST_VALUES
from edgecompress.quantization.structure.scheme import FloatPart
from edgecompress.tflite.format.views import CONVERSIONS

#: What hands on values as they are, or copies of them.
_MOVING = frozenset(
    {
        "BROADCAST_TO",
        "CONCATENATION",
        "EXPAND_DIMS",
        "RESHAPE",
        "SLICE",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TILE",
        "TRANSPOSE",
        *CONVERSIONS,
    }
)
#: What a divisor may be computed by: value by value, and by sums, means and the like of values.
_COMPUTING = frozenset(
    {
        *("ABS", "ADD", "AVERAGE_POOL_2D", "CUMSUM", "DIV", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG"),
        *("LOGISTIC", "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "NEG", "POW", "PRELU"),
        *("REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RSQRT", "SELECT"),
        *("SELECT_V2", "SOFTMAX", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "SUM", "TANH"),
    }
)
_PRODUCTS = frozenset({*WEIGHTED, "BATCH_MATMUL"})


def find_divisions(graph: Graph) -> FloatPart:
    """Returns the divisions of a float32 flatbuffer, or of a quantized one with or without these in float32.

    The layers named are those of the divisions alone.
    """
    search = _Search(graph)
    divisions = [node for node in graph.nodes if node.op == "DIV"]
    found = {node.index for node in divisions}
    for node in divisions:
        search.collect(node.inputs[1], found)
    known: dict[int, bool] = {}
    for node in divisions:
        search.collect_shared(node.inputs[0], found, known)
    found = {k for k in found if graph.nodes[k].op not in CONVERSIONS}
    names = tuple(graph.tensors[n].name for k in sorted(found) for n in graph.nodes[k].outputs)
    return FloatPart(frozenset(found), names, tuple(node.label for node in divisions))


class _Search:
    """A graph with what makes each of its activations, and which of them products of weights read."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.maker = {n: node for node in graph.nodes for n in node.outputs}
        self._weighed: set[int] = set()
        for node in reversed(graph.nodes):
            passed = node.op in _MOVING and not self._weighed.isdisjoint(node.outputs)
            if node.op in _PRODUCTS or passed:
                self._weighed.update(node.inputs)

    def collect(self, n: int, found: set[int]) -> bool:
        """Adds what an activation is computed by; returns whether that is anything but moves."""
        node = self.maker.get(n)
        if node is None or n in self._weighed or self._reads_much(node):
            return False
        if node.index in found:
            return True
        if node.op in _MOVING:
            parts = [self.collect(one, found) for one in dict.fromkeys(node.inputs)]
            if any(parts):
                found.add(node.index)
            return any(parts)
        if node.op not in _COMPUTING:
            return False
        found.add(node.index)
        for one in node.inputs:
            self.collect(one, found)
        return True

    def collect_shared(self, n: int, found: set[int], known: dict[int, bool]) -> bool:
        """Adds what a numerator is computed by out of what is float32 already, as both parts of a fraction x P / Q are.

        Returns whether that is how the activation is made; `known` are answers for others.
        """
        node = self.maker.get(n)
        if node is None or node.index in found:
            return node is not None
        if n not in known:
            known[n] = False
            if n not in self._weighed and node.op in _COMPUTING | _MOVING and not self._reads_much(node):
                parts = [self.collect_shared(one, found, known) for one in dict.fromkeys(node.inputs)]
                known[n] = any(parts)
        if known[n]:
            found.add(node.index)
        return known[n]

    def _reads_much(self, node: Node) -> bool:
        """Returns whether a constant would make the file larger in float32 by what it takes in INT8, three times."""
        constants = (self.graph.tensors[n].constant for n in node.inputs if n >= 0)
        return any(one is not None and one.dtype != np.bool_ and one.size > MOST_VALUES for one in constants)
