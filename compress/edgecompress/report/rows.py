"""Figures worked out from the models' rows: the noise of an accuracy, ratios to a named reference, and warnings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgecompress.figures import Figure, figures_of, main_figure
from edgecompress.report.budget import BudgetFigures
from edgecompress.report.intervals import SIGNIFICANT, wilson_percent
from edgecompress.report.numbers import kib, milliseconds, percent, ratio
from edgecompress.report.schema import BenchmarkSummary, ModelRow, ReportInputs
from edgecompress.report.verdict import interval_text, paired_text
from edgecompress.wording import counted, verb

#: Fewer test samples than this tell accuracies apart only roughly.
SMALL_TEST = 1000
#: Operators that only turn one type into another.
CONVERSIONS = frozenset({"DEQUANTIZE", "QUANTIZE"})
#: How the census begins to tell why operators of a kind are not INT8 -> their key in `quantization`, and their name.
KINDS = {
    "quantize.cells": ("float_cells", "gates and states"),
    "quantize.softmax": ("float_softmax", "softmax"),
    "quantize.divisions": ("float_divisions", "divisions"),
}
TITLES = {"teacher": "Teacher", "student": "Student", "pruned": "Pruned"}


def standard_error(accuracy: float | None, samples: int) -> float | None:
    """Returns the binomial standard error of an accuracy, in points: 100 * sqrt(p (1 - p) / n)."""
    if accuracy is None or samples < 1:
        return None
    share = accuracy / 100
    return 100 * math.sqrt(max(share * (1 - share), 0.0) / samples)


def title(row: ModelRow, *, result: bool, wider: Sequence[str] = ()) -> str:
    """Returns a row's label, such as `Teacher resnet9` or, for the last one, `Result, INT8 with 2 layers in int16`.

    Args:
        row: The model.
        result: Whether it is the last one.
        wider: As `wider_parts` gave it, for the last one.
    """
    if result:
        dtype = row.flatbuffer.dtype
        listed = " and ".join(wider)
        types = "FP32" if dtype == "float32" else dtype.replace("int", "INT")
        return f"Result, {types}{' with ' if listed else ''}{listed}"
    return f"{TITLES.get(row.key, row.key.capitalize())} {row.model}"


def wider_parts(inputs: ReportInputs) -> tuple[str, ...]:
    """Returns what of the result is wider than its activations are meant to be: how many layers, by type; and parts.

    Operators of every step, or of every attention, are no layers.
    """
    meant = (inputs.quantization or {}).get("activations")
    if inputs.verification is None or meant not in ("int8", "int16"):
        return ()
    census = inputs.verification.census
    found = {
        (item["dtype"], item["layer"])
        for item in (*census.get("allowed", ()), *census["not_int8"])
        if item["op"] not in CONVERSIONS and item["dtype"] != meant and not item["why"].startswith(tuple(KINDS))
    }
    counts = sorted(Counter(dtype for dtype, _ in found).items())
    kinds = [name for key, name in KINDS.values() if (inputs.quantization or {}).get(key)]
    in_float = (f"{' and '.join(kinds)} in float32",) if kinds else ()
    return (*in_float, *(f"{counted(count, 'layer')} in {kind}" for kind, count in counts))


def base_row(models: Sequence[ModelRow], key: str) -> ModelRow | None:
    """Returns the float row `key` (teacher or student), None where the run has none."""
    return next((row for row in models[:-1] if row.key == key), None)


def p50(row: ModelRow, benchmark: BenchmarkSummary) -> float | None:
    """Returns a row's p50 latency in milliseconds on the first runtime."""
    latency = row.latency.get(benchmark.runtimes[0])
    return latency.p50_ms if latency is not None else None


