"""What a pass through a twin costs, told from its graph: what is bounded by it comes out the same on every machine."""

from __future__ import annotations

import math

from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.weights import macs
from edgecompress.tflite.format.views import GraphView, OpInfo, TensorInfo

#: A multiply-accumulate costs this share of what it costs to quantize a value.
MAC_COST = 1 / 400


def node_macs(twin: Twin) -> dict[int, int | None]:
    """Returns the multiply-accumulates of every operator for one sample."""
    shapes = {
        n: shape
        for node in twin.graph.nodes
        for n, shape in zip((*node.inputs, *node.outputs), (*node.input_shapes, *node.output_shapes), strict=True)
    }
    tensors = tuple(
        TensorInfo(n, spec.name, shapes.get(n, ()), str(spec.dtype), (), (), 0, 0)
        for n, spec in enumerate(twin.graph.tensors)
    )
    graph = GraphView(tensors, (), (), ())
    return {
        node.index: macs(graph, OpInfo(node.index, node.op, node.inputs, node.outputs, node.options))
        for node in twin.graph.nodes
    }


def pass_cost(twin: Twin) -> float:
    """Returns what one sample's pass costs, in values that are quantized."""
    values = sum(math.prod(shape) for node in twin.graph.nodes for shape in node.output_shapes)
    return values + MAC_COST * sum(count or 0 for count in node_macs(twin).values())
