"""The widths of a pruned model as plain JSON, so that it comes back without pickle and without a pruning library.

Keep `architecture_of(base, pruned)` beside the safetensors file. Later build the base model again, call
`apply_architecture(model, plan)`, then `model.load_state_dict(tensors)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from compress.errors import ModelError
from compress.models.attention import replace_attention, replaced, with_attention
from compress.pruning.recurrent import renew

VERSION = 1

MISFIT = "the architecture plan does not fit the model"

#: What a width attribute may be: a count, or several.
Size = int | tuple[int, ...]


def architecture_of(base: nn.Module, pruned: nn.Module) -> dict[str, Any]:
    """Returns what makes `pruned` out of `base`: a JSON document.

    Args:
        base: The model as it was built.
        pruned: The same module tree with other widths.

    Returns:
        `version`, and `modules`: path -> `attributes` (the integers and tuples of integers that differ, such as
        in_channels or normalized_shape), `parameters` and `buffers` (the shape of each), and `class` where the layer
        became one of ours (see `compress.models.attention`).

    Raises:
        ModelError: The two are not the same module tree, or a layer grew.
    """
    theirs = dict(pruned.named_modules(remove_duplicate=False))
    classes = replaced(base, pruned)
    ours = dict(with_attention(base, classes).named_modules(remove_duplicate=False))
    if ours.keys() != theirs.keys():
        odd = min(ours.keys() ^ theirs.keys())
        raise ModelError(f"the pruned model has other modules than the base model ({odd} is in one of them only)")
    modules = {}
    for path, module in ours.items():
        other = theirs[path]
        if type(module) is not type(other):
            kinds = f"a {type(module).__name__} in the base model, a {type(other).__name__} in the pruned one"
            raise ModelError(f"{path or 'the root'} is {kinds}")
        changed = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in _sizes(other).items()
            if name in _sizes(module) and value != _sizes(module)[name]
        }
        entry = {"attributes": changed, "parameters": _shapes(other._parameters), "buffers": _shapes(other._buffers)}  # noqa: SLF001
        if path in classes:
            modules[path] = {"class": classes[path], **entry}
        elif any(entry.values()):
            modules[path] = entry
    plan = {"version": VERSION, "modules": modules}
    _check(base, plan)
    return plan


def apply_architecture(model: nn.Module, plan: Mapping[str, Any]) -> None:
    """Gives a freshly built base model the widths of a plan, in place; its weights are then undefined until loaded.

    Parameters that modules share stay shared.

    Args:
        model: Built as the base model of `architecture_of` was.
        plan: What `architecture_of` returned, also after a round trip through JSON.

    Raises:
        ModelError: The plan is not one, or does not fit the model; the model is then unchanged.
    """
    _check(model, plan)
    replace_attention(model, _classes(plan))
    modules = dict(model.named_modules(remove_duplicate=False))
    renewed: dict[int, torch.Tensor] = {}
    done: set[int] = set()
    old_tensors: list[torch.Tensor] = []  # held, so that no id is given twice
    for path, entry in plan["modules"].items():
        module = modules[path]
        for name, value in entry["attributes"].items():
            setattr(module, name, tuple(value) if isinstance(value, list) else value)
        for kind in ("parameters", "buffers"):
            store: dict[str, torch.Tensor | None] = getattr(module, f"_{kind}")
            for name, shape in entry[kind].items():
                old = store[name]
                if old is None or id(old) in done or list(old.shape) == shape:
                    continue
                if id(old) not in renewed:
                    old_tensors.append(old)
                    empty = torch.empty(shape, dtype=old.dtype, device=old.device)
                    is_parameter = isinstance(old, nn.Parameter)
                    renewed[id(old)] = nn.Parameter(empty, requires_grad=old.requires_grad) if is_parameter else empty
                    done.add(id(renewed[id(old)]))
                store[name] = renewed[id(old)]
        renew(module)


def _check(model: nn.Module, plan: Mapping[str, Any]) -> None:
    """Raises ModelError at the first place where a plan does not fit a model."""
    if not isinstance(plan, Mapping) or not isinstance(plan.get("modules"), Mapping):
        raise ModelError("this is not an architecture plan: expected a mapping with `version` and `modules`")
    if plan.get("version") != VERSION:
        found = repr(plan.get("version"))
        raise ModelError(f"the architecture plan has version {found}; this program reads version {VERSION}")
    modules = dict(with_attention(model, _classes(plan)).named_modules(remove_duplicate=False))
    for path, entry in plan["modules"].items():
        where = path or "the root"
        if path not in modules:
            raise ModelError(f"{MISFIT}: it has no module {where}")
        parts = ("attributes", "parameters", "buffers")
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(part), Mapping) for part in parts):
            raise ModelError(f"the architecture plan is damaged at {where}: expected {', '.join(parts)}")
        for what, name, asked, ours in _claims(modules[path], entry):
            if ours is None:
                raise ModelError(f"{MISFIT}: {where} has no {what} {name}")
            _check_size(f"{where}.{name}", asked, ours)
        missing = [name for name in _shapes(modules[path]._parameters) if name not in entry["parameters"]]  # noqa: SLF001
        if missing:
            raise ModelError(f"{MISFIT}: it says nothing of {where}.{missing[0]}")


def _classes(plan: Mapping[str, Any]) -> dict[str, str]:
    """Returns path -> name of its class for the layers of a plan that are to become ours."""
    entries = {path: entry for path, entry in plan["modules"].items() if isinstance(entry, Mapping)}
    return {path: str(entry["class"]) for path, entry in entries.items() if "class" in entry}


def _check_size(where: str, asked: object, ours: Size) -> None:
    """Raises ModelError where a size of the plan is no size, of another kind than the model's, or larger."""
    old = ours if isinstance(ours, tuple) else (ours,)
    new = (asked,) if not isinstance(asked, list | tuple) else tuple(asked)
    if isinstance(ours, tuple) != isinstance(asked, list | tuple) or len(old) != len(new) or not _is_size(new):
        raise ModelError(f"{MISFIT}: {where} is {ours}, not {asked}")
    if any(not 0 <= each <= limit for each, limit in zip(new, old, strict=True)):
        raise ModelError(f"{MISFIT}: {where} would change from {ours} to {asked}, and pruning only makes smaller")


def _claims(module: nn.Module, entry: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, Size | None]]:
    """Yields (what, name, size in the plan, size in the model) for everything a plan says of a module."""
    attributes = _sizes(module)
    for name, size in entry["attributes"].items():
        yield "attribute", name, size, attributes.get(name)
    for what, store in (("parameters", module._parameters), ("buffers", module._buffers)):  # noqa: SLF001
        for name, shape in entry[what].items():
            tensor = store.get(name)
            # As a tuple, also where it is empty: a scalar buffer stays a scalar.
            yield what.removesuffix("s"), name, shape, None if tensor is None else tuple(tensor.shape)


def _sizes(module: nn.Module) -> dict[str, Size]:
    """Returns the attributes that can be widths."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and _is_size(value)}


def _is_size(value: object) -> bool:
    """Says whether a value is an integer or a tuple of integers (true and false are none)."""
    parts = value if isinstance(value, tuple) else (value,)
    return all(isinstance(part, int) and not isinstance(part, bool) for part in parts)


def _shapes(tensors: Mapping[str, torch.Tensor | None]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items() if tensor is not None}
