"""The one place that knows torch-pruning, and what its dependency graph keeps private.

`Graph` (dependencies.py) changes how that graph is built, which takes names that torch-pruning may move in any minor
release; pyproject.toml therefore bounds it. tests/unit/pruning/coupling/test_library.py holds what is relied upon: that
each name is there, and does what it is used for.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from edgecompress.errors import ResourceError

try:
    from torch_pruning import DependencyGraph, ops
    from torch_pruning._helpers import _HybridIndex as Channel
    from torch_pruning.dependency import Dependency, Group, shape_infer
    from torch_pruning.dependency.index_mapping import _ConcatIndexMapping, _SplitIndexMapping
    from torch_pruning.dependency.node import Node
    from torch_pruning.pruner.function import prune_depthwise_conv_out_channels

    OutputOp = ops._OutputOp  # noqa: SLF001
    Kind = ops.OPTYPE
except (ImportError, AttributeError) as error:
    raise ResourceError(
        f"torch-pruning {importlib.metadata.version('torch-pruning')} is not one that structured pruning works with "
        f"({error}). Install it as pyproject.toml bounds it: pip install 'torch-pruning>=1.6.1,<1.7'"
    ) from error

__all__ = [
    "Channel", "Dependency", "DependencyGraph", "Group", "Kind", "Node", "OutputOp", "beginning", "channels_between",
    "channels_out_of", "concatenated", "group_of", "init_shapes", "parameter_name", "path_of",
    "prune_depthwise_conv_out_channels", "split",
]  # fmt: skip

#: A side of a layer (in a group), and its channels: number -> the root's channel that it goes with.
Side = tuple[Dependency, dict[int, int]]


def beginning(channels: Iterable[int]) -> list[Channel]:
    """Returns channels of a root, each one going with itself."""
    return [Channel(idx=one, root_idx=one) for one in channels]


def group_of(graph: DependencyGraph, sides: Iterable[Side]) -> Group:
    """Returns a group of these sides, in their order."""
    group = Group()
    group._DG = graph  # noqa: SLF001
    for dependency, channels in sides:
        group.add_dep(dependency, list(channels))
        # Set afterwards, since a new item forgets them.
        group[len(group) - 1].root_idxs = list(channels.values())
    return group


def split(first: int, end: int, *, reverse: bool) -> Any:
    """Returns what takes channels to the part [first, end) of a split, or back from it."""
    return _SplitIndexMapping([first, end], reverse=reverse)


def concatenated(first: int, end: int, *, reverse: bool) -> Any:
    """Returns what takes channels to their place [first, end) in a concatenation, or back from it."""
    return _ConcatIndexMapping([first, end], reverse=reverse)


def init_shapes(graph: DependencyGraph) -> None:
    """Notes the sizes of a traced graph's splits."""
    shape_infer.init_shape_information(graph)


def channels_between(graph: DependencyGraph, before: Node, node: Node) -> int | None:
    """Returns how many channels go from one operation to another, None where that is unknown."""
    found: int | None = shape_infer.infer_channels_between(graph, before, node)
    return found


def channels_out_of(graph: DependencyGraph, node: Node) -> int | None:
    """Returns how many channels come out of an operation, None where that is unknown."""
    found: int | None = shape_infer.infer_out_channels_recursively(graph, node, [0])
    return found


def parameter_name(graph: DependencyGraph, parameter: nn.Parameter) -> str | None:
    """Returns the path of a parameter that is no layer's own weight, None where it is none of the model's."""
    found: str | None = graph._param_to_name.get(parameter)  # noqa: SLF001
    return found


def path_of(nodes: Sequence[Node]) -> str:
    """Returns the path of the first of these operations that is a layer, "" where none is."""
    return next((str(node._name) for node in nodes if node._name), "")  # noqa: SLF001
