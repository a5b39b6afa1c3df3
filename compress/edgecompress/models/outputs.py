"""Networks of several outputs: the one that is scored, and all of them in the flatbuffer.

Training, scoring and counting see one tensor; the file gives out all, the scored one first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgecompress.errors import ModelError


class Picked:
    """A forward hook that lets one of a network's outputs pass."""

    def __init__(self, name: str) -> None:
        """Takes the output's name."""
        self.name = name

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> torch.Tensor:
        """Returns the output of that name."""
        return named_outputs(output)[self.name]


class Flattened(Picked):
    """A forward hook that lets all of them pass, in a row."""

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """Returns all outputs, the scored one first."""
        found = named_outputs(output)
        return (found.pop(self.name), *found.values())


def named_outputs(output: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Returns the tensors of an output by name: keys, fields, or positions, dotted where they lie within each other."""
    if isinstance(output, torch.Tensor):
        return {prefix or "output": output}
    if isinstance(output, Mapping):
        items = [(str(key), value) for key, value in output.items()]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        items = [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        items = list(zip(output._fields, output, strict=True))
    elif isinstance(output, list | tuple):
        items = [(str(place), value) for place, value in enumerate(output)]
    else:
        return {}
    found: dict[str, torch.Tensor] = {}
    for name, value in items:
        found |= named_outputs(value, f"{prefix}.{name}".lstrip("."))
    return found


def pick_output(name: str, model: nn.Module, asked: str | None, output: Any) -> torch.Tensor | None:
    """Chooses what of a network's outputs is scored; returns it, None where the network gives nothing to score.

    Args:
        name: The network's, for messages.
        model: The network; it gets a hook where it has other outputs than one tensor.
        asked: What the recipe names.
        output: What the network gave for a sample.

    Raises:
        ModelError: It has several and none is named, or the one named is not among them.
    """
    found = named_outputs(output)
    shown = ", ".join(f"`{key}` {list(value.shape)}" for key, value in found.items())
    if asked is not None and asked not in found:
        raise ModelError(f"model {name}: there is no output `{asked}`. It has {shown or 'none that is a tensor'}.")
    if isinstance(output, torch.Tensor) or not found:
        return output if isinstance(output, torch.Tensor) else None
    if asked is None and len(found) > 1:
        raise ModelError(
            f"model {name} has several outputs: {shown}. Say which one is scored in its block of the recipe, as in "
            f"`output: {next(iter(found))}`; the file will have them all."
        )
    chosen = asked or next(iter(found))
    model.register_forward_hook(Picked(chosen))
    return found[chosen]


def flatten_outputs(model: nn.Module) -> bool:
    """Lets a network give all its outputs, the scored one first; returns whether it has others."""
    changed = False
    for key, hook in list(model._forward_hooks.items()):  # noqa: SLF001 - torch has no way to replace one
        if type(hook) is Picked:
            model._forward_hooks[key] = Flattened(hook.name)  # noqa: SLF001
            changed = True
    return changed


def output_names(model: nn.Module, output: Any) -> list[str]:
    """Returns the names of what a flattened network gives, in that order; `output` is what it gives by itself."""
    hook = next(hook for hook in model._forward_hooks.values() if isinstance(hook, Picked))  # noqa: SLF001
    return [hook.name, *(name for name in named_outputs(output) if name != hook.name)]
