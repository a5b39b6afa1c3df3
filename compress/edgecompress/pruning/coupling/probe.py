"""Does a model still compute the same with channels cut out? Tried on copies, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channel_graph import clone, run
from edgecompress.pruning.coupling.channels import Root, holders, is_depthwise, placed
from edgecompress.pruning.coupling.cut import cut
from edgecompress.pruning.recurrent import RECURRENT, silence_units

#: Largest difference, relative to the outputs' size, between a cut model and one with the same channels at zero.
TOLERANCE = 1e-3
#: Layers that treat channels one by one, so that a channel of zeros is the same as none.
SLICED = (_ConvNd, nn.Linear, _BatchNorm, nn.PReLU)
CHANNELWISE = (*SLICED, *RECURRENT)

Removals = Mapping[str, Sequence[int]]


def broken_roots(
    model: nn.Module, example: torch.Tensor, roots: Sequence[Root], removals: Removals
) -> tuple[dict[str, str], set[str]]:
    """Returns the roots whose channels cannot go -> why, and those that can if attributes follow their widths.

    What is left has been tried together. Where a trial fails the roots are halved until the broken ones are found.

    Args:
        model: Left as it is.
        example: Gives the shape of the input; the values are drawn here.
        roots: What might be cut.
        removals: Path of each root -> channels to cut for the trial.
    """
    sample = example
    if example.is_floating_point():
        sample = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    good: list[Root] = []
    broken: dict[str, str] = {}
    following: set[str] = set()

    def settle(suspects: list[Root]) -> None:
        reason = _trial(model, sample, [*good, *suspects], removals)
        if not reason:
            good.extend(suspects)
        elif len(suspects) > 1:
            middle = len(suspects) // 2
            settle(suspects[:middle])
            settle(suspects[middle:])
        else:
            (root,) = suspects
            other = replace(root, attributes=holders(model, root))
            if other.attributes and not _trial(model, sample, [*good, other], removals):
                good.append(other)
                following.add(root.name)
            else:
                broken[root.name] = reason

    # Apart, since the outputs of layers that treat channels one by one are compared as well.
    alone = [_channelwise(model, root) for root in roots]
    for kind in (True, False):
        some = [root for root, one in zip(roots, alone, strict=True) if one is kind]
        if some:
            settle(some)
    return broken, following


def _trial(model: nn.Module, sample: torch.Tensor, roots: Sequence[Root], removals: Removals) -> str:
    pruned = clone(model)
    compare = all(_channelwise(model, root) for root in roots)
    silent = clone(model) if compare else model
    if compare:
        _silence(placed(silent, roots), removals)
    expected = run(silent, sample)
    try:
        cut(pruned, roots, {root.name: removals[root.name] for root in roots})
        actual = run(pruned, sample)
    except ModelError as error:
        return f"the model does not run without some of its channels ({error.__cause__})"
    if [item.shape for item in actual] != [item.shape for item in expected]:
        return "without some of its channels the model's output has another shape"
    for one, other in zip(actual, expected, strict=True):
        if compare and float((one - other).abs().max()) > TOLERANCE * max(float(other.abs().max()), 1e-6):
            return "its channels change places or are mixed on the way to the next layer"
    return ""


def _channelwise(model: nn.Module, root: Root) -> bool:
    """Says whether all layers of a root treat channels one by one."""
    for item in root.coupled:
        if isinstance(item.target, nn.Parameter):
            # Norms without a class of their own here are known by their weights.
            if hasattr(model.get_submodule(item.name.rpartition(".")[0]), "normalized_shape"):
                return False
        elif isinstance(item.target, nn.Module) and not isinstance(item.target, CHANNELWISE):
            return False
    return True


@torch.no_grad()
def _silence(roots: Iterable[Root], removals: Removals) -> None:
    """Sets to zero, in place, every weight that cutting would remove."""
    for root in roots:
        gone = set(removals.get(root.name, ()))
        for item in root.coupled:
            channels = [channel for channel, origin in zip(item.channels, item.roots, strict=True) if origin in gone]
            target = item.target
            if isinstance(target, RECURRENT):
                silence_units(target, item.axis, channels)
            elif isinstance(target, _ConvNd | nn.Linear) and item.axis == "in" and not is_depthwise(target):
                _silence_inputs(target, channels)
            elif isinstance(target, SLICED) and target.weight is not None:
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
