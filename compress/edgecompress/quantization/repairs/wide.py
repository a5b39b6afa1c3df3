"""Layers in wider types: which ones to take, and the twin of the model in which they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.exchange import base_name, tensors_by_name
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.ops import PASS_THROUGH
from edgecompress.quantization.proof.analysis import Gain
from edgecompress.quantization.proof.effort import node_macs
from edgecompress.quantization.structure.scheme import Scheme, Wide
from edgecompress.quantization.twin.twin import Twin

#: What the quantizer, and the removal of islands, add to the name of a tensor they make from another.
_ADDED = re.compile(r"(?:_quantized|_dequant|_int8)+$")
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class WideSet:
    """Layers to be kept wider.

    Attributes:
        names: Of their outputs in the float flatbuffer; several of one operator are joined by semicolons.
        layers: Layer names, in the order of execution.
        macs_share: Their share of the model's multiplications.
    """

    names: tuple[str, ...]
    layers: tuple[str, ...]
    macs_share: float

    def joined(self, other: WideSet) -> WideSet:
        """Returns both sets in one."""
        names, layers = (*self.names, *other.names), (*self.layers, *other.layers)
        return WideSet(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(layers)), self.macs_share + other.macs_share)

    def scheme(self, scheme: Scheme, kind: Wide) -> Scheme:
        """Returns a scheme with these layers in a wider type; what has one already keeps it."""
        return replace(scheme, wide={**dict.fromkeys(self.names, kind), **scheme.wide})


def wide_sets(twin: Twin, gains: Mapping[int, Gain], floating: schema.ModelT, limit: float) -> Iterator[WideSet]:
    """Gives growing sets of layers, those that gain most first: one layer, two, four and so on.

    With a layer go those that read its output, else it would be rounded again on its way. Those that bring nothing
    alone come last: several in a row may together.

    Args:
        twin: Of the model as it is.
        gains: Node index -> what sparing that node brings.
        floating: The float flatbuffer.
        limit: Largest share of the multiplications that a set may have.
    """
    known = set(tensors_by_name(floating))
    macs = {index: count or 0 for index, count in node_macs(twin).items()}
    total = max(sum(macs.values()), 1)
    chosen: set[int] = set()
    taken, given, size = 0, 0, 1
    for index in sorted(gains, key=lambda k: (-gains[k].points, -gains[k].db, k)):
        grown = chosen | _with_readers(twin, twin.graph.nodes[index])
        if grown == chosen or sum(macs[k] for k in grown) > limit * total:
            continue
        chosen, taken = grown, taken + 1
        if taken >= size:
            yield _as_set(twin, chosen, known, sum(macs[k] for k in chosen) / total)
            given, size = taken, 2 * size
    if taken > given:
        yield _as_set(twin, chosen, known, sum(macs[k] for k in chosen) / total)


def _with_readers(twin: Twin, node: Node) -> set[int]:
    """Returns a node and those that read its output, also behind others that only pass it on."""
    found, waiting = {node.index}, [node]
    while waiting:
        outputs = set(waiting.pop().outputs)
        for reader in twin.graph.nodes:
            if outputs & set(reader.inputs) and reader.index not in found:
                found.add(reader.index)
                if reader.op in PASS_THROUGH | _CONVERSIONS:
                    waiting.append(reader)
    return found


def _as_set(twin: Twin, chosen: set[int], known: set[str], share: float) -> WideSet:
    nodes = [twin.graph.nodes[k] for k in sorted(chosen)]
    names = {node.index: _float_name(twin, node, known) for node in nodes if node.op not in _CONVERSIONS}
    return WideSet(
        tuple(name for name in names.values() if name is not None),
        tuple(node.label for node in nodes if names.get(node.index) is not None),
        share,
    )


def _float_name(twin: Twin, node: Node, known: set[str]) -> str | None:
    names = [twin.graph.tensors[n].name for n in node.outputs]
    found = [next((one for one in (name, _ADDED.sub("", name)) if one in known), None) for name in names]
    return None if None in found else ";".join(filter(None, found))


@torch.no_grad()
def carry_weights(old: Twin, new: Twin) -> None:
    """Gives a twin the weights and biases of another one of the same float model.

    Raises:
        ModelError: It has one that the other has not.
    """
    by_name = {}
    for key, weight in old.weights.items():
        name = old.graph.tensors[int(key)].name
        by_name[base_name(name)] = by_name[name] = weight
    for key, weight in new.weights.items():
        name = new.graph.tensors[int(key)].name
        source = by_name.get(name, by_name.get(base_name(name)))
        if source is None or source.shape != weight.shape:
            raise ModelError(f"the model with wider layers has other weights: {name}")
        weight.copy_(source)
