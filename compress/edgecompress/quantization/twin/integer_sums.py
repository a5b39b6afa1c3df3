"""Convolutions and linear layers in integers, as LiteRT's kernels compute them: the twin is then exact to the bit.

In real numbers a twin is off where float32 rounds a sum across a tie of the output's grid: one value in a million, of
which deep networks make another answer in a few samples of a thousand.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from edgecompress.quantization.graph.batches import compute, compute_each
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.layers import activate
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.grids.fake import bias_steps
from edgecompress.quantization.grids.ranges import INT8
from edgecompress.quantization.grids.weight_grids import WeightGrids

_BITS, _BIAS_BITS = 8, 32


def is_in_integers(twin: WeightGrids, node: Node) -> bool:
    """Returns whether a layer has INT8 inputs, outputs and constant weights, and a bias in INT32 if any."""
    ends = (node.inputs[0], node.outputs[0])
    if node.op not in WEIGHTED or not all(n in twin.group_of for n in ends):
        return False
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else -1  # noqa: PLR2004
    spec = twin.graph.tensors[weight]
    stored = str(weight) in twin.weights and spec.quantized and spec.bits == _BITS and weight not in twin.group_of
    known = bias < 0 or (bias in twin.biases and twin.graph.tensors[bias].bits == _BIAS_BITS)
    return stored and known and all(twin.groups[twin.group_of[n]].dtype == INT8 for n in ends)


@torch.no_grad()
def integer_sums(twin: WeightGrids, node: Node, arguments: list[torch.Tensor], each: list[bool] | None) -> torch.Tensor:
    """Returns the outputs of a layer, in real numbers, not yet clipped to what INT8 holds.

    Sums of products are exact in float32 up to 2^24; the bias is added without loss. The scale of the products over the
    output's is a float32, by which the sum, as a float32, is multiplied, ties to even.

    Args:
        twin: Whose ranges, scales and biases it has.
        node: A layer of which `is_in_integers` holds.
        arguments: Its inputs, on their grids.
        each: As `Twin.run_node` takes it.

    Source: qs8-gemm, qs8-igemm and qs8-dwconv with fp32 requantization in XNNPACK, and convolution-2d.c,
    depthwise-convolution-2d.c and fully-connected.c there.
    """
    source, sink = (twin.groups[twin.group_of[n]] for n in (node.inputs[0], node.outputs[0]))
    weight = node.inputs[1]
    spec, scale = twin.graph.tensors[weight], twin.weight_scale(weight)
    shape = [-1 if d == spec.axis and len(scale) > 1 else 1 for d in range(arguments[1].ndim)]
    integers = [torch.round(arguments[0] / source.scale), torch.round(arguments[1] / scale.reshape(shape))]
    bias: torch.Tensor | float = 0.0
    if len(node.inputs) > 2 and node.inputs[2] >= 0:  # noqa: PLR2004
        n = node.inputs[2]
        bias = bias_steps(twin.weights[str(n)], twin.bias_scale(n), uneven=weight in twin.portable)
        integers.append(torch.zeros_like(arguments[2]))
    integers += arguments[len(integers) :]
    plain = replace(node, options={**node.options, "fusedActivationFunction": 0})
    sums = compute(plain, integers)[0] if each is None else compute_each(plain, integers, each)[0]
    factor = source.scale * scale / sink.scale  # each step in float32
    steps = torch.round((sums.double() + bias).float() * factor)
    return activate(node, steps * sink.scale)
