"""Channels are cut out of layers: plain slicing, for which no pruning library is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channels import Root, is_depthwise
from edgecompress.pruning.recurrent import RECURRENT, cut_features, cut_units, units_of

#: What slicing raises where channels and tensors do not fit.
FAILURES = (RuntimeError, ValueError, TypeError, LookupError)

#: (path of a module, side) -> channels, ascending. Sides are `out`, `in`, or a parameter's name, a colon and an axis.
Channels = dict[tuple[str, str], list[int]]


def cut(model: nn.Module, roots: Iterable[Root], removals: Mapping[str, Sequence[int]]) -> Channels:
    """Cuts channels and all that is coupled to them out of a model, in place.

    Args:
        model: What the roots were read from, or a copy of it.
        roots: Of the graph.
        removals: Path of a root -> its channels to remove.

    Returns:
        The channels that were kept of each side of each layer that lost any.

    Raises:
        ModelError: A layer does not fit what the roots say of it; the model is then of no use.
        ValueError: `removals` names something else than a root.
    """
    roots = list(roots)
    strangers = {name for name, channels in removals.items() if channels} - {root.name for root in roots}
    if strangers:
        raise ValueError(f"{min(strangers)} is none of the roots that can be cut")
    kept: Channels = {}
    gone: dict[tuple[str, str], set[int]] = {}
    because: dict[tuple[str, str], str] = {}
    for root in roots:
        wanted = set(removals.get(root.name, ()))
        if wanted and root.cutter is not None:
            kept |= root.cutter(model, wanted)
            continue
        for item in root.coupled if wanted else ():
            place = (item.name, str(item.axis))
            lost = {channel for channel, origin in zip(item.channels, item.roots, strict=True) if origin in wanted}
            if lost:
                gone.setdefault(place, set()).update(lost)
                because.setdefault(place, root.name)
        for path, attribute in root.attributes if wanted else ():
            owner = model.get_submodule(path)
            setattr(owner, attribute, getattr(owner, attribute) - len(wanted))
    for (name, axis), lost in gone.items():
        try:
            side, channels = _cut_side(model, name, axis, lost)
        except FAILURES as error:
            raise ModelError(
                f"channels of {because[name, axis]} cannot be removed: {name}: {type(error).__name__}: {error}. "
                "Use `method: unstructured`, or leave out `prune`."
            ) from error
        if channels:
            kept[side] = channels
    return kept


def compose(before: Mapping[tuple[str, str], Sequence[int]], kept: Channels) -> Channels:
    """Returns which channels of the original model are left after one more cut.

    Args:
        before: Original channels left before it; sides that had lost none are absent.
        kept: What `cut` returned.
    """
    after = {side: list(channels) for side, channels in before.items()}
    for side, channels in kept.items():
        after[side] = [before[side][channel] for channel in channels] if side in before else list(channels)
    return after


def _cut_side(model: nn.Module, name: str, axis: str, lost: set[int]) -> tuple[tuple[str, str], list[int]]:
    """Cuts one side of one layer and returns what it is and keeps; no channels where the layer has none to lose."""
    path, _, last = name.rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(getattr(owner, last, None), nn.Parameter):
        dimension, kept = _cut_parameter(owner, last, lost)
        return (path, f"{last}:{dimension}"), kept
    return (name, axis), _cut_layer(model.get_submodule(name), axis, lost)


def _cut_layer(layer: nn.Module, axis: str, lost: set[int]) -> list[int]:
    if isinstance(layer, _ConvNd | nn.Linear):
        return _cut_conv(layer, axis, lost) if isinstance(layer, _ConvNd) else _cut_linear(layer, axis, lost)
    if isinstance(layer, nn.MultiheadAttention):
        return _cut_attention(layer, lost)
    if isinstance(layer, RECURRENT):
        kept = _rest(units_of(layer, "out" if axis == "out" else "in"), lost)
        (cut_units if axis == "out" else cut_features)(layer, lost)
        return kept
    return _cut_channelwise(layer, lost)


def _cut_conv(layer: _ConvNd, axis: str, lost: set[int]) -> list[int]:
    transposed = isinstance(layer, _ConvTransposeNd)
    if axis == "out" or is_depthwise(layer):
        kept = _rest(layer.out_channels, lost)
        if is_depthwise(layer):
            layer.in_channels = layer.groups = len(kept)
        layer.out_channels = len(kept)
        _slice(layer, "weight", 1 if transposed else 0, kept)
        _slice(layer, "bias", 0, kept)
        return kept
    kept = _rest(layer.in_channels, lost)
    size = layer.in_channels // layer.groups
    # All groups lose the same places; the weights hold each place once, for all of them.
    places = [channel for channel in kept if channel < size]
    if kept != [group * size + place for group in range(layer.groups) for place in places]:
        raise ValueError("its groups would lose different channels")
    layer.in_channels = len(kept)
    _slice(layer, "weight", 0 if transposed else 1, places)
    return kept


def _cut_linear(layer: nn.Linear, axis: str, lost: set[int]) -> list[int]:
    if axis == "in":
        kept = _rest(layer.in_features, lost)
        layer.in_features = len(kept)
        _slice(layer, "weight", 1, kept)
        return kept
    kept = _rest(layer.out_features, lost)
    layer.out_features = len(kept)
    _slice(layer, "weight", 0, kept)
    _slice(layer, "bias", 0, kept)
    return kept


def _cut_attention(layer: nn.MultiheadAttention, lost: set[int]) -> list[int]:
    width = layer.embed_dim
    kept = _rest(width, lost)
    # Queries, keys and values lie below one another.
    thrice = [part * width + channel for part in range(3) for channel in kept]
    for name, axis, rows in (
        ("q_proj_weight", 0, kept), ("k_proj_weight", 0, kept), ("v_proj_weight", 0, kept),
        ("in_proj_weight", 0, thrice), ("in_proj_weight", 1, kept), ("in_proj_bias", 0, thrice),
        ("bias_k", 2, kept), ("bias_v", 2, kept),
    ):  # fmt: skip
        _slice(layer, name, axis, rows)
    for axis_name in ("out", "in"):
        _cut_linear(layer.out_proj, axis_name, lost)
    layer.embed_dim = layer.kdim = layer.vdim = len(kept)
    layer.head_dim = len(kept) // layer.num_heads
    return kept


def _cut_channelwise(layer: nn.Module, lost: set[int]) -> list[int]:
    """Cuts a norm, a PReLU or a table."""
    if isinstance(layer, _BatchNorm | _InstanceNorm):
        kept = _rest(layer.num_features, lost)
        layer.num_features = len(kept)
        names: tuple[str, ...] = ("weight", "bias", "running_mean", "running_var")
    elif isinstance(layer, nn.GroupNorm):
        kept = _rest(layer.num_channels, lost)
        layer.num_channels = len(kept)
        names = ("weight", "bias")
    elif isinstance(layer, nn.LayerNorm):
        kept = _rest(layer.normalized_shape[-1], lost)
        layer.normalized_shape = (*layer.normalized_shape[:-1], len(kept))
        names = ("weight", "bias")
    elif isinstance(layer, nn.PReLU):
        if layer.num_parameters == 1:
            return []  # one slope for all channels
        kept = _rest(layer.num_parameters, lost)
        layer.num_parameters = len(kept)
        names = ("weight",)
    elif isinstance(layer, nn.Embedding):
        kept = _rest(layer.embedding_dim, lost)
        layer.embedding_dim = len(kept)
        names = ("weight",)
    else:
        raise TypeError(f"channels of a {type(layer).__name__} cannot be cut")
    for name in names:
        _slice(layer, name, -1, kept)
    return kept


def _cut_parameter(owner: nn.Module, name: str, lost: set[int]) -> tuple[int, list[int]]:
    """Cuts a parameter that belongs to no layer known here along its last axis that is longer than 1."""
    shape = tuple(getattr(owner, name).shape)
    axis = max((place for place, size in enumerate(shape) if size > 1), default=0)
    kept = _rest(shape[axis], lost)
    _slice(owner, name, axis, kept)
    if getattr(owner, "normalized_shape", None) == shape:  # norms of torch and others that have no class here
        vars(owner)["normalized_shape"] = tuple(getattr(owner, name).shape)
    return axis, kept


def _rest(width: int, lost: set[int]) -> list[int]:
    if lost and max(lost) >= width:
        raise IndexError(f"channel {max(lost)} is out of range, there are {width}")
    return [channel for channel in range(width) if channel not in lost]


def _slice(layer: nn.Module, name: str, axis: int, kept: Sequence[int]) -> None:
    """Replaces a parameter (with its gradient) or buffer of a layer by a part of it; nothing where there is none."""
    old = getattr(layer, name, None)
    if old is None:
        return
    index = torch.tensor(list(kept), dtype=torch.long, device=old.device)
    new = old.detach().index_select(axis, index)
    if isinstance(old, nn.Parameter):
        new = nn.Parameter(new, requires_grad=old.requires_grad)
        if old.grad is not None:
            new.grad = old.grad.index_select(axis, index)
    setattr(layer, name, new)
