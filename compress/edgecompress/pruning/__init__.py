"""Pruning, usable without a pipeline: structured (channels go) and unstructured (weights become zero).

Names are imported when they are used: loading a pruned model needs no pruning library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecompress.pruning.architecture import apply_architecture, architecture_of
    from edgecompress.pruning.loading import load_pruned
    from edgecompress.pruning.structured.importance import BatchNormScale, GroupMagnitude, Importance, Taylor
    from edgecompress.pruning.structured.pruner import StructuredPruner
    from edgecompress.pruning.structured.results import PruningReport, StepReport
    from edgecompress.pruning.unstructured.masks import MagnitudeMasks, cubic_share, prunable_weights

__all__ = [
    "BatchNormScale",
    "GroupMagnitude",
    "Importance",
    "MagnitudeMasks",
    "PruningReport",
    "StepReport",
    "StructuredPruner",
    "Taylor",
    "apply_architecture",
    "architecture_of",
    "cubic_share",
    "load_pruned",
    "prunable_weights",
]

#: Name -> the module here that has it.
_HOMES = {
    "BatchNormScale": "importance",
    "GroupMagnitude": "importance",
    "Importance": "importance",
    "MagnitudeMasks": "unstructured",
    "PruningReport": "results",
    "StepReport": "results",
    "StructuredPruner": "structured",
    "Taylor": "importance",
    "apply_architecture": "architecture",
    "architecture_of": "architecture",
    "cubic_share": "unstructured",
    "load_pruned": "loading",
    "prunable_weights": "unstructured",
}


def __getattr__(name: str) -> Any:
    """Returns a public name of one of the modules here.

    Raises:
        AttributeError: There is none.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
