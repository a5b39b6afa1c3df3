"""A model's layers by their paths: how wide they are, and where a module stands."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channels import ROOT_TYPES
from edgecompress.pruning.coupling.heads import heads_of
from edgecompress.pruning.recurrent import RECURRENT, units_of


def layer_widths(model: nn.Module, attention: Iterable[str]) -> dict[str, int]:
    """Returns the output channels of each conv and linear layer, hidden units, and the heads of attention layers."""
    widths = {}
    for name, module in model.named_modules():
        if isinstance(module, RECURRENT):
            widths[name] = units_of(module, "out")
        elif isinstance(module, ROOT_TYPES):
            widths[name] = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    return widths | {name: heads_of(model.get_submodule(name)) for name in attention}


def paths_of(model: nn.Module, modules: Iterable[nn.Module]) -> tuple[str, ...]:
    """Returns the paths of some modules of a model.

    Raises:
        ModelError: One is not part of it.
    """
    names = {id(module): name for name, module in model.named_modules()}
    chosen = list(modules)
    strangers = [module for module in chosen if id(module) not in names]
    if strangers:
        raise ModelError(f"a protected {type(strangers[0]).__name__} is not part of the model to prune")
    return tuple(names[id(module)] for module in chosen)
