"""A twin layer by layer: what the float model has at each operator, beside what the quantized one has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.batches import Way
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.twin.twin import Twin


@dataclass(frozen=True)
class Layer:
    """One operator with the values it has for a batch.

    Attributes:
        node: The operator.
        floats: Its inputs in the float model, weights included.
        target: Its outputs in the float model.
        quantized: Its inputs in the quantized model, weights included.
        given: What it reads there before it quantizes anything itself: the same activations, float weights.
        each: For each input whether axis 0 counts samples, where the graph is mapped over them; else None.
    """

    node: Node
    floats: list[torch.Tensor]
    target: tuple[torch.Tensor, ...]
    quantized: list[torch.Tensor]
    given: list[torch.Tensor]
    each: list[bool] | None


@torch.no_grad()
def walk(twin: Twin, x: torch.Tensor) -> Iterator[Layer]:
    """Gives every operator in turn; its weights may be changed before the next one is asked for.

    The quantized model goes on from the changed weights, the float model from what the weights were.

    Args:
        twin: In evaluation mode.
        x: A batch of network inputs, all of it held in memory; a single one goes through any graph.

    Raises:
        ModelError: The graph can only be computed sample by sample, and `x` holds several.
    """
    x, stacked = _arranged(twin, x)
    floats: dict[int, torch.Tensor] = {twin.graph.input: x}
    quantized = {twin.graph.input: twin.on_grid(twin.graph.input, x)}
    for node in twin.graph.nodes:
        each = _each(node, floats) if stacked else None
        with twin.floating():
            arguments = twin.arguments(node, floats, x.device)
            target = twin.run_node(node, arguments, each=each)
            given = twin.arguments(node, quantized, x.device)
        yield Layer(node, arguments, target, twin.arguments(node, quantized, x.device), given, each)
        _advance(twin, node, quantized, x.device, stacked=stacked)
        floats.update(zip(node.outputs, target, strict=True))
        for n in twin.last_use.get(node.index, ()):
            floats.pop(n, None)


@torch.no_grad()
def outputs_sparing(twin: Twin, x: torch.Tensor, chosen: Sequence[frozenset[int]]) -> list[torch.Tensor]:
    """Returns the quantized network's output as it is, then with each of the chosen sets of operators in float.

    What comes before the first operator of a set is computed once for all sets. `twin.spared` stays spared throughout.

    Args:
        twin: In evaluation mode.
        x: A batch as `walk` takes it.
        chosen: Indices of operators; no set is empty.

    Raises:
        ModelError: See `walk`.
    """
    x, stacked = _arranged(twin, x)
    values = {twin.graph.input: twin.on_grid(twin.graph.input, x)}
    before, nodes, device = twin.spared, twin.graph.nodes, x.device
    found: dict[int, torch.Tensor] = {}
    for node in nodes:
        for place, spared in enumerate(chosen):
            if min(spared) == node.index:
                branch = dict(values)
                try:
                    twin.spared = before | spared
                    for later in nodes[node.index :]:
                        _advance(twin, later, branch, device, stacked=stacked)
                finally:
                    twin.spared = before
                found[place] = branch[twin.graph.output]
        _advance(twin, node, values, device, stacked=stacked)
    outputs = [values[twin.graph.output], *(found[place] for place in range(len(chosen)))]
    return [output.flatten(0, 1) for output in outputs] if stacked else outputs


@torch.no_grad()
def outputs_by_range(
    twin: Twin, x: torch.Tensor, tries: Mapping[int, Sequence[tuple[float, float]]]
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Gives what the float network's output becomes when one range group alone is quantized, for each range to try.

    What comes before the group's first values is computed once. The twin's own ranges stay as they are.

    Args:
        twin: In evaluation mode.
        x: A batch as `walk` takes it.
        tries: Number of a range group -> the ranges to try.

    Yields:
        The group's number, the place of the range among those to try, the output.

    Raises:
        ModelError: See `walk`.
    """
    x, stacked = _arranged(twin, x)
    nodes = twin.graph.nodes
    begins: dict[int, list[int]] = {}
    for k in tries:
        begins.setdefault(first_use(twin, k), []).append(k)
    values: dict[int, torch.Tensor] = {twin.graph.input: x}
    with twin.floating():
        for place, node in enumerate(nodes):
            for k in begins.get(place, ()):
                group = twin.groups[k]
                for which, (low, high) in enumerate(tries[k]):
                    tried = replace(group)
                    tried.set_range(low, high)
                    branch = dict(values)
                    try:
                        twin.groups[k], twin.alone = tried, k
                        if twin.graph.input in group.tensors:
                            branch[twin.graph.input] = twin.on_grid(twin.graph.input, x)
                        for later in nodes[place:]:
                            _advance(twin, later, branch, x.device, stacked=stacked)
                    finally:
                        twin.groups[k], twin.alone = group, None
                    output = branch[twin.graph.output]
                    yield k, which, output.flatten(0, 1) if stacked else output
            _advance(twin, node, values, x.device, stacked=stacked)


def first_use(twin: Twin, k: int) -> int:
    """Returns the place of the first operator that makes or reads a value of a range group."""
    mine = set(twin.groups[k].tensors)
    return next(place for place, node in enumerate(twin.graph.nodes) if mine & {*node.inputs, *node.outputs})


def _advance(twin: Twin, node: Node, values: dict[int, torch.Tensor], device: torch.device, *, stacked: bool) -> None:
    """Computes an operator of the quantized model; `values` gains its outputs and loses what nobody reads any more."""
    each = _each(node, values) if stacked else None
    outputs = twin.run_node(node, twin.arguments(node, values, device), each=each)
    values.update(zip(node.outputs, outputs, strict=True))
    for n in twin.last_use.get(node.index, ()):
        values.pop(n, None)


def _each(node: Node, values: dict[int, torch.Tensor]) -> list[bool]:
    """Returns for each input whether it has a value per sample; the others are constants."""
    return [n in values for n in node.inputs if n >= 0]


def _arranged(twin: Twin, x: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Returns a batch as the operators take it, and whether they are mapped over its samples."""
    x = _flatbuffer_layout(x)
    stacked = len(x) > 1 and require_batches(twin.way(x))
    return x[:, None] if stacked else x, stacked


def _flatbuffer_layout(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x  # noqa: PLR2004 - NCHW


def walkable(twin: Twin, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Gives batches as `walk` takes them: sample by sample where the graph can only be computed so."""
    for x in batches:
        alone = len(x) > 1 and twin.way(_flatbuffer_layout(x)) is Way.ALONE
        yield from (x[k : k + 1] for k in range(len(x))) if alone else (x,)


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
