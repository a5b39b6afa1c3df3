"""Pruning, usable without a pipeline: structured (channels go) and unstructured (weights become zero)."""

from compress.pruning.architecture import apply_architecture, architecture_of
from compress.pruning.importance import BatchNormScale, GroupMagnitude, Importance, Taylor
from compress.pruning.results import PruningReport, StepReport
from compress.pruning.structured import StructuredPruner
from compress.pruning.unstructured import MagnitudeMasks, cubic_share, prunable_weights

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
    "prunable_weights",
]
