"""Convolutions and linear layers in integers, as LiteRT's kernels compute them: the twin is then exact to the bit.

In real numbers a twin is off where float32 rounds a sum across a tie of the output's grid: one value in a million, of
which deep networks make another answer in a few samples of a thousand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from edgecompress.quantization.graph.batches import compute, compute_each
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.layers import LIMITS, activate
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.grids.fake import bias_steps
from edgecompress.quantization.grids.ranges import INT8, RangeGroup
from edgecompress.quantization.grids.weight_grids import WeightGrids

_BITS, _BIAS_BITS = 8, 32
#: Place of the bias among a layer's inputs.
_BIAS = 2
#: Integers below this are exact in float32, and so are their sums. Inputs are at most so many steps from zero.
_EXACT, _INPUT_STEPS = 2.0**24, 255.0


def is_in_integers(twin: WeightGrids, node: Node) -> bool:
    """Returns whether a layer has INT8 inputs, outputs and constant weights, and a bias in INT32 if any."""
    ends = (node.inputs[0], node.outputs[0])
    if node.op not in WEIGHTED or not all(n in twin.group_of for n in ends):
        return False
    weight, bias = node.inputs[1], node.inputs[_BIAS] if len(node.inputs) > _BIAS else -1
    spec = twin.graph.tensors[weight]
    stored = str(weight) in twin.weights and spec.quantized and spec.bits == _BITS and weight not in twin.group_of
    known = bias < 0 or (bias in twin.biases and twin.graph.tensors[bias].bits == _BIAS_BITS)
    return stored and known and all(twin.groups[twin.group_of[n]].dtype == INT8 for n in ends)


@dataclass(frozen=True)
class _Constants:
    """What a layer's arithmetic needs beside its inputs.

    Attributes:
        weight: Integers, as float32.
        bias: Integers, float64; zero where the layer has none.
        factor: The scale of the products over the output's, float32.
        small: Whether no sum, bias included, can reach 2^24: in float32 they are exact then.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    factor: torch.Tensor
    small: bool


@torch.no_grad()
def integer_sums(twin: WeightGrids, node: Node, arguments: list[torch.Tensor], each: list[bool] | None) -> torch.Tensor:
    """Returns the outputs of a layer on their grid, in real numbers.

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
    held = twin.once("integers", node.index, lambda _: _constants(twin, node, arguments[1]))
    more = arguments[3:] if len(node.inputs) > _BIAS and node.inputs[_BIAS] >= 0 else arguments[2:]
    integers = [(arguments[0] / source.scale).round_(), held.weight, *more]
    # The bias comes later, and without loss.
    plain = replace(
        node,
        inputs=(*node.inputs[:_BIAS], *([-1] if more else []), *node.inputs[_BIAS + 1 :]),
        options={**node.options, "fusedActivationFunction": 0},
    )
    if each is not None:
        kept = [counts for place, counts in enumerate(each) if place < _BIAS or place >= len(each) - len(more)]
        sums = compute_each(plain, integers, kept)[0]
    else:
        sums = compute(plain, integers)[0]
    # Arithmetic in place: what a layer puts out is often larger than the processor's cache.
    sums = sums.add_(held.bias.float()) if held.small else (sums.double() + held.bias).float()
    steps = sums.mul_(held.factor).round_()  # each step in float32
    limits = output_steps(node, sink)
    if limits is None:
        x = activate(node, steps * sink.scale)
        return torch.fake_quantize_per_tensor_affine(x, sink.scale, sink.zero_point, sink.qmin, sink.qmax)
    return steps.clamp_(*limits).mul_(sink.scale)


def _constants(twin: WeightGrids, node: Node, fake: torch.Tensor) -> _Constants:
    """Returns a layer's constants, from its weights on their grid."""
    source, sink = (twin.groups[twin.group_of[n]] for n in (node.inputs[0], node.outputs[0]))
    weight = node.inputs[1]
    axis, scale = twin.graph.tensors[weight].axis, twin.weight_scale(weight)
    shape = [-1 if d == axis and len(scale) > 1 else 1 for d in range(fake.ndim)]
    integers = torch.round(fake / scale.reshape(shape))
    bias = torch.zeros(1, dtype=torch.float64, device=fake.device)
    if len(node.inputs) > _BIAS and node.inputs[_BIAS] >= 0:
        n = node.inputs[_BIAS]
        bias = bias_steps(twin.weights[str(n)], twin.bias_scale(n), uneven=weight in twin.portable)
    others = [d for d in range(fake.ndim) if d != axis]
    largest = integers.abs().double().sum(others).max() * _INPUT_STEPS + bias.abs().max()
    return _Constants(integers, bias, source.scale * scale / sink.scale, bool(largest < _EXACT))


def output_steps(node: Node, sink: RangeGroup) -> tuple[int, int] | None:
    """Returns the steps from zero that an output ends at, its fused activation's included; None for one that bends."""
    limits = LIMITS.get(int(node.options.get("fusedActivationFunction") or 0))
    if limits is None:
        return None
    ends = [sink.qmin - sink.zero_point, sink.qmax - sink.zero_point]
    for place, (limit, closer) in enumerate(zip(limits, (max, min), strict=True)):
        if math.isfinite(limit):
            one = torch.tensor([limit])
            on_grid = torch.fake_quantize_per_tensor_affine(one, sink.scale, sink.zero_point, sink.qmin, sink.qmax)
            ends[place] = closer(ends[place], round(float(on_grid) / sink.scale))
    return ends[0], ends[1]
