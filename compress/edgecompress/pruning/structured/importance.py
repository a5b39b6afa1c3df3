"""How much each channel matters, over all the layers that would lose it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channels import Coupled, Root, is_depthwise, width_of
from edgecompress.pruning.recurrent import RECURRENT, per_unit

Axis = Literal["out", "in"]


class Unrated(ValueError):  # noqa: N818 - a finding about one root, not a failure
    """A criterion finds nothing in a root to rate its channels by; the message says why. The root keeps its width."""


class Importance(Protocol):
    """Rates a root's channels; ratings of different roots are compared with one another."""

    def __call__(self, root: Root) -> torch.Tensor:
        """Returns (root.width,) float64 ratings on the CPU; the lowest go first.

        Raises:
            Unrated: The criterion does not apply to this root.
        """


class GroupMagnitude:
    """Sum of a channel's weights to the power of p, averaged over the coupled layers and divided by the root's mean.

    The group criterion of DepGraph (Fang et al. 2023). The division makes layers comparable whatever their scale.
    Biases do not count; depthwise filters do.
    """

    def __init__(self, p: Literal[1, 2] = 2) -> None:
        """Takes 2 for the squared L2 norm, 1 for the L1 norm."""
        self._p = p

    def __call__(self, root: Root) -> torch.Tensor:
        """Returns (root.width,) float64 ratings with mean 1 (all 0 where every weight is 0).

        Raises:
            ModelError: A weight is not a finite number.
        """
        total = torch.zeros(root.width, dtype=torch.float64)
        rated = 0
        for item in root.coupled:
            sizes = _sums(item.target, item.axis, lambda weight: weight.detach().double().cpu().abs().pow(self._p))
            if sizes is not None:
                _add(total, item, sizes)
                rated += 1
        return _comparable(total / max(rated, 1))


class BatchNormScale:
    """|gamma| of the batch norms on a channel, averaged over them and divided by the root's mean.

    The criterion of Network Slimming (Liu et al. 2017), without the sparsity that it trains into gamma.
    """

    def __call__(self, root: Root) -> torch.Tensor:
        """Returns (root.width,) float64 ratings with mean 1 (all 0 where every scale is 0).

        Raises:
            ModelError: A scale is not a finite number.
            Unrated: Some channel has no batch norm with a scale.
        """
        total, norms = (torch.zeros(root.width, dtype=torch.float64) for _ in range(2))
        for item in root.coupled:
            weight = _weight(item.target) if isinstance(item.target, _BatchNorm) else None
            if weight is not None:
                scales = weight.detach().double().cpu().abs()
                _add(total, item, scales)
                _add(norms, item, torch.ones_like(scales))
        if not bool(norms.any()):
            raise Unrated("its channels have no batch norm, whose scales the importance `bn` goes by")
        if not bool(norms.all()):
            raise Unrated("only some of its channels have a batch norm, whose scales the importance `bn` goes by")
        return _comparable(total / norms)


