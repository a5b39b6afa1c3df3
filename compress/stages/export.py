"""Stage export: the flatbuffer to ship, and the float ones it is measured against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.artifact import write_bytes, write_json
from compress.stages.base import MODEL, Workbench, final_stage, model_stages
from compress.stages.twins import LABELS, QUANTIZED
from compress.tflite.finish import finish
from compress.tflite.flatbuffer import read_model, sizes
from compress.tflite.labels import operator_labels


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Writes model.tflite with the asked input and output type, and the float32 flatbuffer of every model before it."""
    metrics: dict[str, Any] = {"flatbuffers": {}}
    for row, stage in model_stages(bench.recipe):
        model = read_model(bench.float_flatbuffer(stage))
        content, _ = finish(model, operator_labels(model, bench.load(stage)), "float32")
        write_bytes(work / f"{row}.tflite", content)
        metrics["flatbuffers"][row] = {"file": f"{row}.tflite", "dtype": "float32", **sizes(work / f"{row}.tflite")}
    if bench.recipe.quantize is not None:
        quantized = bench.results["quantize"]
        labels = json.loads(quantized.path(LABELS).read_text())
        content, labels = finish(read_model(quantized.path(QUANTIZED)), labels, bench.recipe.io)
        dtype = "int8"
    else:
        bench.ctx.warn("The flatbuffer is float32: the recipe has no quantize block.")
        model = read_model(bench.float_flatbuffer(final_stage(bench.recipe)))
        content, labels = finish(model, operator_labels(model, bench.load(final_stage(bench.recipe))), "float32")
        dtype = "float32"
    write_bytes(work / MODEL, content)
    write_json(work / LABELS, labels)
    metrics["flatbuffers"]["quantized"] = {"file": MODEL, "dtype": dtype, **sizes(work / MODEL)}
    metrics["io"] = bench.recipe.io
    return metrics
