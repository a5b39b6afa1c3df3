"""Divisions by what a network computes: no INT8 kernel divides rightly.

LiteRT's writes full scale where a quotient is below what its fixed point holds, and ends the whole run with an error
where a divisor has been rounded to zero (measured; tensorflow/lite/kernels/div.cc). Divisions by constants are products
by then (see `tflite.format.tidy`).
"""

from __future__ import annotations

from edgecompress.quantization.graph.graph import Graph
from edgecompress.quantization.structure.scheme import FloatPart


def find_divisions(graph: Graph) -> FloatPart:
    """Returns the divisions of a float32 flatbuffer, or of a quantized one with or without these in float32."""
    nodes = [node for node in graph.nodes if node.op == "DIV"]
    names = tuple(graph.tensors[node.outputs[0]].name for node in nodes)
    return FloatPart(frozenset(node.index for node in nodes), names, tuple(node.label for node in nodes))
