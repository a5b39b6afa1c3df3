"""What attention computes between its two products, and other softmax: which operators of a flatbuffer that is.

XNNPACK has no softmax for INT8: it is left to TFLite's own kernel, which takes seven times as long as a float32 one.
From scores to probabilities no weights are multiplied, so all of that is float32 where activations are INT8 (behind
large masks the softmax alone, see MOST_VALUES); what the products read and make stays INT8. Scores then keep what masks
and shifts would round away.
"""

from __future__ import annotations

import numpy as np

from edgecompress.quantization.graph.graph import Graph, Node
from edgecompress.quantization.structure.scheme import FloatPart
from edgecompress.tflite.format.tidy import BEYOND
from edgecompress.tflite.format.views import CONVERSIONS

#: What hands on values as they are.
_MOVING = frozenset({"EXPAND_DIMS", "RESHAPE", "SLICE", "SQUEEZE", "TRANSPOSE", *CONVERSIONS})
#: What scores may go through on their way to the softmax: scaling, shifts, masks, cuts.
_OF_SCORES = frozenset(
    {"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "RELU", "RESHAPE", "SELECT", "SELECT_V2", "SUB", "TRANSPOSE"}
)
#: Constants of more values, masks of all steps against all, would make the file larger by four times what they take
#: in INT8: what adds them stays INT8, and so does what lies in front.
MOST_VALUES = 256
_SOFTMAX = frozenset({"LOG_SOFTMAX", "SOFTMAX"})
#: Products of activations; the converter writes those of one head as a linear layer.
_PRODUCTS = frozenset({"BATCH_MATMUL", "FULLY_CONNECTED"})


def find_softmax(graph: Graph) -> FloatPart:
    """Returns each softmax but the model's answer, with what scores go through behind their product, by its module.

    Over more than a few places most probabilities are below a step of 1/256, which is all that INT8 kernels write.

    Args:
        graph: Of a float32 flatbuffer, or of a quantized one with or without these in float32.
    """
    search = _Search(graph)
    found: dict[int, str] = {}
    for node in graph.nodes:
        if node.op in _SOFTMAX and search.is_read(node.outputs[0]):
            path = node.label.rpartition(".")[0] or node.label
            found |= dict.fromkeys({node.index, *search.scores(node.inputs[0])}, path)
    order = sorted(found)
    names = tuple(graph.tensors[graph.nodes[k].outputs[0]].name for k in order)
    return FloatPart(frozenset(found), names, tuple(dict.fromkeys(found[k] for k in order)))


class _Search:
    """A graph with what makes each of its activations, and which of them are scores: made of a product."""

    def __init__(self, graph: Graph) -> None:
        """Takes the graph."""
        self.graph = graph
        self.maker = {n: node for node in graph.nodes for n in node.outputs}
        self._made: set[int] = set()
        for node in graph.nodes:  # in the order of execution
            passes = node.op in _OF_SCORES or node.op in CONVERSIONS
            if node.op in _PRODUCTS or (passes and not self._made.isdisjoint(node.inputs)):
                self._made.update(node.outputs)

    def is_read(self, n: int) -> bool:
        """Returns whether anything is computed of an activation, also in another shape or type."""
        readers = [node for node in self.graph.nodes if n in node.inputs]
        return any(node.op not in _MOVING or self.is_read(node.outputs[0]) for node in readers)

    def scores(self, n: int) -> set[int]:
        """Returns the operators between a product and an activation made of it; none where it is made of none.

        Those in front of a large constant, and what adds it, are not among them.
        """
        found: set[int] = set()
        seen: set[int] = set()
        left = [n]
        while left:
            n = left.pop()
            node = self.maker.get(n)
            if node is None or n in seen or n not in self._made or node.op in _PRODUCTS or self._reads_much(node):
                continue
            seen.add(n)
            left += node.inputs
            if node.op not in CONVERSIONS:
                found.add(node.index)
        return found

    def _reads_much(self, node: Node) -> bool:
        """Returns whether a constant would make the file larger in float32; beyond BEYOND it has no INT8 form."""
        constants = (self.graph.tensors[n].constant for n in node.inputs if n >= 0)
        return any(
            one is not None and one.dtype != np.bool_ and one.size > MOST_VALUES and np.abs(one).max() < BEYOND
            for one in constants
        )
