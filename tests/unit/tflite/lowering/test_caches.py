"""What conversions share: kept under all that it depends on, and done without where a library has other names."""

from __future__ import annotations

import contextlib
import gc
import typing
from types import ModuleType
from typing import Any

import pytest

from edgecompress.tflite.lowering import caches


class Value:
    """Stands in for MLIR's."""

    def __init__(self, type_: str) -> None:
        self.type = type_


@pytest.mark.converter
def test_all_of_it_is_kept_with_the_versions_that_are_pinned() -> None:
    import torch._ops
    from litert_torch.backend.jax_bridge import _wrap
    from torch._export import utils
    from torch.fx.traceback import NodeSource

    caches.install(_wrap)
    assert NodeSource.__deepcopy__.__module__ == caches.__name__
    assert torch._ops.Callable is typing.Callable
    assert utils._collect_all_valid_cia_ops_for_namespace.__module__ == caches.__name__
    assert hasattr(_wrap._stablehlo_to_vhlo, "cache_info")
    assert _wrap._lower_to_ir_text.__module__ == caches.__name__
    before = _wrap._lower_to_ir_text
    caches.install(_wrap)
    assert _wrap._lower_to_ir_text is before, "once is enough"


@pytest.mark.slow
def test_what_is_set_while_a_network_is_converted_is_as_before_afterwards() -> None:
    lazy = pytest.importorskip("torch.fx._lazy_graph_module")
    before = gc.get_threshold(), lazy._use_lazy_graph_module_flag
    with contextlib.suppress(KeyError), caches.at_ease():
        assert (gc.get_threshold(), lazy._use_lazy_graph_module_flag) == (caches.RARELY, True)
        raise KeyError
    assert (gc.get_threshold(), lazy._use_lazy_graph_module_flag) == before


@pytest.mark.slow
def test_other_names_are_done_without() -> None:
    other = ModuleType("of_another_version")
    before = set(vars(other))
    caches.install(other)
    assert set(vars(other)) - before == {"_edgecompress_keeps"}, "nothing of it is replaced"


def test_an_operator_is_written_once_for_each_of_its_types_and_options() -> None:
    written: list[object] = []

    def lower(function: Any, args: Any, kwargs: Any) -> Any:
        def write() -> str:
            written.append((function, args, kwargs))
            return f"text {len(written)}"

        return write, args

    kept = caches._by_types(lower, Value)

    def text(*args: Any, **kwargs: Any) -> str:
        write, inputs = kept(max, args, kwargs)
        assert inputs == args
        return str(write())

    first = text(Value("f32[3]"), 0, axis=[1, 2])
    assert text(Value("f32[3]"), 0, axis=[1, 2]) == first
    others = [
        text(Value("f32[4]"), 0, axis=[1, 2]),
        text(Value("f32[3]"), False, axis=[1, 2]),
        text(Value("f32[3]"), 0.0, axis=[1, 2]),
        text(Value("f32[3]"), -0.0, axis=[1, 2]),
        text(Value("f32[3]"), 0, axis=[2, 1]),
        text(Value("f32[3]"), 0, other=[1, 2]),
    ]
    assert len({first, *others}) == 7
    assert text(Value("f32[3]"), bytearray(b"1")) != text(Value("f32[3]"), bytearray(b"1")), "such can change"


def test_functions_made_anew_are_told_apart_by_what_they_enclose() -> None:
    def lower(function: Any, _args: Any, _kwargs: Any) -> Any:
        return lambda: str(function()), ()

    kept = caches._by_types(lower, Value)

    def number(value: int) -> Any:
        return lambda: value

    assert [kept(number(n), (), {})[0]() for n in (1, 2, 1)] == ["1", "2", "1"]


def test_a_namespace_is_listed_again_when_it_has_a_new_operator() -> None:
    class Namespace(list):  # type: ignore[type-arg]
        name = "aten"

    asked: list[int] = []
    names = Namespace(["add"])
    collect = caches._by_namespace(lambda namespace: asked.append(len(namespace)) or {*namespace})
    assert [collect(names), collect(names)] == [{"add"}] * 2
    names.append("mul")
    assert collect(names) == {"add", "mul"}
    assert asked == [1, 2]
