"""Branches that run in training only, such as auxiliary heads: a model without some channels has to fit them too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from edgecompress.pruning.coupling.channels import ROOT_TYPES

#: What a model raises that is given tensors it was not made for.
FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)


def outputs_and_branches(model: nn.Module, example: torch.Tensor) -> tuple[list[Any], list[nn.Module]]:
    """Returns what a model gives, and what it gives with its training branches; and the modules that turn those on.

    Norms and dropout stay in evaluation mode. Branches that fail on this input count as none.

    Args:
        model: In evaluation mode.
        example: A batch it takes.
    """
    ran: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, *_: ran.add(module)) for module in model.modules()]
    try:
        results = [model(example)]
        owners = _owners(model, ran)
        before = len(ran)
        if owners:
            with contextlib.suppress(*FAILURES), switched_on(owners):
                results.append(model(example))
    finally:
        for hook in hooks:
            hook.remove()
    return (results, owners) if len(ran) > before else (results[:1], [])


def tensors_of(outputs: Any) -> list[torch.Tensor]:
    """Returns the tensors in what a model gave, however they are nested, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return [tensor for part in outputs for tensor in tensors_of(part)] if isinstance(outputs, list | tuple) else []


@contextlib.contextmanager
def switched_on(owners: Iterable[nn.Module]) -> Iterator[None]:
    """Lets modules, but not those within them, believe that they are being trained."""
    owners = list(owners)
    try:
        for owner in owners:
            owner.training = True
        yield
    finally:
        for owner in owners:
            owner.training = False


def _owners(model: nn.Module, ran: set[nn.Module]) -> list[nn.Module]:
    """Returns the modules that ran and hold a layer that did not, itself or within modules that did not."""
    modules = dict(model.named_modules())
    owners: dict[nn.Module, None] = {}
    for name, module in modules.items():
        if isinstance(module, ROOT_TYPES) and module not in ran:
            path = name
            while path and modules[path] not in ran:
                path = path.rpartition(".")[0]
            # Attention layers of torch use their projections without running them.
            if not isinstance(modules[path], nn.MultiheadAttention):
                owners[modules[path]] = None
    return list(owners)
