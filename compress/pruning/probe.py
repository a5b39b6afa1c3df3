"""Does a model still compute the same with channels cut out? Tried on copies, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from compress.errors import ModelError
from compress.pruning.channels import Root, is_depthwise
from compress.pruning.graph import ChannelGraph, clone, run

#: Largest difference, relative to the outputs' size, between a cut model and one with the same channels at zero.
TOLERANCE = 1e-3
#: Layers that treat channels one by one, so that a channel of zeros is the same as none.
CHANNELWISE = (_ConvNd, nn.Linear, _BatchNorm, nn.PReLU)

Removals = Mapping[str, Sequence[int]]


def broken_roots(
    model: nn.Module, example: torch.Tensor, protected: Iterable[str], roots: Sequence[Root], removals: Removals
) -> dict[str, str]:
    """Returns the roots whose channels cannot go -> why.

    Cuts all of them on a copy; only where that fails, each on a copy of its own.

    Args:
        model: Left as it is.
        example: Gives the shape of the input; the values are drawn here.
        protected: As the graph takes it.
        roots: What might be cut.
        removals: Path of each root -> channels to cut for the trial.
    """
    protected = tuple(protected)
    sample = example
    if example.is_floating_point():
        sample = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)

    def trial(some: Sequence[Root]) -> str:
        chosen = {root.name: removals[root.name] for root in some}
        return _trial(model, sample, protected, chosen, compare=all(_channelwise(root) for root in some))

    channelwise = [root for root in roots if _channelwise(root)]
    if not trial(roots) and (len(channelwise) == len(roots) or not trial(channelwise)):
        return {}
    reasons = {root.name: trial([root]) for root in roots}
    return {name: reason for name, reason in reasons.items() if reason}


def _trial(
    model: nn.Module, sample: torch.Tensor, protected: Sequence[str], removals: Removals, *, compare: bool
) -> str:
    cut, silent = clone(model), clone(model)
    _silence(ChannelGraph(silent, sample, protected), removals)
    expected = run(silent, sample)
    try:
        ChannelGraph(cut, sample, protected).remove(removals)
        actual = run(cut, sample)
    except ModelError as error:
        return f"the model does not run without some of its channels ({error.__cause__})"
    if [item.shape for item in actual] != [item.shape for item in expected]:
        return "without some of its channels the model's output has another shape"
    for one, other in zip(actual, expected, strict=True):
        if compare and float((one - other).abs().max()) > TOLERANCE * max(float(other.abs().max()), 1e-6):
            return "its channels change places or are mixed on the way to the next layer"
    return ""


def _channelwise(root: Root) -> bool:
    return all(isinstance(item.target, CHANNELWISE) or not isinstance(item.target, nn.Module) for item in root.coupled)


@torch.no_grad()
def _silence(graph: ChannelGraph, removals: Removals) -> None:
    """Sets to zero, in place, every weight that cutting would remove."""
    for root in graph.roots:
        gone = set(removals.get(root.name, ()))
        for item in root.coupled:
            channels = [channel for channel, origin in zip(item.channels, item.roots, strict=True) if origin in gone]
            target = item.target
            if isinstance(target, _ConvNd | nn.Linear) and item.axis == "in" and not is_depthwise(target):
                _silence_inputs(target, channels)
            elif isinstance(target, CHANNELWISE) and target.weight is not None:
                transposed = isinstance(target, _ConvTransposeNd)
                # A PReLU with one weight for all channels keeps it.
                if not isinstance(target, nn.PReLU):
                    target.weight.index_fill_(1 if transposed else 0, _index(channels, target.weight), 0.0)
                bias = getattr(target, "bias", None)
                if bias is not None:
                    bias.index_fill_(0, _index(channels, bias), 0.0)


def _silence_inputs(layer: _ConvNd | nn.Linear, channels: Sequence[int]) -> None:
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        axis = 0 if isinstance(layer, _ConvTransposeNd) else 1
        layer.weight.index_fill_(axis, _index(channels, layer.weight), 0.0)
        return
    size, rows = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for channel in channels:
        group, column = divmod(channel, size)
        layer.weight[group * rows : (group + 1) * rows, column] = 0.0


def _index(channels: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(list(channels), dtype=torch.long, device=like.device)
