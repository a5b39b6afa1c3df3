"""A pruned model's architecture as plain JSON, so that it comes back without pickle and without a pruning library.

The plan says which channels of which layer of which base model were kept. Keep `architecture_of(base, pruned)` beside
the safetensors file; `edgecompress.pruning.loading.load_pruned` reads both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.attention import replace_attention, replaced, with_attention
from edgecompress.pruning.recurrent import renew

#: Version 1 knew widths, but neither the base model nor which of its channels they are.
VERSION = 2
READABLE = (1, 2)

MISFIT = "the architecture plan does not fit the model"

#: What a width attribute may be: a count, or several.
Size = int | tuple[int, ...]


def architecture_of(
    base: nn.Module,
    pruned: nn.Module,
    *,
    kept: Mapping[tuple[str, str], Sequence[int]] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns what makes `pruned` out of `base`: a JSON document.

    Args:
        base: The model as it was built.
        pruned: The same module tree with other widths.
        kept: The pruner's `kept`: which channels of the base model are left.
        origin: How the base model is built again, for the reader: its name and arguments, input shape and classes.

    Returns:
        `version`; `base`: what `origin` says, and `parameters` (the shape of each); and `modules`: path ->
        `attributes` (the integers and tuples of integers that differ, such as in_channels or normalized_shape),
        `parameters` and `buffers` (the shape of each), `class` where the layer became one of ours (see
        `edgecompress.models.attention`), and `kept`: side -> the channel numbers of the base model that are left,
        ascending. Sides are `out` and `in` (norms and depthwise convs have `out` alone), or for a tensor that belongs
        to neither its name, a colon and the axis. A side that lost nothing is absent.

    Raises:
        ModelError: The two are not the same module tree, or a layer grew.
    """
    theirs = dict(pruned.named_modules(remove_duplicate=False))
    classes = replaced(base, pruned)
    ours = dict(with_attention(base, classes).named_modules(remove_duplicate=False))
    if ours.keys() != theirs.keys():
        odd = min(ours.keys() ^ theirs.keys())
        raise ModelError(f"the pruned model has other modules than the base model ({odd} is in one of them only)")
    modules: dict[str, dict[str, Any]] = {}
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
    for (name, axis), channels in (kept or {}).items():
        path, side = (name, axis) if name in ours else _beside(name, axis)
        noted = modules.setdefault(path, {"attributes": {}, "parameters": {}, "buffers": {}})
        noted.setdefault("kept", {})[side] = list(channels)
    plan = {"version": VERSION, "base": {**(origin or {}), "parameters": _all_shapes(base)}, "modules": modules}
    _check(base, plan)
    return plan


def _beside(name: str, side: str) -> tuple[str, str]:
    """Returns where the plan has a layer that is none in torch's attention, which the module around became again."""
    path, _, last = name.rpartition(".")
    return path, f"{last}:{side}"


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
    if plan.get("version") not in READABLE:
        found = repr(plan.get("version"))
        raise ModelError(f"the architecture plan has version {found}; this program reads versions 1 and {VERSION}")
    if plan["version"] != 1:
        _check_base(model, plan.get("base"))
    modules = dict(with_attention(model, _classes(plan)).named_modules(remove_duplicate=False))
    for path, entry in plan["modules"].items():
        where = path or "the root"
        if path not in modules:
            raise ModelError(f"{MISFIT}: it has no module {where}")
        parts = ("attributes", "parameters", "buffers")
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(part), Mapping) for part in parts):
            raise ModelError(f"the architecture plan is damaged at {where}: expected {', '.join(parts)}")
        _check_kept(where, entry.get("kept", {}))
        for what, name, asked, ours in _claims(modules[path], entry):
            if ours is None:
                raise ModelError(f"{MISFIT}: {where} has no {what} {name}")
            _check_size(f"{where}.{name}", asked, ours)
        missing = [name for name in _shapes(modules[path]._parameters) if name not in entry["parameters"]]  # noqa: SLF001
        if missing:
            raise ModelError(f"{MISFIT}: it says nothing of {where}.{missing[0]}")


def _check_base(model: nn.Module, base: object) -> None:
    """Raises ModelError where a model is not the base model of a plan."""
    if not isinstance(base, Mapping) or not isinstance(base.get("parameters"), Mapping):
        raise ModelError("the architecture plan is damaged: expected `base` with `parameters`")
    ours, theirs = _all_shapes(model), base["parameters"]
    if ours == theirs:
        return
    named = {name: value for name, value in base.items() if name != "parameters"}
    built = f" ({', '.join(f'{name}: {value}' for name, value in named.items())})" if named else ""
    odd = min(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    here, there = (f"has {odd} {shapes[odd]}" if odd in shapes else f"has no {odd}" for shapes in (ours, theirs))
    raise ModelError(
        f"{MISFIT}: it is for another base model{built}. That one {there}, this one {here}. "
        "Build the base model as it was before pruning."
    )


def _check_kept(where: str, kept: object) -> None:
    """Raises ModelError where a plan's kept channels are none."""
    if not isinstance(kept, Mapping):
        raise ModelError(f"the architecture plan is damaged at {where}: expected `kept` to map sides to channels")
    for side, channels in kept.items():
        numbers = channels if isinstance(channels, list) and _is_size(tuple(channels)) else [-1]
        if any(one >= other for one, other in zip([-1, *numbers], numbers, strict=False)):
            raise ModelError(f"the architecture plan is damaged at {where}: the channels kept of {side} do not ascend")


def _all_shapes(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(parameter.shape) for name, parameter in model.named_parameters()}


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
