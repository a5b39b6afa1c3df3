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


def _is_rescaled(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding) and module.max_norm is not None


def _rescaled(table: nn.Embedding) -> nn.Embedding:
    """Returns an embedding whose long rows are shortened at once, and not when they are looked up."""
    with torch.no_grad():
        weight = table.weight.detach().clone()
        every = torch.arange(len(weight), device=weight.device)
        torch.embedding_renorm_(weight, every, table.max_norm, table.norm_type)  # type: ignore[arg-type]
    return nn.Embedding(len(weight), weight.shape[1], padding_idx=table.padding_idx, _weight=weight)


def converted_form(model: nn.Module) -> nn.Module:
    """Returns a model as it is converted, in evaluation mode; the model itself where no part of it has another form.

    Layer names of a flatbuffer are the paths in this form.
    """
    if not any(isinstance(module, Convertible) or _is_rescaled(module) for module in model.modules()):
        return model
    return _form(copy.deepcopy(model).eval())


def _form(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        form = _form(child)
        if form is not child:
            setattr(module, name, form)
    if isinstance(module, nn.Embedding) and _is_rescaled(module):
        return _rescaled(module)
    return module.for_conversion() if isinstance(module, Convertible) else module
