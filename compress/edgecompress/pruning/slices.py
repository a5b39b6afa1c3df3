"""Tensors with some places along one dimension left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def keep_places(module: nn.Module, axis: str, keep: Sequence[int]) -> None:
    """Leaves only some places along one side of a linear layer, or of a module's tensor, in place.

    Args:
        module: The module.
        axis: For a linear layer `out` or `in`; else the tensor's name, a colon and the dimension.
        keep: The places that stay.
    """
    if isinstance(module, nn.Linear) and axis in ("out", "in"):
        module.weight = kept(module.weight, keep, 0 if axis == "out" else 1)
        if axis == "in":
            module.in_features = len(keep)
            return
        module.out_features = len(keep)
        if module.bias is not None:
            module.bias = kept(module.bias, keep, 0)
        return
    name, _, dimension = axis.partition(":")
    tensor = getattr(module, name)
    places = torch.tensor(keep, device=tensor.device)
    shorter = (
        kept(tensor, keep, int(dimension))
        if isinstance(tensor, nn.Parameter)
        else tensor.index_select(int(dimension), places)
    )
    setattr(module, name, shorter)


def kept(parameter: torch.Tensor, keep: Sequence[int], dimension: int) -> nn.Parameter:
    """Returns a parameter, and its gradient, with only some places along one dimension."""
    places = torch.tensor(keep, device=parameter.device)
    left = nn.Parameter(parameter.detach().index_select(dimension, places), requires_grad=parameter.requires_grad)
    if parameter.grad is not None:
        left.grad = parameter.grad.index_select(dimension, places)
    return left
