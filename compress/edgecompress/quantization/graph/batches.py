"""Several samples through a graph that was made for one.

Most graphs compute any number of samples along axis 0, which is the fastest way. Others mix that axis with the rest:
they reshape one sample's rows into it, or reduce over it. Their operators are mapped over the samples one by one.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import torch

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.ops import OPS


class Way(Enum):
    """How a batch goes through a graph."""

    #: Along axis 0 of every tensor.
    TOGETHER = "together"
    #: Stacked along a new first axis, over which every operator is mapped.
    STACKED = "stacked"
    #: Sample by sample.
    ALONE = "alone"


class Run(Protocol):
    """A pass through the graph."""

    def __call__(self, x: torch.Tensor, *, stacked: bool = False) -> torch.Tensor:
        """Returns the outputs for (N, ...) inputs, or for (N, 1, ...) ones where they are stacked."""


#: What torch raises where shapes do not go together.
FAILURES = (RuntimeError, IndexError, ValueError)
#: Two ways give the same where they differ by less than this share of the largest output: bfloat16 rounds otherwise.
_SAME = 2e-2


def compute(node: Node, arguments: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Returns an operator's outputs, in float arithmetic."""
    if node.foreign is not None:
        return node.foreign(node, arguments)
    result = OPS[node.op](node, arguments)
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def compute_each(node: Node, arguments: list[torch.Tensor], each: list[bool]) -> tuple[torch.Tensor, ...]:
    """Returns the same for each sample by itself, stacked along axis 0.

    Args:
        node: The operator.
        arguments: Its inputs.
        each: For each of them whether axis 0 counts samples; the others are the same for all samples.
    """
    places = [place for place, counts in enumerate(each) if counts]
    if node.foreign is not None:  # knows nothing of vmap
        pairs = list(zip(arguments, each, strict=True))
        found = [
            compute(node, [x[k] if counts else x for x, counts in pairs]) for k in range(len(arguments[places[0]]))
        ]
        return tuple(map(torch.stack, zip(*found, strict=True)))

    def one(*samples: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Shapes and axes are read as numbers, so they must not be seen by vmap.
        given = list(arguments)
        for place, sample in zip(places, samples, strict=True):
            given[place] = sample
        return compute(node, given)

    outputs: tuple[torch.Tensor, ...] = torch.vmap(one)(*(arguments[place] for place in places))
    return outputs


def broadcast_alike(arguments: list[torch.Tensor], each: list[bool] | None) -> bool:
    """Returns whether samples that are stacked broadcast as each does alone: no axis is added in front of one's own.

    Args:
        arguments: An operator's inputs.
        each: As `compute_each` takes it; None where nothing is stacked.
    """
    if each is None:
        return True
    ranks = [x.ndim - counts for x, counts in zip(arguments, each, strict=True)]
    return all(rank == max(ranks) for rank, counts in zip(ranks, each, strict=True) if counts)


def run_batch(run: Run, x: torch.Tensor, way: Way) -> torch.Tensor:
    """Returns the outputs of several samples."""
    if way is Way.TOGETHER:
        return run(x)
    if way is Way.STACKED:
        return run(x[:, None], stacked=True).flatten(0, 1)
    return torch.cat([run(sample[None]) for sample in x])


def find_way(run: Run, pair: torch.Tensor) -> Way:
    """Returns the fastest way that gives two samples the outputs they have alone."""
    alone = run_batch(run, pair, Way.ALONE)
    limit = _SAME * (float(alone.abs().max()) + 1e-6)
    for way in (Way.TOGETHER, Way.STACKED):
        try:
            outputs = run_batch(run, pair, way)
        except FAILURES:
            continue
        if outputs.shape == alone.shape and float((outputs - alone).abs().max()) < limit:
            return way
    return Way.ALONE
