"""What one cut takes with it, as plain data, and the layers for which there can be none."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

#: Layers whose outputs can be cut on their own account; everything else follows.
ROOT_TYPES = (_ConvNd, nn.Linear)


@dataclass(frozen=True)
class Coupled:
    """One side of one layer that loses channels when its root does.

    Attributes:
        name: Path of the module (or of the parameter, where it belongs to no standard layer).
        target: The module or parameter itself.
        axis: `out` where its output channels go, `in` where its input channels do.
        channels: Channel numbers of this layer.
        roots: For each of them the root's channel it goes with.
    """

    name: str
    target: nn.Module | nn.Parameter
    axis: Literal["out", "in"]
    channels: tuple[int, ...]
    roots: tuple[int, ...]


@dataclass(frozen=True)
class Root:
    """A conv or linear layer and everything that shares its output channels.

    Attributes:
        name: Path of the layer.
        width: Its output channels.
        channel_groups: How many equal parts the channels are in (grouped convs, group norm, attention heads, splits);
            the same places have to go from each part.
        coupled: All layers that follow, the root itself first.
    """

    name: str
    width: int
    channel_groups: int
    coupled: tuple[Coupled, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """Paths of the conv and linear layers whose output width this is."""
        return tuple(item.name for item in self.coupled if item.axis == "out" and isinstance(item.target, ROOT_TYPES))


def is_depthwise(module: object) -> bool:
    """Says whether a layer is a conv with one filter per channel (its two widths are one)."""
    return isinstance(module, _ConvNd) and 1 < module.groups == module.out_channels == module.in_channels


def parts_of(target: object) -> int:
    """Returns into how many equal parts a layer divides its channels (1 for most layers)."""
    if isinstance(target, _ConvNd):
        return 1 if is_depthwise(target) else target.groups
    if isinstance(target, nn.GroupNorm):
        return int(target.num_groups)
    if isinstance(target, nn.MultiheadAttention):
        return int(target.num_heads)
    return 1


def width_of(item: Coupled) -> float:
    """Returns how many channels one side of a layer has; infinity where it takes any number."""
    target = item.target
    if isinstance(target, _ConvNd):
        return target.out_channels if item.axis == "out" else target.in_channels
    if isinstance(target, nn.Linear):
        return target.out_features if item.axis == "out" else target.in_features
    if isinstance(target, _BatchNorm | _InstanceNorm):
        return target.num_features
    if isinstance(target, nn.GroupNorm):
        return target.num_channels
    if isinstance(target, nn.MultiheadAttention):
        return int(target.embed_dim)
    if isinstance(target, nn.LayerNorm):
        # Only the last axis can be cut, so several normalized axes mean that channels are not among them alone.
        return target.normalized_shape[0] if len(target.normalized_shape) == 1 else 0
    return math.inf


def unfit(item: Coupled, root: Root) -> str:
    """Returns why this layer makes its whole group unfit for pruning, "" where it does not."""
    target = item.target
    if isinstance(target, nn.RNNBase):
        return f"{item.name} is recurrent"
    if any(channel is None for channel in item.roots) or max(item.channels) >= width_of(item):
        return f"its channels cannot be followed through {item.name}"
    if isinstance(target, _ConvNd) and target.groups > 1:
        if isinstance(target, _ConvTransposeNd):
            return f"{item.name} is a grouped transposed conv"
        if not is_depthwise(target) and target.groups in (target.in_channels, target.out_channels):
            return f"{item.name} has groups of one channel on one side only"
    parts = parts_of(target)
    if parts > 1:
        if root.channel_groups % parts:
            return f"{item.name} divides the channels into {parts} parts, another layer into {root.channel_groups}"
        pairs = sorted(zip(item.channels, item.roots, strict=True))
        if pairs != [(place, place) for place in range(root.width)] or width_of(item) != root.width:
            return f"{item.name} divides the channels otherwise than the layer that makes them"
    size = root.width // root.channel_groups
    places = Counter(channel % size for channel in item.roots)
    if root.channel_groups > 1 and len({places[place] for place in range(size)}) > 1:
        return f"only some of its channels reach {item.name}, and another layer divides them into groups"
    return ""


def sharing(model: nn.Module) -> dict[int, str]:
    """Returns id of each module whose parameters another module holds as well -> that module's path."""
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():  # noqa: SLF001
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((name, module))
    shared = {}
    for holders in owners.values():
        for _, module in holders:
            others = [name for name, other in holders if other is not module]
            if others:
                shared[id(module)] = others[0]
    return shared
