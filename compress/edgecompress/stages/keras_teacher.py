"""A Keras model as the teacher of a run: its flatbuffer, its figures, and whether the data suits its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.data.base import Dataset
from edgecompress.errors import ModelError
from edgecompress.models.libraries.keras_models import KerasTeacher
from edgecompress.recipe.schema import ModelSpec
from edgecompress.tflite.facts.weights import macs
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views


def require_known_range(spec: ModelSpec, dataset: Dataset) -> None:
    """Raises where a model takes values from 0 to 1 or bytes, and the data's values are neither.

    Raises:
        ModelError: The data's values go beyond 0 and 1.
    """
    kind = spec.args.get("input", "normalized")
    seen = dataset.train.inputs if len(dataset.train) else dataset.test.inputs
    if kind == "normalized" or seen.dtype == np.uint8 or not seen.size:
        return
    least, largest = (float(end) * dataset.normalization.value_scale for end in (seen.min(), seen.max()))
    if least < 0 or largest > 1:
        raise ModelError(
            f"model {spec.model}: `input: {kind}` needs values from 0 to 1, or bytes, but the data's go from {least:g} "
            f"to {largest:g}. Scale the data, or put the preprocessing into the model and write `input: normalized`."
        )


def keras_figures(model: KerasTeacher, flatbuffer: Path) -> dict[str, Any]:
    """Returns parameters and non-zero parameters of a Keras model, and the MACs of its flatbuffer."""
    graphs = graph_views(read_model(flatbuffer))
    return {
        "params": model.params,
        "nonzero_params": model.nonzero_params,
        "macs": sum(macs(graph, op) or 0 for graph in graphs for op in graph.ops),
    }


def matrix_weights(flatbuffer: Path) -> int:
    """Returns how many weights of convolutions and linear layers a flatbuffer holds."""
    weights = {}
    for number, graph in enumerate(graph_views(read_model(flatbuffer))):
        for op in graph.ops:
            weight = graph.weight(op)
            if weight is not None:
                weights[number, weight.index] = weight.size
    return sum(weights.values())
