"""What the converter works out anew for each network, though it is the same for all: kept from the first one.

A third of each conversion went into it. Nothing here depends on a network, so that what is converted stays the same.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any


def install() -> None:
    """Keeps it from now on; litert-torch is loaded already."""
    import torch
    from litert_torch.backend.jax_bridge import _wrap
    from torch._export import utils
    from torch.fx.traceback import NodeSource

    # Where nodes come from, which nothing changes: copied anew for each node of each pass, with all it came from.
    NodeSource.__deepcopy__ = lambda self, _memo: self
    # Read for annotations alone, at each of the ten thousand times that an operator gets a kernel; these are kept.
    torch._ops.Callable = typing.Callable
    utils._collect_all_valid_cia_ops_for_namespace = _by_namespace(utils._collect_all_valid_cia_ops_for_namespace)
    _wrap._stablehlo_to_vhlo = functools.cache(_wrap._stablehlo_to_vhlo)
    _wrap._lower_to_ir_text = _by_types(_wrap._lower_to_ir_text, _wrap.ir.Value)


def _by_namespace(collect: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns the function that lists a namespace's operators, asked again only when there is a new one."""
    kept: dict[tuple[str, int], Any] = {}

    def collect_once(namespace: Any) -> Any:
        found = kept.get((namespace.name, len(namespace._dir)))
        if found is None:
            found = collect(namespace)
            kept[namespace.name, len(namespace._dir)] = found  # by the operators that this has found
        return found

    return collect_once


def _by_types(lower: Callable[..., Any], value: type) -> Callable[..., Any]:
    """Returns the function that has JAX write an operator, asked once for each operator, its types and options."""
    kept: dict[object, str] = {}

    def described(item: Any) -> object:
        if isinstance(item, value):
            return str(item.type)  # type: ignore[attr-defined]
        if isinstance(item, (list, tuple)):
            return tuple(described(one) for one in item)
        if isinstance(item, dict):
            return tuple((name, described(one)) for name, one in item.items())
        if isinstance(item, FunctionType) and "<locals>" in item.__qualname__:  # made anew for each network
            cells = [cell.cell_contents for cell in item.__closure__ or ()]
            return item.__module__, item.__code__, described([cells, item.__defaults__, item.__kwdefaults__])
        return type(item), item, repr(item)  # 0, False and -0.0 are equal, but not the same

    def lower_once(function: Any, args: Any, kwargs: Any, **names: Any) -> Any:
        write, inputs = lower(function, args, kwargs, **names)
        asked = described([function, args, kwargs])
        try:
            hash(asked)
        except TypeError:  # options that can change
            return write, inputs

        def write_once() -> str:
            if asked not in kept:
                kept[asked] = write()
            return kept[asked]

        return write_once, inputs

    return lower_once
