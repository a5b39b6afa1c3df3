"""Lets coverage's tracer rest where only other people's code works: their imports, and the converter.

Before Python 3.12 a tracer slows down every line that is run, also of libraries that nobody counts, and the converter,
where half of the tests' time goes, becomes half as slow again. Of ours it calls the models' `forward` alone, which is
counted when they train.
"""

from __future__ import annotations

import functools
import gc
import importlib.abc
import importlib.machinery
import itertools
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from coverage import collector

#: Modules whose imports take seconds -> their functions that take seconds.
HEAVY: dict[str, tuple[str, ...]] = {
    "torch": (), "torchvision": (), "torch_pruning": (), "transformers": (), "timm": (), "tensorflow": (), "keras": (),
    "sklearn": (), "scipy": (), "matplotlib": (), "ai_edge_litert": (), "ai_edge_quantizer": (),
    "ai_edge_litert.schema_py_generated": ("ModelT.InitFromPackedBuf", "ModelT.Pack"),
    "ai_edge_quantizer.quantizer": ("Quantizer.calibrate", "Quantizer.quantize"),
    "litert_torch": ("convert",),
    "matplotlib.figure": ("Figure.savefig",),
}  # fmt: skip


#: Our own functions that go over the whole program, or over all its sources, again and again.
OFTEN = {"edgecompress.store.syntax": ("definitions",), "edgecompress.store.code": ("_Walk.reach",)}
#: So many calls of these are counted; the lines are the same ones afterwards.
COUNTED = 60


def counted_at_first(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function, during whose later calls the tracer is off."""
    calls, resting = itertools.count(), untraced(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if next(calls) < COUNTED else resting)(*args, **kwargs)

    return call


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function, during whose calls this thread's tracer and profiler, if there are any, are off."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        tracer, profiler = sys.gettrace(), sys.getprofile()
        sys.settrace(None)
        if callable(profiler):  # one written in C cannot be put back
            sys.setprofile(None)
        try:
            return function(*args, **kwargs)
        finally:
            if callable(profiler):
                sys.setprofile(profiler)
            sys.settrace(tracer)

    return call


class UntracedImports(importlib.abc.MetaPathFinder):
    """Finds the heavy packages as usual, and has them loaded untraced."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns what the path finder finds of a heavy package; the modules inside are loaded within its load."""
        if name not in HEAVY and name not in OFTEN:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        ours = name in OFTEN
        load = spec.loader.exec_module if ours else untraced(spec.loader.exec_module)

        def load_and_wrap(module: ModuleType) -> None:
            load(module)
            if not ours:
                gc.freeze()  # hundreds of thousands of objects, which stay: no collection looks through them again
            for function in OFTEN[name] if ours else HEAVY[name]:
                *owners, own = function.split(".")
                owner = functools.reduce(getattr, owners, module)
                known = getattr(owner, own)
                resting = counted_at_first(known) if ours else untraced(known)
                # A class method is bound already, and takes no instance.
                setattr(owner, own, staticmethod(resting) if hasattr(known, "__self__") else resting)

        spec.loader.exec_module = load_and_wrap  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Lets the tracer rest from now on; packages that are there already stay as they are."""
    sys.meta_path.insert(0, UntracedImports())
    # Who began to measure, for coverage's own makers: worked out in each forked process from all modules there are.
    collector.short_stack = lambda *_args, **_options: ""  # type: ignore[attr-defined]
