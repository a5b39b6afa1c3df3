"""Stage export: the flatbuffer to ship, and the float ones it is measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgecompress.recipe.steps import final_stage, model_stages
from edgecompress.stages.base import MODEL, Workbench, flatbuffer_of, labels_of
from edgecompress.stages.exporting.encoding import encoded
from edgecompress.stages.exporting.notes import metadata_of, raw_pixel_steps
from edgecompress.stages.exporting.streaming import write_step
from edgecompress.stages.quantizing.twins import LABELS, QUANTIZED, STRUCTURE, load_twin
from edgecompress.store.files import write_bytes, write_json
from edgecompress.tflite.facts.accounting import account
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import packed_sizes, read_model
from edgecompress.tflite.format.labels import operator_labels

#: How text becomes tokens; it is put into the run's folder.
VOCABULARY = "vocabulary.json"


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Writes model.tflite with the asked input and output type, and the float32 flatbuffer of every model before it."""
    metrics: dict[str, Any] = {"flatbuffers": {}}
    for row, stage in model_stages(bench.recipe):
        model = read_model(bench.float_flatbuffer(stage))
        content, _ = finish(model, operator_labels(model, bench.load(stage)), "float32")
        write_bytes(work / f"{row}.tflite", content)
        metrics["flatbuffers"][row] = {"file": f"{row}.tflite", "dtype": "float32", **account(work / f"{row}.tflite")}
    if bench.recipe.quantize is not None:
        quantized = bench.results["quantize"]
        labels = labels_of(quantized, LABELS)
        source, io, dtype = flatbuffer_of(quantized, QUANTIZED), bench.recipe.io, bench.recipe.quantize.types
    else:
        bench.ctx.warn("The flatbuffer is float32: the recipe has no quantize block.")
        source, io, dtype = bench.float_flatbuffer(final_stage(bench.recipe)), "float32", "float32"
        labels = operator_labels(read_model(source), bench.load(final_stage(bench.recipe)))
    notes, files = metadata_of(bench.recipe, bench.dataset, read_model(source))

    def finished(model: schema.ModelT, *, sparse: bool) -> tuple[bytes, list[str]]:
        return finish(model, labels, io, notes, files, sparse=sparse)

    content, names, sparse = encoded(bench, lambda sparse: finished(read_model(source), sparse=sparse))
    if bench.recipe.quantize is not None and bench.recipe.quantize.clusters is not None:
        unclustered, _ = finished(unclustered_model(bench), sparse=sparse is not None)
        metrics["unclustered"] = packed_sizes(unclustered)
    if notes is not None and io == "uint8" and notes.inputs[0].content == "image":
        steps = raw_pixel_steps(content, notes.inputs[0])
        if steps > 1:
            bench.ctx.warn(
                f"Mobile libraries feed uint8 inputs with the pixels as they are; this file's input differs from them "
                f"by up to {steps} of 255 steps, since its channels are normalised differently. Use export.io: float32 "
                "with such a library, or quantize the input as the report's formula says."
            )
    write_bytes(work / MODEL, content)
    write_json(work / LABELS, names)
    if bench.dataset.vocabulary is not None:
        write_json(work / VOCABULARY, bench.dataset.vocabulary.document())
    metrics["flatbuffers"]["quantized"] = {"file": MODEL, "dtype": dtype, **account(work / MODEL), "sparse": sparse}
    metrics["io"] = bench.recipe.io
    if bench.recipe.export.streaming:
        metrics["streaming"] = write_step(bench, work)
    return metrics


def unclustered_model(bench: Workbench) -> schema.ModelT:
    """Returns the quantized flatbuffer with its weights rounded to all integers there are."""
    quantized = bench.results["quantize"]
    twin = load_twin(quantized, bench.float_flatbuffer(final_stage(bench.recipe)))
    twin.codebooks = {}
    model = read_model(flatbuffer_of(quantized, STRUCTURE))
    twin.write_into(model)
    return model
