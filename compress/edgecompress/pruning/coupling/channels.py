"""What one cut takes with it, as plain data, and the layers for which there can be none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from edgecompress.pruning.recurrent import RECURRENT, unfit_units, units_of

#: Layers whose outputs can be cut on their own account; everything else follows.
ROOT_TYPES = (_ConvNd, nn.Linear)


@dataclass(frozen=True)
class Share:
    """What goes with the heads of an attention layer beside its projections: products between positions, tables.

    Attributes:
        width: Heads.
        params: Parameters that they have equal shares of.
    """

    width: int
    params: int


@dataclass(frozen=True)
class Coupled:
    """One side of one layer that loses channels when its root does.

    Attributes:
        name: Path of the module (or of the parameter, where it belongs to no standard layer).
        target: The module or parameter itself, or a share of what is neither.
        axis: `out` where its output channels go, `in` where its input channels do.
        channels: Channel numbers of this layer.
        roots: For each of them the root's channel it goes with.
    """

    name: str
    target: nn.Module | nn.Parameter | Share
    axis: Literal["out", "in"]
    channels: tuple[int, ...]
    roots: tuple[int, ...]


@dataclass(frozen=True)
class Root:
    """A conv, linear or recurrent layer and everything that shares its output channels; or an attention layer's heads.

    Attributes:
        name: Path of the layer.
        width: Its output channels, hidden units or heads.
        channel_groups: How many equal parts the channels are in (grouped convs, group norm, attention heads, splits);
            the same places have to go from each part.
        coupled: All layers that follow, the root itself first.
        kind: `heads` where one channel is a whole attention head.
        attributes: (path of a module, name) of integers that hold the width and have to follow it.
        cutter: Cuts channels of a model in the place of slicing the coupled layers, and returns which are kept of
            each (layer, side).
    """

    name: str
    width: int
    channel_groups: int
    coupled: tuple[Coupled, ...]
    kind: Literal["channels", "heads"] = "channels"
    attributes: tuple[tuple[str, str], ...] = ()
    cutter: Callable[[nn.Module, Iterable[int]], dict[tuple[str, str], list[int]]] | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """Paths of the layers whose output width this is, of heads the attention layer's path first."""
        kinds = (*ROOT_TYPES, *RECURRENT)
        layers = (item.name for item in self.coupled if item.axis == "out" and isinstance(item.target, kinds))
        return (self.name, *layers) if self.kind == "heads" else tuple(layers)


def placed(model: nn.Module, roots: Sequence[Root]) -> list[Root]:
    """Returns roots that were read from one model as those of a copy of it."""
    targets: dict[str, nn.Module | nn.Parameter] = {**dict(model.named_parameters()), **dict(model.named_modules())}

    def there(item: Coupled) -> Coupled:
        return item if isinstance(item.target, Share) else replace(item, target=targets[item.name])

    return [replace(root, coupled=tuple(there(item) for item in root.coupled)) for root in roots]


def holders(model: nn.Module, root: Root) -> tuple[tuple[str, str], ...]:
    """Returns (path, name) of the integers that may hold a root's width, in modules around its layers.

    Layers of torch are left out: their widths are cut with them.
    """
    names = [item.name for item in root.coupled]
    return tuple(
        (path, name)
        for path, module in model.named_modules()
        if not type(module).__module__.startswith("torch.nn.")
        and any(inner.startswith(f"{path}." if path else "") for inner in names)
        for name, value in vars(module).items()
        if type(value) is int and value == root.width and not name.startswith("_")
    )


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
    if isinstance(target, RECURRENT):
        return units_of(target, item.axis)
    if isinstance(target, nn.LayerNorm):
        # Only the last axis can be cut, so several normalized axes mean that channels are not among them alone.
        return target.normalized_shape[0] if len(target.normalized_shape) == 1 else 0
    return math.inf


def unfit(item: Coupled, root: Root) -> str:
    """Returns why this layer makes its whole group unfit for pruning, "" where it does not."""
    target = item.target
    if isinstance(target, RECURRENT) and unfit_units(target):
        return f"{item.name} {unfit_units(target)}"
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
