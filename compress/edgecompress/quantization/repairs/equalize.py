"""Cross-layer equalisation: neighbouring layers share out how large their channels' weights are.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721),
section 4.1. With ReLU, or nothing, between two layers, dividing a channel of the first by s and multiplying the second
one's weights for it by s changes nothing in real numbers; s = sqrt(r1 / r2) gives both the same range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.twin.twin import Twin

#: Operators through which a channel passes as a whole, whatever factor it carries.
CARRIERS = frozenset({"AVERAGE_POOL_2D", "LEAKY_RELU", "MAX_POOL_2D", "MEAN", "PAD", "RELU"})
#: Fused activations (none, ReLU) that a factor passes through.
HOMOGENEOUS = frozenset({0, 1})
MAPS = 4  # axes of a tensor with channels last
ROUNDS = 20
#: Rounds end when no factor is further from 1 than this.
SETTLED = 1e-3
LARGEST_FACTOR = 1e6


@dataclass(frozen=True)
class Pair:
    """Two layers with nothing between them that a factor per channel could not pass."""

    first: Node
    second: Node


def find_pairs(twin: Twin, passing: frozenset[int] = HOMOGENEOUS) -> list[Pair]:
    """Returns the pairs of layers that can be equalised, in the order of the graph.

    Args:
        twin: Of the graph.
        passing: Fused activations that the first layer of a pair may have.
    """
    pairs = []
    for node in twin.graph.nodes:
        if _own_weight(twin, node) and fused_activation(node) in passing:
            second = _reader(twin, node)
            if second is not None and _channels_in(twin, second) == _channels_out(twin, node):
                pairs.append(Pair(node, second))
    return pairs


@torch.no_grad()
def equalize(twin: Twin) -> int:
    """Equalises a twin's weights in place and returns how many pairs of layers took part; ranges must be set anew.

    Chains settle over several rounds.
    """
    pairs = find_pairs(twin)
    for _ in range(ROUNDS):
        furthest = max((_equalize_pair(twin, pair) for pair in pairs), default=0.0)
        if furthest < SETTLED:
            break
    return len(pairs)


def _equalize_pair(twin: Twin, pair: Pair) -> float:
    """Returns how far the factors were from 1, as the largest magnitude of their logarithm."""
    first, second = _weight(twin, pair.first), _weight(twin, pair.second)
    channels = _channels_out(twin, pair.first)
    out_axis = _out_axis(pair.first)
    before = first.abs().amax(dim=[d for d in range(first.ndim) if d != out_axis])
    view = _by_input_channel(pair.second, second, channels)
    after = view.abs().amax(dim=list(range(view.ndim - 1)))
    alive = (before > 0) & (after > 0)
    ratio = torch.where(alive, before / after.clamp_min(1e-30), torch.ones_like(before))
    factor = ratio.sqrt().clamp(1 / LARGEST_FACTOR, LARGEST_FACTOR)
    divide_channels(twin, pair, factor)
    return float(factor.log().abs().max())


@torch.no_grad()
def divide_channels(twin: Twin, pair: Pair, factor: torch.Tensor) -> None:
    """Divides the channels between two layers by factors, (channels,): the first layer's weights and biases, in place.

    The second one's weights for them are multiplied by the same.
    """
    first, second = _weight(twin, pair.first), _weight(twin, pair.second)
    out_axis = _out_axis(pair.first)
    first.div_(factor.reshape([-1 if d == out_axis else 1 for d in range(first.ndim)]))
    _by_input_channel(pair.second, second, len(factor)).mul_(factor)
    bias = pair.first.inputs[2] if len(pair.first.inputs) > 2 else -1  # noqa: PLR2004
    if bias >= 0:
        twin.weights[str(bias)].data.div_(factor)


def _by_input_channel(node: Node, weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Returns a view of a weight whose last axis is the input channel."""
    if node.op == "FULLY_CONNECTED":
        return weight.view(weight.shape[0], -1, channels)  # a map flattened with its channels last
    return weight  # OHWI, and 1HWC where each channel has a filter of its own


def _weight(twin: Twin, node: Node) -> torch.Tensor:
    weight: torch.Tensor = twin.weights[str(node.inputs[1])].data
    return weight


def _own_weight(twin: Twin, node: Node) -> bool:
    """Returns whether a node has a constant weight, and bias, that no other node uses."""
    if node.op not in WEIGHTED or str(node.inputs[1]) not in twin.weights:
        return False
    mine = [n for n in node.inputs[1:] if n >= 0]
    return all(sum(n in other.inputs for other in twin.graph.nodes) == 1 for n in mine)


def fused_activation(node: Node) -> int:
    """Returns the number of a node's fused activation, 0 where it has none."""
    return int(node.options.get("fusedActivationFunction") or 0)


def _out_axis(node: Node) -> int:
    return 3 if node.op == "DEPTHWISE_CONV_2D" else 0


def _channels_out(twin: Twin, node: Node) -> int:
    return int(_weight(twin, node).shape[_out_axis(node)])


def _channels_in(twin: Twin, node: Node) -> int | None:
    """Returns how many channels a layer reads, one weight or filter for each; None where they are grouped."""
    shape, channels = _weight(twin, node).shape, node.input_shapes[0][-1]
    if node.op == "FULLY_CONNECTED":
        before = _flattened_channels(twin, node)
        return before if before is not None and shape[1] % before == 0 else None
    return channels if shape[3] == channels else None


def _flattened_channels(twin: Twin, node: Node) -> int | None:
    """Returns the channels of what a linear layer reads: of the map, where one was flattened for it."""
    made = next((other for other in twin.graph.nodes if node.inputs[0] in other.outputs), None)
    if made is not None and made.op == "RESHAPE":
        return made.input_shapes[0][-1]
    return node.input_shapes[0][-1]


def _reader(twin: Twin, node: Node) -> Node | None:
    """Returns the layer that alone reads a node's output, through operators that let a factor pass."""
    output = node.outputs[0]
    while output != twin.graph.output:
        readers = [other for other in twin.graph.nodes if output in other.inputs]
        if len(readers) != 1:
            return None
        (reader,) = readers
        if _own_weight(twin, reader):
            return reader if reader.inputs[0] == output else None
        if not _carries(twin, reader):
            return None
        output = reader.outputs[0]
    return None


def _carries(twin: Twin, node: Node) -> bool:
    if node.op == "RESHAPE":  # a map flattened, channels last
        before, after = node.input_shapes[0], node.output_shapes[0]
        return len(after) == 2 and after[-1] == math.prod(before[1:])  # noqa: PLR2004 - (samples, features)
    if node.op not in CARRIERS or fused_activation(node) not in HOMOGENEOUS:
        return False
    if node.op == "MEAN":
        axes = twin.graph.tensors[node.inputs[1]].constant
        rank = len(node.input_shapes[0])
        return rank == MAPS and axes is not None and not {0, rank - 1} & {int(axis) % rank for axis in axes.reshape(-1)}
    return True
