"""Layer norms, RMS norms and the sums they read: which operators of a flatbuffer they are.

In BERT-like networks single channels of single tokens are a hundred times larger than all else, on the way from sum to
sum. The squares within a norm, and the variances of its tokens, then span more than 256 steps can hold. These operators
multiply by no matrix, so a wider type costs little there.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.graph.graph import Graph, Node, read_graph
from edgecompress.quantization.structure.scheme import FloatPart
from edgecompress.tflite.format.views import CONVERSIONS

#: What a norm is made of between its input and its reciprocal root, and between that and its output.
_INNER = frozenset({"ADD", "DIV", "MEAN", "MUL", "RESHAPE", "SQUARE", "SQUARED_DIFFERENCE", "SUB", "SUM"})
_OUTER = frozenset({"ADD", "DIV", "MUL", "RESHAPE", "SUB"})
_MEANS = frozenset({"MEAN", "SUM"})


def find_norms(graph: Graph) -> FloatPart:
    """Returns a graph's norms over channels, by their paths, and the sums of two activations that they read, by name.

    A norm is recognised by the root of a mean of squares of what it divides: x / sqrt(mean((x - m)^2) + eps), with or
    without the mean m, as torch's LayerNorm and RMSNorm become. Batch norms are part of the weights and not found.
    """
    search = _Search(graph)
    layers: dict[int, str] = {}
    sums: set[int] = set()
    for root in graph.nodes:
        source, before = search.before(root) if root.op == "RSQRT" else (None, set[int]())
        if source is not None:
            # The root's label is its module's path and its own name; others may be fused with what follows.
            path = root.label.rpartition(".")[0] or root.label
            layers |= dict.fromkeys({root.index, *before, *search.behind(root, source, before)}, path)
            sums |= search.sums(source)
    layers = {k: graph.nodes[k].label for k in sums} | layers
    found = sorted(layers)
    names = tuple(graph.tensors[graph.nodes[k].outputs[0]].name for k in found)
    return FloatPart(frozenset(found), names, tuple(dict.fromkeys(layers[k] for k in found)))


def norm_operators(model: schema.ModelT, labels: list[str]) -> frozenset[int]:
    """Returns the positions of a flatbuffer's norms, the sums they read, and the conversions right before and behind.

    Args:
        model: The flatbuffer, unpacked.
        labels: A unique layer name per operator.

    Raises:
        ModelError: The flatbuffer has more than one subgraph, input or output.
    """
    graph = read_graph(model, labels)
    return find_norms(graph).with_conversions(graph.nodes)


def _twice_the_same(read: list[int]) -> bool:
    return len(read) > 1 and len(set(read)) == 1


class _Search:
    """A graph with what makes and what reads each of its activations."""

    def __init__(self, graph: Graph) -> None:
        """Takes the graph."""
        self.graph = graph
        self.maker = {n: node for node in graph.nodes for n in node.outputs}

    def activations(self, node: Node) -> list[int]:
        """Returns the inputs of a node that are no constants."""
        return [n for n in node.inputs if n >= 0 and self.graph.tensors[n].constant is None]

    def origin(self, n: int) -> int:
        """Returns the activation that another one holds the values of, in another shape or type."""
        while n in self.maker and self.maker[n].op in {"RESHAPE", *CONVERSIONS}:
            n = self.maker[n].inputs[0]
        return n

    def before(self, root: Node) -> tuple[int | None, set[int]]:
        """Returns what a reciprocal root's norm reads, and the operators from there to the root.

        (None, empty) where it is no root of a mean of squares.
        """
        squared = self._squared(root)
        if squared is None:
            return None, set()
        read = [self.origin(n) for n in self.activations(squared)]
        if squared.op == "SQUARED_DIFFERENCE":
            source = next((n for n in read if not self._is_mean(n)), None)
        else:  # x * x, or (x - m) * (x - m)
            made = self.maker.get(read[0])
            centred = made is not None and made.op == "SUB" and self._is_mean(self.origin(made.inputs[1]))
            source = self.origin(made.inputs[0]) if made is not None and centred else read[0]
        return (None, set()) if source is None else (source, self._way_to(source, root))

    def _squared(self, root: Node) -> Node | None:
        """Returns the operator whose squares a root is the mean of."""
        n = self.origin(root.inputs[0])
        averaged = False
        while n in self.maker:
            node = self.maker[n]
            read = self.activations(node)
            if node.op in _MEANS:
                averaged = True
            elif node.op in ("SQUARE", "SQUARED_DIFFERENCE") or (node.op == "MUL" and _twice_the_same(read)):
                return node if averaged else None
            elif node.op not in ("ADD", "MUL", "DIV") or len(read) != 1:  # + eps, / n
                return None
            n = self.origin(read[0])
        return None

    def _is_mean(self, n: int) -> bool:
        return n in self.maker and self.maker[n].op in _MEANS

    def _way_to(self, source: int, root: Node) -> set[int]:
        """Returns the operators between a norm's input and its root."""
        found: set[int] = set()
        waiting = [root]
        while waiting:
            for n in self.activations(waiting.pop()):
                node = self.maker.get(n)
                if self.origin(n) != source and node is not None and node.op in _INNER and node.index not in found:
                    found.add(node.index)
                    waiting.append(node)
        return found

    def behind(self, root: Node, source: int, before: set[int]) -> set[int]:
        """Returns the operators from a root to its norm's output: all they read is the norm's own, or constant."""
        own = {source, *root.outputs, *(n for k in before for n in self.graph.nodes[k].outputs)}
        found: set[int] = set()
        for node in self.graph.nodes:
            read = self.activations(node)
            if node.index in before or node.index == root.index or node.op not in _OUTER or not read:
                continue
            scaled = set(root.outputs) | {n for k in found for n in self.graph.nodes[k].outputs}
            if scaled & set(read) and all(n in own or self.origin(n) in own for n in read):
                found.add(node.index)
                own.update(node.outputs)
        return found

    def sums(self, n: int) -> set[int]:
        """Returns the additions of which an activation is the last one, each of them one of what the next one reads."""
        found: set[int] = set()
        waiting = [n]
        while waiting:
            node = self.maker.get(self.origin(waiting.pop()))
            if node is not None and node.op == "ADD" and node.index not in found:
                found.add(node.index)
                waiting.extend(self.activations(node))
        return found
