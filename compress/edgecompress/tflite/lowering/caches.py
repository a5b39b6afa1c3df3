"""What the converter works out anew for each network, though it is the same for all: kept from the first one.

A third of each conversion went into it, and into what nobody needs. What is converted stays the same.
"""

from __future__ import annotations

import functools
import gc
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FunctionType, ModuleType
from typing import Any

#: Objects after which the youngest are looked through for garbage, and how often the older ones are in turn.
RARELY = (100_000, 50, 100)


@contextmanager
def at_ease() -> Iterator[None]:
    """Lets graphs become Python code only when they run, and garbage be looked for rarely, inside.

    Passes make dozens of graphs, of hundreds of thousands of objects; most are never run, and little is garbage.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        with ExitStack() as lazily:
            with suppress(ImportError):
                from torch.fx._lazy_graph_module import _use_lazy_graph_module

                lazily.enter_context(_use_lazy_graph_module(True))
            yield
    finally:
        gc.set_threshold(*thresholds)


def install(bridge: ModuleType) -> None:
    """Keeps it from now on; where a library has other names, that part is worked out anew as before.

    Args:
        bridge: litert-torch's module that has JAX write operators, `litert_torch.backend.jax_bridge._wrap`.
    """
    if getattr(bridge, "_edgecompress_keeps", False):
        return
    bridge._edgecompress_keeps = True  # type: ignore[attr-defined]  # noqa: SLF001 - ours
    for install_one in (_sources_of_nodes, _annotations, _operators_by_namespace, lambda: _texts(bridge)):
        with suppress(ImportError, AttributeError):  # private names, of no effect on results
            install_one()


def _sources_of_nodes() -> None:
    """Where nodes come from, which nothing changes: copied anew for each node of each pass, with all it came from."""
    from torch.fx.traceback import NodeSource

    NodeSource.__deepcopy__ = lambda self, _memo: self  # type: ignore[attr-defined]


def _annotations() -> None:
    """Read for annotations alone, at each of the ten thousand times that an operator gets a kernel; these are kept."""
    import torch._ops

    torch._ops.Callable = typing.Callable  # type: ignore[attr-defined]  # noqa: SLF001


def _operators_by_namespace() -> None:
    from torch._export import utils

    name = "_collect_all_valid_cia_ops_for_namespace"
    setattr(utils, name, _by_namespace(getattr(utils, name)))


def _texts(bridge: Any) -> None:
    bridge._stablehlo_to_vhlo = functools.cache(bridge._stablehlo_to_vhlo)  # noqa: SLF001
    bridge._lower_to_ir_text = _by_types(bridge._lower_to_ir_text, bridge.ir.Value)  # noqa: SLF001


def _by_namespace(collect: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns the function that lists a namespace's operators, asked again only when there is a new one."""
    kept: dict[tuple[str, int], Any] = {}

    def collect_once(namespace: Any) -> Any:
        asked = namespace.name, len([*namespace])
        found = kept.get(asked)
        if found is None:
            found = collect(namespace)
            kept[namespace.name, len([*namespace])] = found  # by the operators that this has found
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
