"""From the stages' results to what a report is made of."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from edgecompress.figures import figures_of
from edgecompress.machine import cores, cpu_name
from edgecompress.pipeline.plan import Plan
from edgecompress.recipe.schema import DistillSpec, Recipe
from edgecompress.report.schema import (
    BenchmarkSummary,
    DataSummary,
    FlatbufferSummary,
    LatencySummary,
    ModelRow,
    ReportInputs,
    StepSummary,
    TensorSummary,
    VerificationSummary,
)
from edgecompress.report.verdict import training_of
from edgecompress.store.reading import read_document
from edgecompress.store.store import StageResult

LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "torch-pruning",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "zstandard",
)
#: The models in the order they are made; the last one is the result.
ROWS = ("teacher", "student", "pruned", "quantized")
#: What a figure's name begins with where it is of the validation split.
VALIDATION = "validation_"
#: Row of the report -> stage that made its model.
MODEL_STAGES = {"teacher": "teacher", "student": "distill", "pruned": "prune"}


def report_inputs(
    recipe: Recipe, plan: Plan, results: dict[str, StageResult], *, created_at: str, files: dict[str, str]
) -> ReportInputs:
    """Returns everything a report says, from the results of all stages.

    Args:
        recipe: The run's recipe.
        plan: As it was before the run: what had a result then was reused.
        results: By stage.
        created_at: ISO 8601.
        files: Name -> sha256 of the files in the run's folder.
    """
    verify = results["verify"].metrics
    return ReportInputs(
        created_at=created_at,
        data=DataSummary(**{key: _tuple(value) for key, value in verify["data"].items()}, sha256=plan.data_sha256),
        models=_models(recipe, results),
        steps=tuple(
            StepSummary(
                step.stage,
                "cached" if step.result is not None else "ran",
                results[step.stage].seconds,
                step.fingerprint,
                results[step.stage].warnings,
                tuple(_json_file(results[step.stage], "curve.json") or ()),
                step.kept,
            )
            for step in plan.steps
        ),
        benchmark=BenchmarkSummary(recipe.benchmark.runtimes, recipe.benchmark.threads, recipe.benchmark.runs),
        input=TensorSummary(**{**verify["input"], "shape": tuple(verify["input"]["shape"])}),
        output=TensorSummary(**{**verify["output"], "shape": tuple(verify["output"]["shape"])}),
        environment=environment(),
        files=files,
        verification=VerificationSummary(
            passed=verify["passed"],
            census=verify["census"],
            reasons=tuple(verify["reasons"]),
            twin=verify.get("twin"),
            first_differing_layer=verify.get("first_differing_layer"),
            layers=tuple(verify.get("layers", ())),
        ),
        sparsity=verify.get("sparsity"),
        streaming=verify.get("streaming"),
        pruning=results["prune"].metrics if "prune" in results else None,
        distillation=_distillation(recipe, results),
        quantization=_quantization(recipe, results),
        analysis=verify.get("analysis"),
        evidence=evidence(results),
        runtimes=tuple(results["benchmark"].metrics.get("runtimes", ())),
        plots=_json_file(results["verify"], "plots.json") or {},
    )


def evidence(results: Mapping[str, StageResult]) -> dict[str, Any]:
    """Returns what the verdict is made from: what verify found on the test split, and how networks were trained."""
    trainings = [
        training_of(stage, results[stage].metrics)
        for stage in ("teacher", "distill")
        if stage in results and "optimizer_steps" in results[stage].metrics
    ]
    found = results["verify"].metrics.get("evidence") if "verify" in results else None
    return {**(found or {}), "trainings": trainings}


def _models(recipe: Recipe, results: dict[str, StageResult]) -> tuple[ModelRow, ...]:
    exported = results["export"].metrics["flatbuffers"]
    scores = results["verify"].metrics["models"]
    latency = results["benchmark"].metrics["latency"]
    rows = []
    final: dict[str, Any] = {}
    for key in (key for key in ROWS if key in exported):  # a manifest keeps its keys in alphabetical order
        if key == "quantized":
            own = results["quantize"].metrics if "quantize" in results else final
            unscored = {key: value for key, value in final.items() if not key.startswith(VALIDATION)}
            figures = {**unscored, **{key: own[key] for key in own if key.startswith(VALIDATION)}}
            sparsity = results["verify"].metrics.get("sparsity")
            if sparsity is not None:
                figures["nonzero_params"] = figures["params"] - sparsity["zeros_in_file"]
        else:
            figures = final = results[MODEL_STAGES[key]].metrics
        spec = recipe.teacher if key == "teacher" else recipe.compressed
        rows.append(
            ModelRow(
                key=key,
                model=spec.model if spec is not None else "",
                params=figures["params"],
                nonzero_params=figures["nonzero_params"],
                macs=figures["macs"],
                flatbuffer=FlatbufferSummary(**exported[key]),
                accuracy=scores[key].get("accuracy"),
                macro_f1=scores[key].get("macro_f1"),
                validation_accuracy=figures.get("validation_accuracy"),
                agreement_with_reference=scores[key].get("agreement_with_reference"),
                agreement_with_float=scores[key].get("agreement_with_float"),
                latency={
                    runtime: LatencySummary(measured["p50_ms"], measured["p95_ms"])
                    for runtime, measured in latency[key].items()
                },
                metrics=_named(recipe, scores[key], ""),
                validation_metrics=_named(recipe, figures, VALIDATION),
            )
        )
    return tuple(rows)


def _named(recipe: Recipe, found: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Returns the figures of the recipe's task that are among others, by name."""
    keys = [figure.key for figure in figures_of(recipe.task)]
    return {key: found[prefix + key] for key in keys if found.get(prefix + key) is not None}


def _distillation(recipe: Recipe, results: dict[str, StageResult]) -> dict[str, Any] | None:
    learners = [
        stage
        for stage in ("distill", "prune", "quantize")
        if stage in results and results[stage].metrics.get("distilled")
    ]
    if not learners:
        return None
    spec = recipe.distill or DistillSpec()
    found = {"temperature": spec.temperature, "alpha": spec.alpha, "views": spec.views, "stages": learners}
    return {**found, "teacher_outputs": results["teacher"].metrics.get("outputs")}


def _quantization(recipe: Recipe, results: dict[str, StageResult]) -> dict[str, Any] | None:
    """Returns the quantize stage's figures, with what the file has of what was asked: clustered or portable weights."""
    if "quantize" not in results:
        return None
    figures: dict[str, Any] = dict(results["quantize"].metrics)
    if recipe.quantize is not None and recipe.quantize.clusters is not None:
        without = results["export"].metrics["unclustered"]
        figures["clusters"] = {
            "asked": recipe.quantize.clusters,
            "largest": results["verify"].metrics["most_values"],
            "unclustered_gzip_bytes": without["gzip_bytes"],
            "unclustered_zstd_bytes": without["zstd_bytes"],
        }
    if recipe.quantize is not None and recipe.quantize.portable:
        figures["parting"] = results["verify"].metrics["parting"]
    return figures


def environment() -> dict[str, Any]:
    """Returns the machine and the versions that a measurement depends on."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": cores(),
        "versions": versions,
    }


def _json_file(result: StageResult, name: str) -> Any:
    return read_document(result.path(name), "a document of a stage") if name in result.artifacts else None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
