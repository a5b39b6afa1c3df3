"""Distil, prune and quantize neural networks into INT8 TFLite flatbuffers.

`run` carries out a recipe, `load_recipe` reads and checks one, `load_pruned` brings a pruned model back. What they
raise is in `edgecompress.errors`. Each is imported when it is first asked for: importing the package loads no library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgecompress.machine import wait_patiently
from edgecompress.version import __version__

if TYPE_CHECKING:
    from edgecompress.pipeline.library import run
    from edgecompress.pruning.loading import load_pruned
    from edgecompress.recipe.reading.load import load_recipe

__all__ = ["__version__", "load_pruned", "load_recipe", "run"]

#: Name -> the module it is imported from.
_PLACES = {
    "load_pruned": "edgecompress.pruning.loading",
    "load_recipe": "edgecompress.recipe.reading.load",
    "run": "edgecompress.pipeline.library",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    wait_patiently()
    found = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
