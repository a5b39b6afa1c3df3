"""A twin layer by layer: what the float model has at each operator, beside what the quantized one has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from compress.errors import ModelError
from compress.quantization.batches import Way
from compress.quantization.graph import Node
from compress.quantization.twin import Twin


@dataclass(frozen=True)
class Layer:
    """One operator with the values it has for a batch.

    Attributes:
        node: The operator.
        floats: Its inputs in the float model, weights included.
        target: Its outputs in the float model.
        quantized: Its inputs in the quantized model, weights included.
        each: For each input whether axis 0 counts samples, where the graph is mapped over them; else None.
    """

    node: Node
    floats: list[torch.Tensor]
    target: tuple[torch.Tensor, ...]
    quantized: list[torch.Tensor]
    each: list[bool] | None


@torch.no_grad()
def walk(twin: Twin, x: torch.Tensor) -> Iterator[Layer]:
    """Gives every operator in turn; its weights may be changed before the next one is asked for.

    The quantized model goes on from the changed weights, the float model from what the weights were.

    Args:
        twin: In evaluation mode.
        x: A batch of two network inputs or more, all of it held in memory.

    Raises:
        ModelError: The graph can only be computed sample by sample.
    """
    if x.ndim == 4:  # noqa: PLR2004 - NCHW
        x = x.permute(0, 2, 3, 1)
    stacked = require_batches(twin.way(x))
    x = x[:, None] if stacked else x
    floats: dict[int, torch.Tensor] = {twin.graph.input: x}
    quantized = {twin.graph.input: twin.on_grid(twin.graph.input, x)}
    for node in twin.graph.nodes:
        each = [n in floats for n in node.inputs if n >= 0] if stacked else None
        with twin.floating():
            arguments = twin.arguments(node, floats, x.device)
            target = twin.run_node(node, arguments, each=each)
        yield Layer(node, arguments, target, twin.arguments(node, quantized, x.device), each)
        outputs = twin.run_node(node, twin.arguments(node, quantized, x.device), each=each)
        floats.update(zip(node.outputs, target, strict=True))
        quantized.update(zip(node.outputs, outputs, strict=True))
        for n in twin.last_use.get(node.index, ()):
            floats.pop(n, None)
            quantized.pop(n, None)


def require_batches(way: Way) -> bool:
    """Returns whether a batch is mapped over the samples; raises where it cannot be computed at once.

    Raises:
        ModelError: The graph can only be computed sample by sample.
    """
    if way is Way.ALONE:
        raise ModelError("the graph can only be computed sample by sample, so its layers cannot be repaired one by one")
    return way is Way.STACKED


def sharing(twin: Twin, node: Node) -> frozenset[int]:
    """Returns the indices of the nodes that `node` is spared with: itself, and those its outputs share a scale with."""
    groups = {twin.group_of[n] for n in node.outputs if n in twin.group_of}
    others = (other.index for other in twin.graph.nodes if any(twin.group_of.get(n) in groups for n in other.outputs))
    return frozenset({node.index, *others})