class Taylor:
    """First-order estimate of what a channel's removal does to the loss, squared and averaged over batches.

    For each batch the products of gradient and value are summed over all parameters that go with the channel; that
    is the derivative of the loss by a common factor on them. Its square is the importance of a structure in Molchanov
    et al. 2019 ("Importance Estimation for Neural Network Pruning"), averaged over the batches.
    Biases of the layers that make the channel count, as they go with it.
    """

    def __init__(self) -> None:
        """Knows no gradients yet."""
        self._seen: dict[tuple[str, Axis], list[torch.Tensor]] = {}

    def clear(self) -> None:
        """Forgets all gradients; due after each change of the model."""
        self._seen = {}

    def observe(self, model: nn.Module, gradients: Mapping[str, torch.Tensor]) -> None:
        """Takes in the gradients of one batch.

        Args:
            model: As it was when they were computed.
            gradients: Path of a parameter -> the gradient of the loss; 0 for those that are not there.
        """
        known = {id(parameter): gradients.get(name) for name, parameter in model.named_parameters()}
        two_sided = (_ConvNd, nn.Linear, *RECURRENT)
        for name, module in model.named_modules():
            axes: tuple[Axis, ...] = ("out", "in") if isinstance(module, two_sided) else ("out",)
            for axis in axes:
                sums = _sums(module, axis, lambda weight: _product(weight, known.get(id(weight))))
                if sums is None:
                    continue
                bias = getattr(module, "bias", None)
                if axis == "out" and isinstance(bias, torch.Tensor):
                    sums = sums + _product(bias, known.get(id(bias)))
                self._seen.setdefault((name, axis), []).append(sums)

    def __call__(self, root: Root) -> torch.Tensor:
        """Returns (root.width,) float64 ratings with mean 1 (all 0 where every gradient is 0).

        Raises:
            ModelError: A gradient or a weight is not a finite number.
            ValueError: No gradients were observed, or the layers have other widths since.
        """
        total: torch.Tensor | None = None
        for item in root.coupled:
            if _weight(item.target) is None and not isinstance(item.target, RECURRENT):
                continue
            seen = self._seen.get((item.name, item.axis))
            if seen is None:
                raise ValueError(f"{item.name}: no gradients were observed, and Taylor rates by nothing else")
            if len(seen[0]) != width_of(item):
                raise ValueError(f"{item.name}: the gradients are of another width; clear them and observe anew")
            if total is None:
                total = torch.zeros(root.width, len(seen), dtype=torch.float64)
            _add(total, item, torch.stack(seen, 1))
        assert total is not None  # noqa: S101 - a root begins with a layer that has weights
        return _comparable(total.square().mean(1))


#: The recipe's names -> the criteria.
IMPORTANCES: dict[str, Callable[[], Importance]] = {
    "l2": lambda: GroupMagnitude(2),
    "l1": lambda: GroupMagnitude(1),
    "bn": BatchNormScale,
    "taylor": Taylor,
}


def _weight(target: object) -> torch.Tensor | None:
    """Returns the weights of a layer that criteria look at: convs, linear layers, batch and layer norms; else None."""
    if isinstance(target, _ConvTransposeNd) and target.groups > 1:
        return None  # never part of a root
    if isinstance(target, _ConvNd | nn.Linear):
        return target.weight
    if isinstance(target, _BatchNorm | nn.LayerNorm):
        weight: torch.Tensor | None = target.weight
        return weight if weight is not None and weight.dim() == 1 else None
    return None


def _sums(target: object, axis: Axis, numbers: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor | None:
    """Returns the sums of numbers made of a layer's weights for each channel of a side; None where it has none."""
    if isinstance(target, RECURRENT):
        return per_unit(target, axis, numbers)
    weight = _weight(target)
    return None if weight is None else _per_channel(target, axis, numbers(weight))


def _per_channel(module: object, axis: Axis, values: torch.Tensor) -> torch.Tensor:
    """Returns the sums of values that are laid out like a layer's weights, for each channel of one of its sides."""
    if isinstance(module, _BatchNorm | nn.LayerNorm):
        return values
    if isinstance(module, _ConvTransposeNd):
        values = values.transpose(0, 1)
    if axis == "out" or is_depthwise(module):
        return values.flatten(1).sum(1)
    groups = module.groups if isinstance(module, _ConvNd) else 1
    # Input g * size + i is column i of the rows of group g.
    per_input = values.flatten(2).sum(2) if not isinstance(module, nn.Linear) else values
    return per_input.reshape(groups, -1, per_input.shape[1]).sum(1).flatten()


def _product(parameter: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor:
    value = parameter.detach()
    product = torch.zeros_like(value) if gradient is None else value * gradient.detach()
    return product.double().cpu()


def _add(total: torch.Tensor, item: Coupled, values: torch.Tensor) -> None:
    """Adds what one side of a layer gives to the channels of its root.

    Raises:
        ModelError: Something is not a finite number.
    """
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"{item.name} has weights or gradients that are not finite numbers, so its channels cannot be ranked. "
            "The training before it diverged: lower its learning rate."
        )
    total.index_add_(0, torch.tensor(item.roots), values[torch.tensor(item.channels)])


def _comparable(ratings: torch.Tensor) -> torch.Tensor:
    mean = ratings.mean()
    return ratings / mean if mean > 0 else ratings
