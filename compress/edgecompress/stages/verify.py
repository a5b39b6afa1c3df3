"""Stage verify: the shipped flatbuffer is opened again, scored on the whole test split and held against its twin.

This is the only stage that reads the test split.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecompress.quantization.repairs.settling import parting_layers
from edgecompress.quantization.structure.support import becomes_integer
from edgecompress.recipe.schema import QuantizeSpec
from edgecompress.recipe.steps import final_stage, model_stages
from edgecompress.stages.base import MODEL, Workbench
from edgecompress.stages.exporting.streaming import check_step
from edgecompress.stages.exporting.text_notes import target_names, vocabulary_summary
from edgecompress.stages.quantizing.floating import floating_operators
from edgecompress.stages.quantizing.twins import LABELS, load_twin
from edgecompress.stages.verifying.analysis import analyse_run
from edgecompress.stages.verifying.gate import check_twin, score
from edgecompress.stages.verifying.leakage import warn_of_leakage
from edgecompress.stages.verifying.sample_text import sample_text
from edgecompress.store.files import write_json
from edgecompress.tflite.facts.census import Census, NotInt8, census
from edgecompress.tflite.facts.weights import most_values, weight_zeros
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import CONVERSIONS
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.training.evaluate import outputs_of
from edgecompress.wording import counted, verb

PLOTS = "plots.json"


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Scores every model of the run on the test split and checks the flatbuffer; `passed` tells the verdict."""
    split = bench.dataset.test
    path = bench.results["export"].path(MODEL)
    model = read_model(path)
    rows, outputs = score_models(bench, path)
    labels = json.loads(bench.results["export"].path(LABELS).read_text())
    spec = bench.recipe.quantize or QuantizeSpec()
    floating = floating_operators(bench.recipe, model, labels)
    found = census(
        model, io=bench.recipe.io, labels=labels, activations=spec.activations, allow=spec.allow, floating=floating
    )
    metrics: dict[str, Any] = {
        "test_samples": len(split),
        "leaked_test_samples": warn_of_leakage(bench, outputs),
        "models": rows,
        "census": found.as_dict(),
        "data": data_summary(bench),
        **ends(path),
    }
    reasons: list[str] = []
    if bench.recipe.quantize is not None:
        twin = load_twin(bench.results["quantize"], bench.float_flatbuffer(final_stage(bench.recipe)))
        metrics |= check_twin(bench, twin, path, outputs, reasons)
        metrics["analysis"] = analyse_run(bench, twin)
        reasons += census_reasons(found, spec)
    if spec.clusters is not None:
        metrics["most_values"] = most_values(model)
        if metrics["most_values"] > spec.clusters:
            reasons.append(
                f"a weight tensor has {metrics['most_values']} values in the file, but {spec.clusters} at most were "
                "asked (quantize.clusters)"
            )
    if spec.portable:
        metrics["parting"] = parting_layers(model, labels)
    metrics["streaming"] = check_step(bench, reasons)
    zeros = metrics["sparsity"] = sparsity(bench, path)
    if zeros is not None and zeros["zeros_in_file"] < zeros["masked_weights"]:
        kept, masked = zeros["zeros_in_file"], zeros["masked_weights"]
        reasons.append(
            f"only {counted(kept, 'weight')} {verb(kept, 'is', 'are')} zero in the file, but {masked:,} were masked"
        )
    plots = bench.task.plots(outputs, split)
    if bench.recipe.task == "language-modeling":
        plots["sample"] = sample_text(bench, path)
    write_json(work / PLOTS, plots)
    return {**metrics, "passed": not reasons, "reasons": reasons}


