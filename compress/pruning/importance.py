"""How much each channel matters, over all the layers that would lose it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from compress.errors import ModelError
from compress.pruning.channels import Coupled, Root, is_depthwise


class Importance(Protocol):
    """Rates a root's channels; ratings of different roots are compared with one another."""

    def __call__(self, root: Root) -> torch.Tensor:
        """Returns (root.width,) float64 ratings on the CPU; the lowest go first."""


class GroupMagnitude:
    """Squared L2 norm of a channel's weights, averaged over the coupled layers and divided by the root's mean.

    The group criterion of DepGraph (Fang et al. 2023) with p = 2. The division makes layers comparable whatever
    their scale. Biases do not count; depthwise filters do.
    """

    def __call__(self, root: Root) -> torch.Tensor:
        """Returns (root.width,) float64 ratings with mean 1 (all 0 where every weight is 0).

        Raises:
            ModelError: A weight is not a finite number.
        """
        total = torch.zeros(root.width, dtype=torch.float64)
        rated = 0
        for item in root.coupled:
            energy = _energy(item)
            if energy is None:
                continue
            if not bool(torch.isfinite(energy).all()):
                raise ModelError(
                    f"{item.name} has weights that are not finite numbers, so its channels cannot be ranked. "
                    "The training before it diverged: lower its learning rate."
                )
            total.index_add_(0, torch.tensor(item.roots), energy[torch.tensor(item.channels)])
            rated += 1
        total /= max(rated, 1)
        mean = total.mean()
        return total / mean if mean > 0 else total


def _energy(item: Coupled) -> torch.Tensor | None:
    """Returns the sum of squared weights per channel of one side of a layer; None where it has no weights to rate."""
    module = item.target
    if isinstance(module, _ConvNd | nn.Linear):
        weight = module.weight.detach().double().cpu().square()
        if isinstance(module, _ConvTransposeNd):
            weight = weight.transpose(0, 1)
        if item.axis == "out" or is_depthwise(module):
            return weight.flatten(1).sum(1)
        groups = module.groups if isinstance(module, _ConvNd) else 1
        # Input g * size + i is column i of the rows of group g.
        per_input = weight.flatten(2).sum(2) if not isinstance(module, nn.Linear) else weight
        return per_input.reshape(groups, -1, per_input.shape[1]).sum(1).flatten()
    if isinstance(module, _BatchNorm | nn.LayerNorm) and module.weight is not None:
        weight = module.weight.detach().double().cpu().square()
        return weight if weight.dim() == 1 else None
    return None
