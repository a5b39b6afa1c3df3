"""The twin on disk: what the quantize stage leaves and the verify stage reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgecompress.models.weights import load_weights, save_weights
from edgecompress.quantization.twin.twin import Twin
from edgecompress.sources.border import of_result
from edgecompress.stages.base import WEIGHTS, labels_of
from edgecompress.stages.quantizing.building import readied
from edgecompress.store.files import write_bytes, write_json
from edgecompress.store.store import StageResult
from edgecompress.tflite.format.flatbuffer import read_content, read_model, write_model

STRUCTURE = "structure.tflite"
QUANTIZED = "quantized.tflite"
RANGES = "ranges.json"
LABELS = "labels.json"


class TwinRanges:
    """The activation ranges of a twin in training, which are no tensors of it."""

    def __init__(self, twin: Twin) -> None:
        """Takes the twin."""
        self._twin = twin

    def state(self) -> list[dict[str, Any]]:
        """Returns the ranges."""
        return self._twin.ranges()

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Takes ranges that `state` gave."""
        self._twin.load_ranges(state)


def save_twin(twin: Twin, structure: bytes, labels: list[str], work: Path) -> None:
    """Writes the twin's parts, and the INT8 flatbuffer with its ranges and weights."""
    write_bytes(work / STRUCTURE, structure)
    model = read_model(structure)
    twin.write_into(model)
    write_bytes(work / QUANTIZED, write_model(model))
    save_weights(twin, work / WEIGHTS)
    write_json(work / RANGES, twin.ranges())
    write_json(work / LABELS, labels)


def load_twin(quantized: StageResult, floating: Path) -> Twin:
    """Returns the twin of a finished quantize stage, on the CPU, in evaluation mode.

    Args:
        quantized: What the quantize stage left.
        floating: The float flatbuffer it started from.
    """
    labels = labels_of(quantized, LABELS)
    portable = bool(quantized.metrics.get("portable", False))
    original = read_content(floating)
    with of_result(quantized):
        original = readied(original, quantized.metrics.get("pace", "as it is"))
        twin = Twin(read_model(quantized.path(STRUCTURE)), read_model(original), labels, portable=portable)
        load_weights(twin, quantized.path(WEIGHTS))
        twin.load_ranges(json.loads(quantized.path(RANGES).read_text()))
    return twin.eval()