def score_models(bench: Workbench, path: Path) -> tuple[dict[str, dict[str, Any]], NDArray[np.float32]]:
    """Returns row -> figures on the test split for every model of the run, and the flatbuffer's outputs."""
    task, split = bench.task, bench.dataset.test
    rows: dict[str, dict[str, Any]] = {}
    first: NDArray[np.float32] | None = None
    for row, stage in model_stages(bench.recipe):
        reader = bench.task_of(stage)
        floating = outputs_of(
            bench.laid_out(bench.load(stage), stage), reader, reader.dataset.test.inputs, bench.device
        )
        agreement = None if first is None else task.agreement(floating, first)
        first = floating if first is None else first  # no more than these two are kept: they may be large
        rows[row] = {**task.metrics(floating, split), "agreement_with_reference": agreement}
    outputs = score(bench, path)
    assert first is not None  # noqa: S101 - a recipe has a model
    rows["quantized"] = {
        **task.metrics(outputs, split),
        "agreement_with_reference": task.agreement(outputs, first),
        "agreement_with_float": task.agreement(outputs, floating),
    }
    return rows, outputs


def census_reasons(found: Census, spec: QuantizeSpec) -> list[str]:
    """Returns what is not as the recipe asks and what can be done about it; conversions only where they stand alone.

    An operator in float has them around it, and they go with it.
    """
    blamed = [item for item in found.not_int8 if item.op not in CONVERSIONS] or found.not_int8
    return [f"{item.op} (layer {item.layer}) holds {item.dtype}: {item.why}. {way_out(item, spec)}" for item in blamed]


def way_out(item: NotInt8, spec: QuantizeSpec) -> str:
    """Returns what can be done about an operator that does not have the types it should; only what helps for this one.

    Another choice of activations helps where the operator has a kernel for it, `allow` for the types it can name, and
    for those only where activations are integers at all.
    """
    static: dict[str, Literal["int8", "int16"]] = {"int8": "int8", "int16": "int16"}
    meant = static.get(spec.activations)
    if meant is None:
        return f"Build the layer from other operators than {item.op}"
    if meant == "int16" and becomes_integer(item.op, "int8"):
        first = f"{item.op} has an INT8 kernel but none for INT16: use `quantize.activations: int8`"
    elif becomes_integer(item.op, meant):
        first = f"{item.op} has an {meant.upper()} kernel, but not for what it gets here: build the layer otherwise"
    else:
        first = f"{item.op} has no {meant.upper()} kernel: build the layer from operators that have one"
    return f"{first}, or allow it by `quantize.allow: [{item.dtype}]`" if item.dtype in ("int16", "float32") else first


def data_summary(bench: Workbench) -> dict[str, Any]:
    """Returns what the report says of the data."""
    dataset, normalization = bench.dataset, bench.dataset.normalization
    return {
        "source": dataset.name,
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": len(dataset.test),
        "classes": list(dataset.class_names),
        "input_shape": list(dataset.input_shape),
        "value_scale": normalization.value_scale,
        "mean": list(normalization.mean),
        "std": list(normalization.std),
        "origin": normalization.origin,
        "clip": normalization.clip,
        "notes": list(dataset.notes),
        "kind": dataset.kind,
        "front_end": None if dataset.front_end is None else dict(dataset.front_end),
        "vocabulary": vocabulary_summary(dataset.vocabulary),
        "targets": [
            {"name": name, "mean": mean, "std": std}
            for name, mean, std in zip(target_names(dataset), dataset.target_mean, dataset.target_std, strict=True)
        ],
    }


def ends(path: Path) -> dict[str, Any]:
    """Returns the flatbuffer's input and output as the file has them."""
    session = RUNTIMES["litert"].session(path, threads=1)
    return {
        end: {
            "dtype": str(details.dtype),
            "shape": list(details.shape),
            "scale": details.scale if details.quantized else None,
            "zero_point": details.zero_point if details.quantized else None,
        }
        for end, details in (("input", session.input), ("output", session.output))
    }


def sparsity(bench: Workbench, path: Path) -> dict[str, Any] | None:
    """Returns the zeros of the shipped weights beside the masked ones, None where nothing was masked."""
    prune = bench.recipe.prune
    if prune is None or prune.method != "unstructured":
        return None
    figures = bench.results["prune"].metrics
    zeros, total = weight_zeros(read_model(path))
    return {
        "masked_weights": figures["masked_weights"],
        "prunable_weights": figures["prunable_weights"],
        "zeros_in_file": zeros,
        "weights_in_file": total,
        "zeros_from_rounding": max(zeros - figures["masked_weights"], 0),
        "share": zeros / max(total, 1),
    }
