"""Which estimator suits which activation: the one whose range changes the network's output least.

One range is tried at a time, all else in float: whether outliers may be cut off is a matter of what the network makes
of them behind that place, which no error of the activation itself tells.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from edgecompress.quantization.grids.ranges import INT8
from edgecompress.quantization.proof.effort import pass_cost
from edgecompress.quantization.proof.layers import first_use, outputs_by_range, walkable
from edgecompress.quantization.repairs.estimation import Range
from edgecompress.quantization.twin.twin import Twin

#: What the search may cost, in values computed: one or two minutes of one core.
EFFORT = 2e10
#: The outputs of so many samples decide; in large networks of fewer, and then the ranges on which estimators agree are
#: not tried.
MOST_SAMPLES, FEWEST_SAMPLES = 256, 16


def search_estimators(
    twin: Twin, batches: Sequence[torch.Tensor], options: Mapping[str, Mapping[int, Range]], default: str
) -> dict[int, str]:
    """Returns the estimator of each range group whose range, alone, leaves the least squared error at the output.

    Args:
        twin: In evaluation mode.
        batches: Network inputs to judge by, such as the validation split's.
        options: Estimator -> number of a range group -> its range.
        default: The estimator of groups that cannot be tried.
    """
    tries = _affordable(twin, _distinct(twin, options))
    count = sum(map(len, batches))
    cost = sum(len(ranges) * _share_behind(twin, k) for k, ranges in tries.items()) * pass_cost(twin)
    wanted = int(min(max(EFFORT / max(cost, 1.0), FEWEST_SAMPLES), MOST_SAMPLES, count))
    errors = {k: np.zeros(len(ranges)) for k, ranges in tries.items()}
    chosen = np.linspace(0, count - 1, wanted).round().astype(int)  # a source may be sorted by class
    for x in walkable(twin, _picked(batches, chosen)):
        _add_errors(twin, x, {k: list(ranges) for k, ranges in tries.items()}, errors)
    names = {k: list(ranges.values()) for k, ranges in tries.items()}
    return {k: names[k][int(errors[k].argmin())] if k in tries else default for k in dict.fromkeys(_groups_of(options))}


@torch.no_grad()
def _add_errors(
    twin: Twin, x: torch.Tensor, tries: Mapping[int, Sequence[Range]], errors: Mapping[int, np.ndarray]
) -> None:
    last = twin.group_of.get(twin.graph.output)
    limits = twin.groups[last].limits if last is not None else (-np.inf, np.inf)
    with twin.floating():
        reference = twin(x).double().clamp(*limits)  # what is cut off on purpose is no error
    for k, which, output in outputs_by_range(twin, x, tries):
        errors[k][which] += float((output.double().clamp(*limits) - reference).square().sum())


def _groups_of(options: Mapping[str, Mapping[int, Range]]) -> list[int]:
    return [k for ranges in options.values() for k in ranges]


def _distinct(twin: Twin, options: Mapping[str, Mapping[int, Range]]) -> dict[int, dict[Range, str]]:
    """Returns, for groups with a choice, the ranges that differ -> the first estimator that gives each."""
    found: dict[int, dict[Range, str]] = {}
    for name, ranges in options.items():
        for k, (low, high) in ranges.items():
            group = twin.groups[k]
            if not group.fixed and group.dtype == INT8:
                found.setdefault(k, {}).setdefault(group.cut(low, high), name)
    return {k: ranges for k, ranges in found.items() if len(ranges) > 1}


def _affordable(twin: Twin, tries: dict[int, dict[Range, str]]) -> dict[int, dict[Range, str]]:
    """Returns the groups that can be tried on FEWEST_SAMPLES; first come those on which estimators differ most."""
    left = EFFORT / (FEWEST_SAMPLES * pass_cost(twin))
    costs = {k: len(ranges) * _share_behind(twin, k) for k, ranges in tries.items()}
    order = sorted(tries, key=lambda k: (-_disagreement(list(tries[k])), k))
    kept = {k for k, total in zip(order, itertools.accumulate(costs[k] for k in order), strict=True) if total <= left}
    return {k: ranges for k, ranges in tries.items() if k in kept}


def _disagreement(ranges: Sequence[Range]) -> float:
    """Returns how many times as wide the widest of some ranges is as the narrowest."""
    widths = [high - low for low, high in ranges]
    return max(widths) / max(min(widths), 1e-12)


def _share_behind(twin: Twin, k: int) -> float:
    return 1.0 - first_use(twin, k) / len(twin.graph.nodes)


def _picked(batches: Sequence[torch.Tensor], chosen: np.ndarray) -> list[torch.Tensor]:
    """Returns the samples with some numbers, counted through all batches, batch by batch."""
    starts = [0, *itertools.accumulate(map(len, batches))]
    index = [chosen[(chosen >= low) & (chosen < high)] - low for low, high in itertools.pairwise(starts)]
    return [x[torch.from_numpy(rows)] for x, rows in zip(batches, index, strict=True) if len(rows)]
