"""Stage verify: the shipped flatbuffer is opened again, scored on the whole test split and held against its twin.

This is the only stage that reads the test split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.quantization.repairs.settling import parting_layers
from edgecompress.recipe.schema import QuantizeSpec
from edgecompress.recipe.steps import final_stage, model_stages
from edgecompress.stages.base import MODEL, Workbench, flatbuffer_of, labels_of
from edgecompress.stages.exporting.streaming import check_step
from edgecompress.stages.exporting.text_notes import target_names, vocabulary_summary
from edgecompress.stages.quantizing.floating import floating_operators
from edgecompress.stages.quantizing.twins import LABELS, load_twin
from edgecompress.stages.verifying.analysis import analyse_run
from edgecompress.stages.verifying.census_reasons import census_reasons
from edgecompress.stages.verifying.evidence import Evidence
from edgecompress.stages.verifying.gate import check_twin, score
from edgecompress.stages.verifying.kernels import warn_of_wrong_kernels
from edgecompress.stages.verifying.leakage import warn_of_leakage
from edgecompress.stages.verifying.sample_text import sample_text
from edgecompress.store.files import write_json
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.facts.weights import most_values, weight_zeros
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.runtime.proof import REFERENCE
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.training.evaluate import outputs_of
from edgecompress.wording import counted, verb

PLOTS = "plots.json"


def run(bench: Workbench, work: Path) -> dict[str, Any]:
    """Scores every model of the run on the test split and checks the flatbuffer; `passed` tells the verdict."""
    split = bench.dataset.test
    path = flatbuffer_of(bench.results["export"], MODEL)
    model = read_model(path)
    rows, outputs, evidence = score_models(bench, path)
    labels = labels_of(bench.results["export"], LABELS)
    spec = bench.recipe.quantize or QuantizeSpec()
    floating = floating_operators(bench.recipe, model, labels)
    found = census(
        model, io=bench.recipe.io, labels=labels, activations=spec.activations, allow=spec.allow, floating=floating
    )
    metrics: dict[str, Any] = {
        "test_samples": len(split),
        "leaked_test_samples": warn_of_leakage(bench, outputs),
        "models": rows,
        "evidence": evidence,
        "census": found.as_dict(),
        "data": data_summary(bench),
        **ends(path),
    }
    reasons: list[str] = []
    warn_of_wrong_kernels(bench, model, labels, [REFERENCE])
    if bench.recipe.quantize is not None:
        twin = load_twin(bench.results["quantize"], bench.float_flatbuffer(final_stage(bench.recipe)))
        metrics |= check_twin(bench, twin, path, outputs, reasons)
        if bench.recipe.report.analysis != "none":
            metrics["analysis"] = analyse_run(bench, twin)
        reasons += [reason for _, reason in census_reasons(found, spec)]
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


def score_models(bench: Workbench, path: Path) -> tuple[dict[str, dict[str, Any]], NDArray[np.float32], dict[str, Any]]:
    """Returns row -> figures on the test split for every model of the run, the flatbuffer's outputs, and evidence."""
    task, split = bench.task, bench.dataset.test
    rows: dict[str, dict[str, Any]] = {}
    evidence = Evidence(bench)
    first: NDArray[np.float32] | None = None
    for row, stage in model_stages(bench.recipe):
        reader, model = bench.task_of(stage), bench.laid_out(bench.load(stage), stage)
        floating = outputs_of(model, reader, reader.dataset.test.inputs, bench.device)
        agreement = None if first is None else task.agreement(floating, first)
        first = floating if first is None else first  # no more than these two are kept: they may be large
        rows[row] = {**task.metrics(floating, split), "agreement_with_reference": agreement}
        evidence.add_float(row, stage, model, floating)
    outputs = score(bench, path)
    assert first is not None  # noqa: S101 - a recipe has a model
    rows["quantized"] = {
        **task.metrics(outputs, split),
        "agreement_with_reference": task.agreement(outputs, first),
        "agreement_with_float": task.agreement(outputs, floating),
    }
    evidence.add_result(outputs)
    return rows, outputs, evidence.document(outputs, floating)


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
        "subtracted": list(normalization.subtracted),
        "levels": list(normalization.levels),
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
