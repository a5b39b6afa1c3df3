"""torch-pruning's dependency graph of a model, with what it does not understand cut out instead of guessed at.

torch-pruning follows channels through a reshape as if nothing happened to them. Where they are divided or change
places (channel shuffles, attention heads, windows) that is wrong, or it fails. Here such a reshape is an end: the
layers before it must keep their width, and what comes behind it begins anew.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from edgecompress.pruning.coupling import library
from edgecompress.pruning.coupling.branches import switched_on
from edgecompress.pruning.coupling.channels import is_depthwise
from edgecompress.pruning.coupling.library import Channel, Dependency, Group, Kind, Node

#: Channels that an operation without a width of its own may have.
MOST_CHANNELS = 1 << 16

#: Autograd keeps an axis counted from the end as this number less than it.
FROM_THE_END = 2**64


class Barrier(library.OutputOp):  # type: ignore[misc]
    """An end for channels, where they are rearranged.

    Attributes:
        what: The operation, as a report names it.
    """

    def __init__(self, what: str) -> None:
        """Takes the operation."""
        super().__init__(id=-1, shape=[])
        self.what = what


class Graph(library.DependencyGraph):  # type: ignore[misc]
    """A dependency graph whose channels end at operations that rearrange them."""

    def __init__(self, branches: Sequence[nn.Module] = (), *, careful: bool) -> None:
        """Prepares a graph.

        Args:
            branches: Modules that turn on branches in training; these are traced too.
            careful: Whether channels also end at operations that torch-pruning mostly, but not always, understands.
        """
        super().__init__()
        self._branches = branches
        self._careful = careful
        #: Split -> the channels in each of its parts.
        self.parts: dict[Any, list[int]] = {}
        self._attention: list[tuple[nn.Module, list[Any]]] = []

    def get_pruning_group(self, module: nn.Module, pruning_fn: Any, idxs: Sequence[int]) -> Group:
        """Returns all that goes with some channels of a layer: each side of each layer once, with all its channels.

        torch-pruning's own search looks at a side anew for each list of channels, which has no end where a way back to
        it moves them. Here a channel of a side is looked at once; and channels beyond those that a layer has, a sign
        that they were not followed rightly, lead no further.
        """
        if is_depthwise(module):
            pruning_fn = library.prune_depthwise_conv_out_channels
        root = self.module2node[module]
        first = Dependency(pruning_fn, pruning_fn, source=root, target=root)
        found: dict[tuple[Node, Any], tuple[Dependency, dict[int, int]]] = {}
        waiting: list[tuple[Dependency, list[Channel]]] = [(first, library.beginning(idxs))]
        while waiting:
            dependency, channels = waiting.pop()
            _, known = found.setdefault((dependency.target, dependency.handler), (dependency, {}))
            new = [one for one in channels if one.idx not in known]
            known.update((one.idx, one.root_idx) for one in reversed(new))
            most = self.get_out_channels(dependency.target) if dependency is not first else None
            into = self.get_in_channels(dependency.target) if dependency is not first else None
            limit = max(most or 0, into or 0) or MOST_CHANNELS
            new = [one for one in new if one.idx < limit]
            for onward in dependency.target.dependencies if new else ():
                if onward.is_triggered_by(dependency.handler):
                    there = new
                    for mapping in onward.index_mapping:
                        there = there if mapping is None else mapping(there)
                    if there:
                        waiting.append((onward, there))
        return library.group_of(self, found.values())

    def build_dependency(self, *args: Any, **more: Any) -> Graph:
        """Traces a model, as torch-pruning does."""
        super().build_dependency(*args, **more)
        for node in self.module2node.values():
            if node.module in self.parts and node.type == Kind.SPLIT:
                self._map_split(node)
        return self

    def _read_split(self, node: Node) -> None:
        """Finds out the parts of a split; one that leaves all channels in each of them is none of channels."""
        split = node.grad_fn
        shape = tuple(map(int, split._saved_self_sym_sizes))  # noqa: SLF001
        along = int(split._saved_dim)  # noqa: SLF001
        along = along - FROM_THE_END + len(shape) if along >= len(shape) else along
        channels = _channels(self, node)
        if channels not in (None, shape[along]) and len(shape) > len(("sample", "channel")):
            node.type = Kind.ELEMENTWISE
            return
        known = all(_parts_taken(consumer, split) for consumer in node.outputs)
        if known and along in (1, len(shape) - 1) and channels in (None, shape[along]):
            sizes = getattr(split, "_saved_split_sizes", None)
            if sizes is None:
                size = int(split._saved_split_size)  # noqa: SLF001
                sizes = [min(size, shape[along] - start) for start in range(0, shape[along], size)]
            self.parts[node.module] = [int(one) for one in sizes]
            # One size for each consumer is what torch-pruning expects.
            node.outputs.sort(key=lambda consumer: min(_parts_taken(consumer, split)))
            node.module.split_sizes = [self.parts[node.module][min(_parts_taken(c, split))] for c in node.outputs]

    def _map_split(self, node: Node) -> None:
        """Tells which part of a split goes where; torch-pruning takes the n-th consumer for that of the n-th part."""
        sizes = self.parts[node.module]
        for consumer in set(node.outputs):
            for number, part in enumerate(_parts_taken(consumer, node.grad_fn)):
                place = sum(sizes[:part]), sum(sizes[: part + 1])
                for source, target, reverse in ((node, consumer, False), (consumer, node, True)):
                    edges = [edge for edge in source.dependencies if edge.target is target]
                    edges[number].index_mapping[0] = library.split(*place, reverse=reverse)

    def _trace(self, model: nn.Module, *args: Any, **more: Any) -> dict[Any, Node]:
        # torch-pruning puts the whole model into evaluation mode first; so the switch comes with the forward pass.
        with self._watched(model), contextlib.ExitStack() as stack:
            hook = model.register_forward_pre_hook(lambda *_: stack.enter_context(switched_on(self._branches)) and None)
            stack.callback(hook.remove)
            traced: dict[Any, Node] = super()._trace(model, *args, **more)
        return traced

    def _build_dependency(self, module2node: dict[Any, Node]) -> None:
        nodes = list(module2node.values())
        for node in nodes:
            _pass_rows(node)
        library.init_shapes(self)
        for node in nodes:
            if node.type == Kind.SPLIT:
                self._read_split(node)
        inner = self._inside_attention(module2node)
        barriers = [(node, what) for node in nodes if node not in inner and (what := self._barrier(node))]
        for node, what in barriers:
            _interrupt(node, what)
        super()._build_dependency(module2node)
        for node in nodes:
            self._map_concatenation(node)

    def _map_concatenation(self, node: Node) -> None:
        """Tells how the channels of a concatenation lie in it.

        torch-pruning compares them with the inputs of what follows, and where that is a linear layer that takes several
        places of each channel it believes that something else was concatenated.
        """
        shape = _output_shape(node)
        along = getattr(node.grad_fn, "_saved_dim", None)
        if node.type != Kind.CONCAT or along != 1 or shape is None or not node.enable_index_mapping:
            return
        sizes = [library.channels_between(self, before, node) for before in node.inputs]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes) or sum(known) != shape[1]:
            return
        for k, before in enumerate(node.inputs):
            place = sum(known[:k]), sum(known[: k + 1])
            # The same tensor can be in it twice; each of its edges has its own place.
            number = sum(one is before for one in node.inputs[:k])
            for source, target, reverse in ((node, before, True), (before, node, False)):
                edges = [edge for edge in source.dependencies if edge.target is target]
                edges[number].index_mapping[1] = library.concatenated(*place, reverse=reverse)

    def _barrier(self, node: Node) -> str:
        """Returns what an operation does to channels that cannot be followed, "" where they can be."""
        if node.type == Kind.RESHAPE:
            before, after = _sizes(node)
            if before is None or after is None:
                return ""
            channels = None if self._careful else _channels(self, node)
            if not _keeps_channels(before, after, channels):
                return f"a reshape of {list(before[1:])} to {list(after[1:])}"
        elif node.type == Kind.SPLIT and node.module not in self.parts:
            return "a split whose parts are not told apart"
        elif self._careful and node.type in (Kind.UNBIND, Kind.EXPAND, Kind.SLICE):
            return f"{Kind(node.type).name.lower()}"
        return ""

    @contextlib.contextmanager
    def _watched(self, model: nn.Module) -> Iterator[None]:
        """Notes what goes into each attention layer."""

        def note(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            given = [*inputs, *named.values()]
            self._attention.append((module, [value.grad_fn for value in given if hasattr(value, "grad_fn")]))

        hooks = [
            module.register_forward_pre_hook(note, with_kwargs=True)
            for module in model.modules()
            if isinstance(module, nn.MultiheadAttention)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _inside_attention(self, module2node: dict[Any, Node]) -> set[Node]:
        """Returns the operations that attention layers are made of: their reshapes are the layers' own business."""
        inside: set[Node] = set()
        for module, given in self._attention:
            last = module2node.get(module)
            waiting = list(last.inputs) if last is not None else []
            while waiting:
                node = waiting.pop()
                if node not in inside and not any(node.grad_fn is one for one in given):
                    inside.add(node)
                    waiting += node.inputs
        return inside


