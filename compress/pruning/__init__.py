"""Pruning, usable without a pipeline: structured (channels go) and unstructured (weights become zero)."""

from compress.pruning.architecture import apply_architecture, architecture_of
from compress.pruning.structured import PruningReport, StepReport, StructuredPruner
from compress.pruning.unstructured import MagnitudeMasks, cubic_share, prunable_weights

__all__ = [
    "MagnitudeMasks",
    "PruningReport",
    "StepReport",
    "StructuredPruner",
    "apply_architecture",
    "architecture_of",
    "cubic_share",
    "prunable_weights",
]