def ratios_against(
    key: str,
    models: Sequence[ModelRow],
    benchmark: BenchmarkSummary,
    figure: Figure,
    evidence: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Returns reference / result for size, latency, parameters and MACs, and the difference in the task's figure.

    A ratio above 1 means that the result is smaller or faster; `accuracy_points` below 0 and `lost` above 0 mean that
    it is worse.
    """
    base, result = base_row(models, key), models[-1]
    if base is None:
        return None
    before, after = p50(base, benchmark), p50(result, benchmark)
    known = base.accuracy is not None and result.accuracy is not None
    value, reference = (row.figures.get(figure.key) for row in (result, base))
    return {
        "reference": f"FP32 {base.key} {base.model}",
        "file": base.flatbuffer.file,
        "size": _divide(base.flatbuffer.size_bytes, result.flatbuffer.size_bytes),
        "gzip": _divide(base.flatbuffer.gzip_bytes, result.flatbuffer.gzip_bytes),
        "zstd": _divide(base.flatbuffer.zstd_bytes, result.flatbuffer.zstd_bytes),
        "latency": _divide(before, after),
        "runtime": benchmark.runtimes[0],
        "params": _divide(base.params, result.params),
        "nonzero_params": _divide(base.nonzero_params, result.nonzero_params),
        "macs": _divide(base.macs, result.macs),
        "accuracy_points": (result.accuracy or 0.0) - (base.accuracy or 0.0) if known else None,
        "lost": None if None in (value, reference) else figure.lost(value or 0.0, reference or 0.0),
        "paired": paired_with(key, evidence),
    }


def paired_with(key: str, evidence: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns how the result compares with a float model on the same samples; None where that was not gathered."""
    found = next((one for one in (evidence or {}).get("paired") or () if one["key"] == key), None)
    return None if found is None else {name: value for name, value in found.items() if name != "key"}


def _divide(reference: float | None, result: float | None) -> float | None:
    return None if reference is None or not result else reference / result


def budget_figures(inputs: ReportInputs, task: str) -> BudgetFigures:
    """Returns what the budget's limits are held against."""
    result = inputs.models[-1]
    base = base_row(inputs.models, "teacher") or base_row(inputs.models, "student")
    return BudgetFigures(
        figure=main_figure(task),
        metrics=result.figures,
        reference_metrics=base.figures if base is not None else {},
        reference=f"the FP32 {base.key} {base.model}" if base is not None else "the FP32 model",
        size_bytes=result.flatbuffer.size_bytes,
        latency_ms=p50(result, inputs.benchmark),
        runtime=inputs.benchmark.runtimes[0],
        arena_bytes=next((proof["arena_bytes"] for proof in inputs.runtimes if proof["arena_bytes"]), None),
        agreement=result.agreement_with_float,
    )


def warnings_of(inputs: ReportInputs, task: str) -> list[str]:
    """Returns what a reader should know before relying on the figures, in plain sentences, without repetitions."""
    found = [*_about_result(inputs), *_about_noise(inputs, task), *inputs.data.notes]
    for step in inputs.steps:
        found += step.warnings
        if step.kept_code:
            rooms = ", ".join(step.kept_code)
            found.append(
                f"Stage {step.stage} was made by other code of the program (--keep-cache): {rooms} changed since."
            )
    return list(dict.fromkeys(found))


def _about_result(inputs: ReportInputs) -> list[str]:
    found = []
    result, runtimes = inputs.models[-1], " and ".join(inputs.benchmark.runtimes)
    if result.flatbuffer.dtype == "float32":
        found.append("The result is not quantized: it computes in float32. A quantize block would make it smaller.")
    if inputs.sparsity is not None:
        found.append(
            f"Unstructured sparsity does not make this faster on this runtime ({runtimes}): zeros are multiplied like "
            "any other weight. It pays where the file is stored or sent compressed."
        )
    for key in ("teacher", "student"):
        base = base_row(inputs.models, key)
        if base is not None:
            found += _worse_than(base, result, inputs.benchmark)
    return found


def _worse_than(base: ModelRow, result: ModelRow, benchmark: BenchmarkSummary) -> list[str]:
    found = []
    name = f"the FP32 {base.key} {base.model}"
    for runtime in benchmark.runtimes:
        before, after = base.latency.get(runtime), result.latency.get(runtime)
        if before is not None and after is not None and after.p50_ms > before.p50_ms:
            found.append(
                f"The result is slower than {name} on {runtime}: {milliseconds(after.p50_ms)} against "
                f"{milliseconds(before.p50_ms)} (p50, {ratio(after.p50_ms / before.p50_ms)} as long)."
            )
    if result.flatbuffer.size_bytes > base.flatbuffer.size_bytes:
        found.append(
            f"The result is larger than {name}: {kib(result.flatbuffer.size_bytes)} against "
            f"{kib(base.flatbuffer.size_bytes)}."
        )
    return found


def _about_noise(inputs: ReportInputs, task: str) -> list[str]:
    found = []
    samples, result = inputs.data.test, inputs.models[-1]
    if samples < SMALL_TEST and task != "language-modeling":  # of which every sample holds many answers
        ends = wilson_percent(result.accuracy, samples)
        plural = "accuracies" if main_figure(task).binomial else "models"
        spread = f" (here {interval_text(*ends)}, the 95 % interval)" if ends is not None else ""
        found.append(
            f"The test split is small: {counted(samples, 'sample')} {verb(samples, 'tells', 'tell')} {plural} apart "
            f"only roughly{spread}."
        )
    for key in ("teacher", "student"):
        base = base_row(inputs.models, key)
        if base is None or base.accuracy is None or result.accuracy is None:
            continue
        found += _not_told_apart(key, base.accuracy, result.accuracy, samples, inputs.evidence)
    return found


def _not_told_apart(
    key: str, base: float, result: float, samples: int, evidence: Mapping[str, Any] | None
) -> list[str]:
    """Returns a sentence where two accuracies differ by no more than chance, by the samples that both were scored on.

    Reports without the answers to each sample (of earlier versions) compare the two intervals.
    """
    paired = paired_with(key, evidence)
    if paired is not None:
        unsure, told = (paired["p"] or 0.0) >= SIGNIFICANT, paired_text(paired)
    else:
        ends = [wilson_percent(one, samples) or (0.0, 100.0) for one in (base, result)]
        unsure, told = max(ends[0][0], ends[1][0]) <= min(ends[0][1], ends[1][1]), "their 95 % intervals overlap"
    if not unsure or base == result:
        return []
    figures = f"The accuracy is {percent(result)} and the FP32 {key}'s {percent(base)}"
    return [f"{figures}: {counted(samples, 'test sample')} cannot tell them apart ({told})."]


def row_document(
    row: ModelRow, *, task: str, result: bool, samples: int, wider: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Returns a row as report.json has it."""
    order = [figure.key for figure in figures_of(task)]
    ends = wilson_percent(row.accuracy, samples)
    return {
        "key": row.key,
        "label": title(row, result=result, wider=wider),
        "model": row.model,
        "params": row.params,
        "nonzero_params": row.nonzero_params,
        "macs": row.macs,
        "flatbuffer": asdict(row.flatbuffer),
        "accuracy": row.accuracy,
        "accuracy_standard_error": standard_error(row.accuracy, samples),
        "accuracy_interval": None if ends is None else {"low": ends[0], "high": ends[1]},
        "macro_f1": row.macro_f1,
        "validation_accuracy": row.validation_accuracy,
        "agreement_with_reference": row.agreement_with_reference,
        "agreement_with_float": row.agreement_with_float,
        "metrics": {key: row.figures[key] for key in order if key in row.figures},
        "validation_metrics": {key: row.validation_metrics[key] for key in order if key in row.validation_metrics},
        "latency": {runtime: asdict(latency) for runtime, latency in row.latency.items()},
    }
