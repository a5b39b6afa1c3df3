"""What attention computes between its two products: which operators of a flatbuffer that is.

XNNPACK has no softmax for INT8: it is left to TFLite's own kernel, which takes seven times as long as a float32 one.
From scores to probabilities no weights are multiplied, so all of that is float32 where activations are INT8; what the
products read and make stays INT8. Scores then keep what masks and shifts would round away.
"""

from __future__ import annotations

from compress.quantization.graph import Graph, Node
from compress.quantization.scheme import FloatPart
from compress.tflite.views import CONVERSIONS

#: What hands on values as they are.
_MOVING = frozenset({"EXPAND_DIMS", "RESHAPE", "SLICE", "SQUEEZE", "TRANSPOSE", *CONVERSIONS})
#: What scores may go through on their way to the softmax: scaling, shifts, masks, cuts.
_OF_SCORES = frozenset({"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "RELU", "RESHAPE", "SUB", "TRANSPOSE"})
#: Constants of more values, masks of all steps against all, would make the file larger by four times what they take
#: in INT8: what adds them stays INT8, and so does what lies in front.
MOST_VALUES = 256
#: Products of activations; the converter writes those of one head as a linear layer.
_PRODUCTS = frozenset({"BATCH_MATMUL", "FULLY_CONNECTED"})


def find_softmax(graph: Graph) -> FloatPart:
    """Returns the softmax of each attention, with what its scores go through behind their product, by its module.

    Attention is a softmax whose outputs a product of activations reads; one that is the model's answer is none.

    Args:
        graph: Of a float32 flatbuffer, or of a quantized one with or without these in float32.
    """
    maker = {n: node for node in graph.nodes for n in node.outputs}
    found: dict[int, str] = {}
    for node in graph.nodes:
        if node.op == "SOFTMAX" and _is_multiplied(graph, node.outputs[0]):
            path = node.label.rpartition(".")[0] or node.label
            found |= dict.fromkeys({node.index, *(_scores(graph, node.inputs[0], maker) or ())}, path)
    order = sorted(found)
    names = tuple(graph.tensors[graph.nodes[k].outputs[0]].name for k in order)
    return FloatPart(frozenset(found), names, tuple(dict.fromkeys(found[k] for k in order)))


def _is_multiplied(graph: Graph, n: int) -> bool:
    """Returns whether a product reads an activation, also in another shape or type."""
    for node in graph.nodes:
        if n not in node.inputs:
            continue
        if node.op in _PRODUCTS and all(graph.tensors[m].constant is None for m in node.inputs[:2]):
            return True
        if node.op in _MOVING and _is_multiplied(graph, node.outputs[0]):
            return True
    return False


def _scores(graph: Graph, n: int, maker: dict[int, Node]) -> set[int] | None:
    """Returns the operators between a product and an activation made of it, None where it is made of none.

    Those in front of a large constant, and what adds it, are not among them.
    """
    node = maker.get(n)
    if node is None:
        return None
    if node.op in _PRODUCTS:
        return set()
    if node.op not in _OF_SCORES and node.op not in CONVERSIONS:
        return None
    ways = [way for m in node.inputs if (way := _scores(graph, m, maker)) is not None]
    if not ways:
        return None
    constants = [one for m in node.inputs if m >= 0 and (one := graph.tensors[m].constant) is not None]
    if any(one.size > MOST_VALUES for one in constants):
        return set()
    return set().union(*ways, set() if node.op in CONVERSIONS else {node.index})
