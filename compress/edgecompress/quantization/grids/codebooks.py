"""Few values per weight tensor: the codebook that fits a tensor best, and weights drawn from one.

Scales stay one per output channel; what is clustered is the integer that a weight becomes, over the whole tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.quantization.graph.graph import Graph


def best_codes(codes: NDArray[np.integer[Any]], limit: int) -> NDArray[np.int64]:
    """Returns the at most `limit` integers, zero among them, with the least squared distance from `codes`, ascending.

    In one dimension clusters are intervals, so dynamic programming over the at most 255 integers finds the optimum of
    k-means (Wang & Song 2011, Ckmeans.1d.dp). The interval that holds zero is represented by zero: pruned weights stay
    zero.

    Args:
        codes: The integers of a weight tensor, any shape.
        limit: Two or more.
    """
    values, counts = np.unique(np.append(codes, 0), return_counts=True)
    counts[values == 0] -= 1
    if len(values) <= limit:
        return values.astype(np.int64)
    cost, centers = _intervals(values.astype(np.float64), counts.astype(np.float64))
    best, cuts = cost[0], []
    for _ in range(limit - 1):
        total = best[:-1, None] + cost[1:]
        cuts.append(total.argmin(0) + 1)
        best = total.min(0)
    chosen, end = [], len(values) - 1
    for cut in reversed(cuts):
        start = int(cut[end])
        chosen.append(centers[start, end])
        end = start - 1
    return np.array([centers[0, end], *reversed(chosen)], np.int64)


def _intervals(values: NDArray[np.float64], counts: NDArray[np.float64]) -> tuple[Any, Any]:
    """Returns squared error and representative integer of each interval of values [first, last]; infinite if empty."""
    number, first, second = (
        np.concatenate([[0.0], np.cumsum(counts * values**power)]) for power in range(3)
    )  # moments up to each value
    n, s, q = (moment[None, 1:] - moment[:-1, None] for moment in (number, first, second))
    centers = np.rint(s / np.maximum(n, 1.0))
    zero = int(np.flatnonzero(values == 0)[0])
    centers[: zero + 1, zero:] = 0.0
    cost = q - 2.0 * centers * s + centers**2 * n
    cost[np.tril_indices(len(values), -1)] = np.inf
    return cost, centers


def fake_clustered(weight: torch.Tensor, scale: torch.Tensor, axis: int, codebook: torch.Tensor) -> torch.Tensor:
    """Returns the weight with each value moved to the nearest of the codebook's; gradients pass straight through."""
    codes = codebook.to(weight)
    places = torch.bucketize(weight_steps(weight, scale, axis), (codes[1:] + codes[:-1]) / 2)
    return codes[places] * _laid_out(scale, axis, weight.ndim) + (weight - weight.detach())


def weight_steps(weight: torch.Tensor, scale: torch.Tensor, axis: int) -> torch.Tensor:
    """Returns a weight in steps of its scales, one or one per place of `axis`, not yet rounded."""
    return weight.detach() / _laid_out(scale, axis, weight.ndim)


def _laid_out(scale: torch.Tensor, axis: int, rank: int) -> torch.Tensor:
    return scale.reshape([-1 if d == axis and len(scale) > 1 else 1 for d in range(rank)])


def codebooks_as_json(graph: Graph, codebooks: Mapping[int, torch.Tensor]) -> list[dict[str, Any]]:
    """Returns codebooks as plain JSON values, named by their tensor."""
    return [
        {"tensor": graph.tensors[n].name, "codes": [int(code) for code in codes]}
        for n, codes in sorted(codebooks.items())
    ]


def restore_codebooks(graph: Graph, entries: list[dict[str, Any]]) -> dict[int, torch.Tensor]:
    """Returns the codebooks among entries that `codebooks_as_json` gave; others, such as ranges, are passed over."""
    found = {entry["tensor"]: entry["codes"] for entry in entries if "codes" in entry}
    return {n: torch.tensor(found[t.name]).float() for n, t in enumerate(graph.tensors) if t.name in found}
