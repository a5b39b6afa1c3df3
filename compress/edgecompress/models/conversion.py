"""What a module becomes for conversion: the same function, in operators that flatbuffers have few of and INT8 likes."""

from __future__ import annotations

import copy
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Convertible(Protocol):
    """A module that is trained in one form and converted in another."""

    def for_conversion(self) -> nn.Module:
        """Returns what computes the same in evaluation mode; the module itself may be used up by it."""


def converted_form(model: nn.Module) -> nn.Module:
    """Returns a model as it is converted, in evaluation mode; the model itself where no part of it has another form.

    Layer names of a flatbuffer are the paths in this form.
    """
    if not any(isinstance(module, Convertible) or _lacks_statistics(module) for module in model.modules()):
        return model
    return _form(copy.deepcopy(model).eval())


def _form(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        form = _form(child)
        if form is not child:
            setattr(module, name, form)
    if _lacks_statistics(module):
        return NormOfOne(module)
    return module.for_conversion() if isinstance(module, Convertible) else module


class NormOfOne(nn.Module):
    """A batch norm without running statistics where the batch is one sample, of which torch refuses to take them."""

    def __init__(self, norm: nn.Module) -> None:
        """Takes the batch norm."""
        super().__init__()
        self.norm = norm
        self.bias: torch.Tensor | None = norm.bias  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the norm's output: of a vector, which is its own mean, the bias alone."""
        if x.ndim > 2:  # noqa: PLR2004 - (N, C)
            normed: torch.Tensor = self.norm(x)
            return normed
        nothing = x.clamp(0.0, 0.0)
        return nothing if self.bias is None else nothing + self.bias


def smallest_batch(model: nn.Module) -> int:
    """Returns how many samples a model takes at least in evaluation mode: two where a batch norm averages over them."""
    return 2 if any(map(_lacks_statistics, model.modules())) else 1


def _lacks_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm1d) and module.running_mean is None
