"""Parts of a network that stay float32 where all else is INT8 (`quantize.norms` and its like).

The report names them, and verification lets these be float32 and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.graph.graph import read_graph
from edgecompress.quantization.structure.attention import find_softmax
from edgecompress.quantization.structure.cells import cell_operators, find_cells
from edgecompress.quantization.structure.divisions import find_divisions
from edgecompress.quantization.structure.norms import find_norms, norm_operators
from edgecompress.quantization.structure.scheme import FloatPart, Scheme
from edgecompress.recipe.schema import Recipe
from edgecompress.recipe.steps import final_stage
from edgecompress.stages.base import Workbench
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import operator_labels

#: Key of `quantize` -> what a warning calls these parts.
PARTS = {
    "norms": "layer norms",
    "cells": "LSTM cells or GRU states",
    "softmax": "softmax but that of its answer",
    "divisions": "divisions by what it computes",
}


def floating_parts(recipe: Recipe, floating: schema.ModelT, labels: list[str]) -> dict[str, FloatPart]:
    """Returns what a recipe leaves in float32, by the key of `quantize` that says so.

    Args:
        recipe: What was asked for.
        floating: The float32 flatbuffer of the network that is quantized.
        labels: A unique layer name per operator.
    """
    parts: dict[str, FloatPart] = {}
    if recipe.float_norms:
        parts["norms"] = find_norms(read_graph(floating, labels))
    if recipe.float_cells:
        parts["cells"] = find_cells(floating, labels)
    if recipe.float_softmax:
        parts["softmax"] = find_softmax(read_graph(floating, labels))
    if recipe.float_divisions:
        parts["divisions"] = find_divisions(read_graph(floating, labels))
    return parts


def with_floats(scheme: Scheme, parts: Mapping[str, FloatPart]) -> Scheme:
    """Returns a scheme with such parts in float32."""
    for part in parts.values():
        scheme = part.scheme(scheme)
    return scheme


def parts_of(bench: Workbench) -> dict[str, FloatPart]:
    """Returns what stays float32 of the network that is quantized."""
    if not bench.recipe.float_parts:
        return {}
    return floating_parts(bench.recipe, *_floating(bench))


def norms_of(bench: Workbench) -> FloatPart:
    """Returns the norms of the network that is quantized, and the sums they read."""
    return find_norms(read_graph(*_floating(bench)))


def told(bench: Workbench, parts: Mapping[str, FloatPart]) -> dict[str, Any]:
    """Returns the layers of such parts as report.json has them; warns where a recipe asks for some and has none."""
    found: dict[str, Any] = {}
    for key, name in PARTS.items():
        part = parts.get(key)
        if part is not None and part.layers:
            found[f"float_{key}"] = list(part.layers)
        elif getattr(bench.recipe.quantize, key) == "float32":
            bench.ctx.warn(f"quantize.{key}: float32 changes nothing: the network has no {name}.")
    return found


def floating_operators(recipe: Recipe, model: schema.ModelT, labels: list[str]) -> dict[int, str]:
    """Returns the positions of operators that a recipe leaves in float32 -> the key that says so.

    Args:
        recipe: What was asked for.
        model: The quantized flatbuffer.
        labels: A unique layer name per operator.
    """
    norms = norm_operators(model, labels) if recipe.float_norms else ()
    cells = cell_operators(model, labels) if recipe.float_cells else ()
    graph = read_graph(model, labels)
    softmax = find_softmax(graph).with_conversions(graph.nodes) if recipe.float_softmax else ()
    divisions = find_divisions(graph).with_conversions(graph.nodes) if recipe.float_divisions else ()
    keys = {"norms": norms, "cells": cells, "divisions": divisions, "softmax": softmax}
    return {k: f"quantize.{key}" for key, positions in keys.items() for k in positions}


def _floating(bench: Workbench) -> tuple[schema.ModelT, list[str]]:
    stage = final_stage(bench.recipe)
    floating = read_model(bench.float_flatbuffer(stage))
    return floating, operator_labels(floating, bench.load(stage))
