"""What the steps of LSTMs and GRUs compute between their linear layers: which operators of a flatbuffer that is.

Both add what comes in, step after step, and each step rounds the sum again. A cell's grid has to reach as far as the
units that count furthest; TFLite's own integer LSTM has its cell in INT16 for that reason. A GRU's state stands still
where a step adds less than half a grid's step to it. And a gate on a grid of 256 steps forgets a 256th at least, or
nothing: over a hundred words a third is gone. So sums, products, gates and candidates are float32 where activations are
INT8; no weights are among them, and what linear layers read and make stays INT8.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.structure.scheme import FloatPart
from edgecompress.tflite.format.views import CONVERSIONS, GraphView, OpInfo, graph_views, op_name

#: Operators that hand on what they got.
_MOVING = frozenset({"RESHAPE", *CONVERSIONS})
#: What lies between linear layers and the state of a step.
_BETWEEN = frozenset({"ADD", "LOGISTIC", "MUL", "RESHAPE", "SLICE", "SPLIT", "STRIDED_SLICE", "SUB", "TANH"})
_NUMBER = re.compile(r"#\d+$")


def find_cells(model: schema.ModelT, labels: Sequence[str]) -> FloatPart:
    """Returns what lies between the linear layers of LSTMs and GRUs in a flatbuffer.

    They are known by what they add up: the cells of LSTMs, c = f * c + i * g, which only a tanh and the next step's
    product read, and the states of GRUs, h + u * (n - h) or (1 - z) * n + z * h. A model of one step has its states as
    further inputs and as many outputs: there the next step is the same one again.

    Args:
        model: The flatbuffer, unpacked: float32, or quantized with or without its cells.
        labels: A unique layer name per operator.
    """
    search = _Search(graph_views(model)[0])
    found: dict[int, str] = {}
    kept = [(cell, search.parts(cell), search.makers(cell)) for cell in search.cells()]
    kept += [(one.sum, list(one.parts), search.makers_of(one.ends)) for one in search.states()]
    for total, parts, makers in kept:
        before = next((found[k] for k in makers if k in found), None)
        layer = before or _layer([labels[k] for k in (total.index, *parts)]) or _numbered(found)
        found |= dict.fromkeys([*parts, *search.around(parts)], layer)
    view, order = search.view, sorted(found)
    names = tuple(";".join(view.tensors[n].name for n in view.ops[k].outputs) for k in order)
    return FloatPart(frozenset(found), names, tuple(dict.fromkeys(found[k] for k in order)))


def cell_operators(model: schema.ModelT, labels: Sequence[str]) -> frozenset[int]:
    """Returns the positions of a flatbuffer's cells, and of the conversions right before and behind.

    Args:
        model: The flatbuffer, unpacked.
        labels: A unique layer name per operator.
    """
    return find_cells(model, labels).with_conversions(graph_views(model)[0].ops)


def hand_on_floats(model: schema.ModelT) -> int:
    """Lets the model of one step take and give float32 cells and states, in place; returns how many changed.

    The quantizer rounds every input and output. What is float32 on both sides of it goes in and out as it is, and is
    rounded inside for the layers that read it as integers, as in the whole sequence.
    """
    graph = model.subgraphs[0]
    graph.inputs, graph.outputs = np.array(graph.inputs), np.array(graph.outputs)
    changed = 0
    for place in range(1, min(len(graph.inputs), len(graph.outputs))):
        before, after = int(graph.inputs[place]), int(graph.outputs[place])
        readers = [op for op in graph.operators if before in map(int, op.inputs)]
        widened = [op for op in readers if op_name(model, op) == "DEQUANTIZE"]
        maker = next((op for op in graph.operators if after in map(int, op.outputs)), None)
        if len(widened) != 1 or maker is None or op_name(model, maker) != "QUANTIZE":
            continue
        inside = int(widened[0].outputs[0]), int(maker.inputs[0])
        graph.operators.remove(widened[0])
        if len(readers) > 1:  # linear layers read it too: it is rounded on the way in, as behind each step
            rounding = copy.copy(maker)
            rounding.inputs, rounding.outputs = np.array([inside[0]], np.int32), np.array([before], np.int32)
            graph.operators.insert(0, rounding)
        if not any(after in map(int, op.inputs) for op in graph.operators):
            graph.operators.remove(maker)
        graph.inputs[place], graph.outputs[place] = inside
        for signature in model.signatureDefs or []:
            for entries, old, new in ((signature.inputs, before, inside[0]), (signature.outputs, after, inside[1])):
                for entry in entries:
                    if entry.tensorIndex == old:
                        entry.tensorIndex = new
        changed += 1
    return changed


def _layer(labels: list[str]) -> str:
    """Returns the path that operators have in common, "" where they have none, as in torch's own layers."""
    common: list[str] = []
    for parts in zip(*(_NUMBER.sub("", label).split(".")[:-1] for label in labels), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def _numbered(found: dict[int, str]) -> str:
    return f"recurrent layer {len(set(found.values())) + 1}"


class _State(NamedTuple):
    """A step of a recurrence, a + gate * (b - a) or (1 - gate) * a + gate * b.

    Attributes:
        sum: The addition.
        parts: Positions of difference, product or products, and sum.
        ends: The activations a and b, one of which is the state before.
        gate: The activation that tells how far it goes from a to b.
    """

    sum: OpInfo
    parts: tuple[int, ...]
    ends: tuple[int, int]
    gate: int


class _Search:
    """A graph with what makes and what reads each of its activations."""

    def __init__(self, view: GraphView) -> None:
        """Takes the graph."""
        self.view = view
        self.maker = {n: op for op in view.ops for n in op.outputs}
        # A model of one step: state that goes out -> where it comes in again.
        self.again = dict(zip(view.outputs[1:], view.inputs[1:], strict=False))
        self.read_by: dict[int, list[OpInfo]] = {}
        for op in view.ops:
            for n in dict.fromkeys(op.inputs):
                self.read_by.setdefault(n, []).append(op)

    def origin(self, n: int) -> int:
        """Returns the activation that another one holds the values of, in another shape or type."""
        while n in self.maker and self.maker[n].op in _MOVING:
            n = self.maker[n].inputs[0]
        return n

    def readers(self, n: int) -> list[OpInfo]:
        """Returns what reads an activation, also in another shape or type, and also in the next step."""
        found = []
        for op in self.read_by.get(n, []):
            found += self.readers(op.outputs[0]) if op.op in _MOVING else [op]
        return found + (self.readers(self.again[n]) if n in self.again else [])

    def cells(self) -> list[OpInfo]:
        """Returns the sums that are cells."""
        sums = {op.index: op for op in self.view.ops if op.op == "ADD" and self._products(op)}
        while True:  # a product leads to a cell, so what is none makes others none
            kept = {k: op for k, op in sums.items() if self._is_state(op.outputs[0], sums)}
            if len(kept) == len(sums):
                break
            sums = kept
        # Alone, a sum of two products under a tanh may be anything.
        return [op for op in sums.values() if self._next(op.outputs[0]) or self._before(op, sums)]

    def parts(self, cell: OpInfo) -> list[int]:
        """Returns the positions of a cell's operators: its sum and products, its tanh, and the one it begins with."""
        products = self._products(cell)
        found = [cell, *products, *(op for op in self.readers(cell.outputs[0]) if op.op == "TANH")]
        for product in products:
            for n in map(self.origin, product.inputs):
                if n in self.maker and self._is_beginning(n, cell):
                    found += [self.maker[n], *(op for op in self.readers(n) if op.op == "TANH")]
        return sorted({op.index for op in found})

    def around(self, parts: Sequence[int]) -> set[int]:
        """Returns the positions of what else a step computes: gates, candidates and the product with a cell's tanh."""
        ops = self.view.ops
        tanhs = [ops[k] for k in parts if ops[k].op == "TANH"]
        found = {op.index for tanh in tanhs for op in self.readers(tanh.outputs[0]) if op.op == "MUL"}
        left = [n for k in (*parts, *found) for n in ops[k].inputs]
        while left:
            maker = self.maker.get(left.pop())
            if maker is None or maker.index in found or maker.index in parts:
                continue
            if maker.op in _BETWEEN:
                found.add(maker.index)
            if maker.op in _BETWEEN or maker.op in CONVERSIONS:
                left += maker.inputs
        return found

    def states(self) -> list[_State]:
        """Returns what GRUs add up: sums of which one leads to the next, by gates made with the same weights.

        Torch's own layer is n + z * (h - n), the built-in one h + u * (n - h). Highway layers are written alike, but
        each has its own weights.
        """
        found = {one.sum.index: one for op in self.view.ops if (one := self._state(op)) is not None}
        owner = {k: one for one in found.values() for k in one.parts}
        weights = {k: self._weights(one.gate) for k, one in found.items()}
        kept: set[int] = set()
        for k, one in found.items():
            following = {owner[op.index].sum.index for op in self.readers(one.sum.outputs[0]) if op.index in owner}
            for other in following:
                if weights[k] & weights[other]:
                    kept |= {k, other}
        return [found[k] for k in sorted(kept)]

    def _state(self, op: OpInfo) -> _State | None:
        """Returns what an addition is a step of: of a and a product with b - a that nothing else reads, or of two."""
        if op.op != "ADD":
            return None
        if products := self._products(op):
            return self._weighed(op, products)
        for a, share in (op.inputs, op.inputs[::-1]):
            product = self.maker.get(self.origin(share))
            if product is None or product.op != "MUL":
                continue
            for way, gate in (product.inputs, product.inputs[::-1]):
                change = self.maker.get(self.origin(way))
                if change is None or change.op != "SUB" or self.origin(change.inputs[1]) != self.origin(a):
                    continue
                if self.readers(product.outputs[0]) == [op] and self.readers(change.outputs[0]) == [product]:
                    b = change.inputs[0]
                    return _State(op, (change.index, product.index, op.index), (self.origin(a), self.origin(b)), gate)
        return None

    def _weighed(self, op: OpInfo, products: list[OpInfo]) -> _State | None:
        """Returns what the sum of two products is a step of: of (1 - gate) * a and gate * b."""
        for one, other in (products, products[::-1]):
            for rest, a in (one.inputs, one.inputs[::-1]):
                left = self.maker.get(self.origin(rest))
                if left is None or left.op != "SUB":
                    continue
                gates = [n for n in other.inputs if self.origin(n) == self.origin(left.inputs[1])]
                if gates and left.inputs[0] not in self.maker:
                    b = next(n for n in other.inputs if n != gates[0])
                    parts = (left.index, one.index, other.index, op.index)
                    return _State(op, parts, (self.origin(a), self.origin(b)), gates[0])
        return None

    def _weights(self, gate: int) -> set[int]:
        """Returns the matrices that a gate is made with."""
        found: set[int] = set()
        left, seen = [gate], set()
        while left:
            n = left.pop()
            maker = self.maker.get(n)
            if maker is None or n in seen:
                continue
            seen.add(n)
            if maker.op == "FULLY_CONNECTED":
                found.add(maker.inputs[1])
            elif maker.op in _BETWEEN or maker.op in CONVERSIONS:
                left += maker.inputs
        return found

    def _products(self, op: OpInfo) -> list[OpInfo]:
        """Returns the two products that an operator adds and that nothing else reads; none where it is otherwise."""
        made = [self.maker.get(self.origin(n)) for n in op.inputs]
        products = [one for one in made if one is not None and one.op == "MUL"]
        if len({one.index for one in products}) != 2:  # noqa: PLR2004 - what is kept and what is added
            return []
        return products if all(self.readers(one.outputs[0]) == [op] for one in products) else []

    def _is_state(self, n: int, sums: dict[int, OpInfo]) -> bool:
        """Returns whether an activation is read by one tanh, and else by products in one of some sums only."""
        readers = self.readers(n)
        others = [op for op in readers if op.op != "TANH"]
        leads = all(op.op == "MUL" and self._leads_to(op, sums) for op in others)
        return len(readers) - len(others) == 1 and len(others) <= 1 and leads

    def _leads_to(self, product: OpInfo, sums: dict[int, OpInfo]) -> bool:
        readers = self.readers(product.outputs[0])
        return len(readers) == 1 and readers[0].index in sums

    def _next(self, n: int) -> list[OpInfo]:
        return [op for op in self.readers(n) if op.op == "MUL"]

    def _before(self, cell: OpInfo, sums: dict[int, OpInfo]) -> bool:
        """Returns whether one of a cell's products is of another cell."""
        return any(k in sums for k in self.makers(cell))

    def makers(self, cell: OpInfo) -> list[int]:
        """Returns the positions of the operators that make the factors of a cell's products."""
        return self.makers_of([n for product in self._products(cell) for n in product.inputs])

    def makers_of(self, tensors: Sequence[int]) -> list[int]:
        """Returns the positions of the operators that make some activations."""
        return [self.maker[n].index for n in map(self.origin, tensors) if n in self.maker]

    def _is_beginning(self, n: int, cell: OpInfo) -> bool:
        """Returns whether an activation is what a cell begins with: read as a cell is, but no sum of products."""
        made_as_cell = self.maker[n].op == "ADD" and bool(self._products(self.maker[n]))
        return not made_as_cell and self._is_state(n, {cell.index: cell}) and bool(self._next(n))
