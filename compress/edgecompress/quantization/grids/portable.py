"""Weights that every runtime's kernels multiply to the same integers.

A kernel multiplies its INT32 sums by a real number M and rounds. XNNPACK does so once, in float, ties to even. The
reference kernels (TensorFlow's, tflite-runtime's, TFLite Micro's) round to some bits more than are needed first, and
then again, so that sums just below a tie go up. No two of them part if no sum lies on a tie or just below:

- M just below a power of two makes the first rounding exact; the weights' scales are free to say so;
- even weights and an odd bias make every sum odd, and ties are even.

Weights keep 7 bits, in steps up to twice as wide as they need be. Layers whose bias or type does not allow it are
written as usual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from edgecompress.quantization.graph.graph import Graph, Node
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.grids.ranges import INT8, RangeGroup

#: What weights are multiples of.
UNIT = 2
#: Largest weight: -126 to 126.
LARGEST = 126
#: How far below a power of two M must lie, as a share of it, to be below it in 31 bits of fixed point.
BELOW = 2.0**-30
#: A largest weight that lies beyond the last step by no more than this is rounding, and no reason for wider steps.
SLACK = 1e-5
_BITS, _BIAS_BITS = 8, 32


def find_portable(
    graph: Graph, groups: Sequence[RangeGroup], group_of: Mapping[int, int]
) -> dict[int, tuple[int, int]]:
    """Returns the weight tensors that can be written so -> the range groups of their layer's input and output.

    A layer needs INT8 at both ends and a bias in INT32; a weight that several layers share, the same groups in all.
    """
    found: dict[int, tuple[int, int]] = {}
    refused: set[int] = set()
    for node in graph.nodes:
        if node.op not in WEIGHTED or graph.tensors[node.inputs[1]].constant is None:
            continue
        weight, ends = node.inputs[1], (node.inputs[0], node.outputs[0])
        if not has_integers(graph, node) or not all(n in group_of and groups[group_of[n]].dtype == INT8 for n in ends):
            refused.add(weight)
            continue
        pair = (group_of[ends[0]], group_of[ends[1]])
        if found.setdefault(weight, pair) != pair:
            refused.add(weight)
    return {weight: pair for weight, pair in found.items() if weight not in refused}


def has_integers(graph: Graph, node: Node) -> bool:
    """Returns whether a layer has INT8 weights and an INT32 bias, both constant."""
    bias = node.inputs[2] if len(node.inputs) > 2 else -1  # noqa: PLR2004
    weight = graph.tensors[node.inputs[1]]
    if bias < 0 or not weight.quantized or weight.bits != _BITS:
        return False
    return graph.tensors[bias].constant is not None and graph.tensors[bias].bits == _BIAS_BITS


def below_powers(scale: torch.Tensor, ratio: float) -> torch.Tensor:
    """Returns the least scales, not below those given, that make M = scale * ratio lie just below a power of two.

    Args:
        scale: Of a weight, (channels,) or (1,), float32.
        ratio: Scale of the layer's input over that of its output.
    """
    power = torch.exp2(torch.ceil(torch.log2(scale.double() * ratio) - SLACK))
    found = (power / ratio).float()
    zero = torch.zeros_like(found)
    while bool((above := found.double() * ratio >= power * (1.0 - BELOW)).any()):
        found = torch.where(above, torch.nextafter(found, zero), found)
    return found
