"""Sizes of a recipe's models, predicted without training anything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from edgecompress.context import Context
from edgecompress.models.count import count
from edgecompress.models.libraries.keras_models import KerasTeacher
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.trainings import trainings
from edgecompress.stages.base import FLOAT, Workbench
from edgecompress.stages.keras_teacher import keras_figures, matrix_weights
from edgecompress.stages.pruning.targets import find_aim, pruner_for
from edgecompress.store.store import Store
from edgecompress.training.defaults import settle

#: What is told of a training.
TOLD = ("epochs", "batch_size", "optimizer", "learning_rate")
#: What a flatbuffer holds beside weights: a fixed part, and some bytes per operator with its tensors.
FIXED_BYTES = 1_500
BYTES_PER_LAYER = 330
#: Per output channel of an INT8 layer: INT32 bias (4), weight scale (4), bias scale (4).
INT8_BYTES_PER_CHANNEL = 12


def predict_sizes(recipe: Recipe, ctx: Context, store: Store) -> list[dict[str, Any]]:
    """Returns parameters, MACs and estimated flatbuffer bytes of teacher, student and pruned model.

    Raises:
        ResourceError: Data or models cannot be used, or pruning cannot reach the asked share.
    """
    bench = Workbench(recipe, ctx, store)
    rows = []
    if recipe.teacher is not None:
        rows.append(_row(bench, bench.build(recipe.teacher, "teacher"), "teacher", recipe.teacher.model))
    model = bench.build(recipe.compressed)
    if recipe.student is not None:
        rows.append(_row(bench, model, "student", recipe.student.model))
    if recipe.prune is not None and recipe.prune.method == "structured":
        pruner = pruner_for(bench, model, recipe.prune, find_aim(bench, model, recipe.prune), recipe.prune.steps)
        for step in range(1, recipe.prune.steps + 1):
            pruner.prune_step(step)
        rows.append(_row(bench, model, "pruned", recipe.compressed.model))
    return rows


def settled_trainings(recipe: Recipe, ctx: Context, store: Store) -> list[dict[str, Any]]:
    """Returns how each stage that trains does it, with nothing left open: what a run would choose.

    Raises:
        ResourceError: Data or models cannot be used.
    """
    bench = Workbench(recipe, ctx, store)
    rows = []
    for stage, spec, habits in trainings(recipe):
        model = bench.build(bench.spec_of(stage), stage)
        found = settle(spec, model, len(bench.task_of(stage).dataset.train), habits)
        rows.append({"stage": stage, **{key: getattr(found, key) for key in TOLD}})
    return rows


def _row(bench: Workbench, model: nn.Module, key: str, name: str) -> dict[str, Any]:
    if isinstance(model, KerasTeacher):
        return {"key": key, "label": f"{key} {name}", **_keras_sizes(model)}
    data = bench.task_of(key).dataset
    counts = count(model, data.input_shape, data.input_dtype)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]  # noqa: SLF001
    channels = sum(layer.weight.shape[0] for layer in layers)
    weights = sum(layer.weight.numel() for layer in layers)
    structure = FIXED_BYTES + BYTES_PER_LAYER * len(layers)
    return {
        "key": key,
        "label": f"{key} {name}",
        "params": counts.params,
        "macs": counts.macs,
        "float_bytes": structure + 4 * (weights + channels),
        "int8_bytes": structure + weights + INT8_BYTES_PER_CHANNEL * channels,
    }


def _keras_sizes(model: KerasTeacher) -> dict[str, Any]:
    """Returns the figures of a Keras model; it is converted, which takes seconds and leaves nothing to estimate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FLOAT)
        path.write_bytes(model.flatbuffer())
        figures = keras_figures(model, path)
        float_bytes = path.stat().st_size
        # One byte in the place of four; the scales are little beside that.
        int8_bytes = float_bytes - 3 * matrix_weights(path)
    return {"params": figures["params"], "macs": figures["macs"], "float_bytes": float_bytes, "int8_bytes": int8_bytes}
