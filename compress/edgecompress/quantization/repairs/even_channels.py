"""Channels between a layer and a depthwise convolution, scaled so that each makes use of the range they share.

An activation has one range for all its channels, and small ones keep few of its steps. In front of a depthwise
convolution that can be mended for nothing: a channel of the first layer may be divided by any number and its filter in
the second multiplied by it (Nagel et al. 2019, arXiv 1906.04721, section 4.1), and as both have a scale per channel,
their weights round as before. ReLU6 lets a factor pass as long as the channel stays below 6.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from edgecompress.quantization.repairs.equalize import HOMOGENEOUS, Pair, divide_channels, find_pairs, fused_activation
from edgecompress.quantization.twin.twin import Twin

RELU6, CEILING = 3, 6.0
#: Channels grow by no more: other samples may reach further than those that were seen.
LARGEST_GROWTH = 8.0
#: Beside channels that reach the ceiling, others come this near to it at most.
MARGIN = 0.95


@torch.no_grad()
def even_out(twin: Twin, batches: Iterable[torch.Tensor]) -> int:
    """Scales such channels in place and returns between how many pairs of layers; ranges must be set anew.

    Args:
        twin: In evaluation mode.
        batches: Network inputs that tell how far each channel reaches.
    """
    pairs = [pair for pair in find_pairs(twin, HOMOGENEOUS | {RELU6}) if _is_free(twin, pair)]
    reach = _reach(twin, batches, pairs)
    for pair in pairs:
        divide_channels(twin, pair, _factors(reach[pair.first.index], ends_at_6=fused_activation(pair.first) == RELU6))
    return len(pairs)


def _is_free(twin: Twin, pair: Pair) -> bool:
    """Returns whether no weight rounds worse when a channel between two layers is scaled, and its values are known."""
    k = twin.group_of.get(pair.first.outputs[0])
    return (
        pair.second.op == "DEPTHWISE_CONV_2D"
        and all(len(twin.graph.tensors[node.inputs[1]].scale) > 1 for node in (pair.first, pair.second))
        and k is not None
        and twin.groups[k].observed == (pair.first.outputs[0],)
    )


def _reach(twin: Twin, batches: Iterable[torch.Tensor], pairs: list[Pair]) -> dict[int, torch.Tensor]:
    """Returns the largest magnitude of each channel of the first layers' outputs in the float model, by node index."""
    firsts = {twin.group_of[pair.first.outputs[0]]: pair.first.index for pair in pairs}
    found: dict[int, torch.Tensor] = {}

    def record(k: int, x: torch.Tensor) -> None:
        if k in firsts:
            most = x.abs().reshape(-1, x.shape[-1]).amax(0)
            index = firsts[k]
            found[index] = torch.maximum(found[index], most) if index in found else most

    twin.observe(batches, record)
    return found


def _factors(reach: torch.Tensor, *, ends_at_6: bool) -> torch.Tensor:
    """Returns what channels that reach so far are divided by: 1 where a channel is cut off, or has no values at all."""
    most = float(reach.max())
    cut_off = reach >= CEILING if ends_at_6 else torch.zeros_like(reach, dtype=torch.bool)
    goal = MARGIN * CEILING if bool(cut_off.any()) else most
    factors = (reach / max(goal, torch.finfo(reach.dtype).tiny)).clamp(1.0 / LARGEST_GROWTH, 1.0)
    return torch.where(cut_off | (reach == 0.0), torch.ones_like(factors), factors)