def _parts_taken(consumer: Node, split: Any) -> list[int]:
    """Returns the numbers of the parts that an operation takes of a split; none where they are not to be seen."""
    return [int(number) for origin, number in getattr(consumer.grad_fn, "next_functions", ()) if origin is split]


def _pass_rows(node: Node) -> None:
    """Lets channels pass a slice along the first axis of a matrix, which torch-pruning takes for one of channels."""
    if node.type == Kind.SLICE:
        sizes = getattr(node.grad_fn, "_saved_self_sym_sizes", ())
        if len(sizes) == len(("rows", "columns")) and node.grad_fn._saved_dim in (0, FROM_THE_END - 2):  # noqa: SLF001
            node.type = Kind.ELEMENTWISE


def _interrupt(node: Node, what: str) -> None:
    """Lets the channels before an operation end there; those behind it have no beginning."""
    end = Node(Barrier(what), node.grad_fn)
    for before in node.inputs:
        before.outputs = [end if one is node else one for one in before.outputs]
    end.inputs, node.inputs = node.inputs, []


def _sizes(node: Node) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Returns the shapes before and after a reshape, None where autograd has not kept them."""
    before = getattr(node.grad_fn, "_saved_self_sym_sizes", None)
    return before and tuple(map(int, before)), _output_shape(node)


def _output_shape(node: Node) -> tuple[int, ...] | None:
    kept = getattr(node.grad_fn, "_input_metadata", None)
    return tuple(map(int, kept[0].shape)) if kept else None


def _channels(graph: Graph, node: Node) -> int | None:
    """Returns how many channels come into an operation, None where that is unknown."""
    for before in node.inputs:
        found = library.channels_out_of(graph, before)
        if found is not None:
            return found
    return None


def _keeps_channels(before: Sequence[int], after: Sequence[int], channels: int | None) -> bool:
    """Says whether a reshape leaves channels one beside the other, as one axis or with their places behind them."""
    flat = tuple(after) == (before[0], math.prod(before[1:]))
    first = len(before) > 1 and len(after) > 1 and before[1] == after[1]
    last = before[-1] == after[-1]
    if channels is None:
        return flat or first or (last and min(len(before), len(after)) < 4)  # noqa: PLR2004 - pictures have four axes
    in_front, behind = len(before) > 1 and before[1] == channels, before[-1] == channels
    if not in_front and not behind:
        return True  # something else has the channels, or they are flat already
    return flat or (in_front and first) or (behind and last)
