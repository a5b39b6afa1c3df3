"""Bias correction: what rounding the weights adds to a channel on average is taken off its bias.

Source: Nagel et al. 2019 (arXiv 1906.04721), section 4.2, with the means measured on the calibration set and layer by
layer, so that a layer also makes up for what the layers before it left.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch

from edgecompress.quantization.graph.batches import compute, compute_each
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.proof.layers import Layer, walk
from edgecompress.quantization.twin.twin import Twin


@torch.no_grad()
def correct_biases(twin: Twin, x: torch.Tensor) -> int:
    """Corrects a twin's biases in place and returns how many layers were corrected.

    Args:
        twin: In evaluation mode, with its ranges set.
        x: A batch of network inputs, (N, ...), N of 2 or more.

    Raises:
        ModelError: The graph can only be computed sample by sample.
    """
    corrected = 0
    uses = Counter(n for node in twin.graph.nodes for n in node.inputs)
    for layer in walk(twin, x):
        node = layer.node
        bias = node.inputs[2] if node.op in WEIGHTED and len(node.inputs) > 2 else -1  # noqa: PLR2004
        if bias < 0 or str(bias) not in twin.weights or uses[bias] > 1:  # steps share theirs: no single shift fits all
            continue
        shift = _channel_means(layer, layer.quantized) - _channel_means(layer, layer.floats)
        twin.weights[str(bias)].data.sub_(shift)
        corrected += 1
    return corrected


def _channel_means(layer: Layer, arguments: list[torch.Tensor]) -> torch.Tensor:
    """Returns the mean of a layer's outputs per channel, before its activation."""
    node: Node = replace(layer.node, options={**layer.node.options, "fusedActivationFunction": 0})
    outputs = compute(node, arguments) if layer.each is None else compute_each(node, arguments, layer.each)
    return outputs[0].reshape(-1, outputs[0].shape[-1]).mean(0)
