"""The report of a run: one JSON document with stable keys, and the same for people as Markdown and HTML."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgecompress.errors import ResourceError
from edgecompress.figures import main_figure
from edgecompress.recipe.schema import Recipe
from edgecompress.report.budget import evaluate_budget
from edgecompress.report.html.page import html_report
from edgecompress.report.markdown import markdown_report
from edgecompress.report.picture import picture
from edgecompress.report.program.program import snippet
from edgecompress.report.rows import budget_figures, ratios_against, row_document, warnings_of, wider_parts
from edgecompress.report.schema import (
    HTML,
    MARKDOWN,
    PICTURE,
    REPORT,
    SCHEMA_VERSION,
    ReportInputs,
    VerificationSummary,
)
from edgecompress.report.verdict import assess
from edgecompress.report.words.analysis import conclusion
from edgecompress.report.words.usage import input_document, output_document
from edgecompress.store.files import is_whole, sealed, write_bytes, write_json
from edgecompress.store.reading import read_document
from edgecompress.version import __version__

#: Keys without which a document is no report of ours.
NEEDED = ("schema_version", "name", "models", "budget", "stages")


def build_report(recipe: Recipe, inputs: ReportInputs) -> dict[str, Any]:
    """Returns the report's document, plain JSON values; docs/report.md describes every key."""
    data, models, benchmark = inputs.data, inputs.models, inputs.benchmark
    result, wider, figure = models[-1], wider_parts(inputs), main_figure(recipe.task)
    document = {
        "schema_version": SCHEMA_VERSION,
        "edgecompress": __version__,
        "name": recipe.name,
        "task": recipe.task,
        "figure": {
            "key": figure.key,
            "label": figure.label,
            "unit": figure.unit,
            "larger_is_better": figure.larger_is_better,
        },
        "seed": recipe.seed,
        "created_at": inputs.created_at,
        "recipe": recipe.model_dump(mode="json"),
        "data": _data(inputs),
        "models": [
            row_document(row, task=recipe.task, result=row is result, samples=data.test, wider=wider) for row in models
        ],
        "ratios": {
            f"against_{key}": ratios_against(key, models, benchmark, figure, inputs.evidence)
            for key in ("teacher", "student")
        },
        "benchmark": {**asdict(benchmark), "runtimes": list(benchmark.runtimes)},
        "curves": {step.stage: [dict(entry) for entry in step.curve] for step in inputs.steps if step.curve},
        "stages": [
            {
                "stage": step.stage,
                "status": step.status,
                "seconds": step.seconds,
                "fingerprint": step.fingerprint,
                "warnings": list(step.warnings),
                "kept_code": list(step.kept_code),
            }
            for step in inputs.steps
        ],
        "verification": _verification(inputs.verification, inputs),
        "analysis": _analysis(recipe, inputs),
        "evidence": _copy(inputs.evidence),
        "runtimes": [dict(proof) for proof in inputs.runtimes],
        "sparsity": _copy(inputs.sparsity),
        "streaming": _copy(inputs.streaming),
        "pruning": _copy(inputs.pruning),
        "distillation": _copy(inputs.distillation),
        "quantization": _copy(inputs.quantization),
        "input": input_document(data, inputs.input),
        "output": output_document(inputs.output, data),
        "budget": evaluate_budget(recipe.budget, budget_figures(inputs, recipe.task)),
        "environment": _copy(inputs.environment),
        "warnings": warnings_of(inputs, recipe.task),
        "snippet": snippet(recipe.name, data, inputs.input, inputs.output, result.flatbuffer.file, recipe.task),
        "plots": _copy(inputs.plots),
        "files": dict(inputs.files),
    }
    found: dict[str, Any] = _finite(document)
    return {**found, "verdict": assess(found)}


def _copy(value: Any) -> Any:
    """Returns plain JSON values for mappings and sequences, None for None."""
    return None if value is None else json.loads(json.dumps(dict(value)))


def _finite(value: Any) -> Any:
    """Returns a value with None for NaN and infinity, which JSON does not have: such a figure says as much as none."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _data(inputs: ReportInputs) -> dict[str, Any]:
    data = inputs.data
    return {
        "source": data.source,
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
        "classes": list(data.classes),
        "input_shape": list(data.input_shape),
        "normalization": {
            "value_scale": data.value_scale,
            "mean": list(data.mean),
            "std": list(data.std),
            "origin": data.origin,
            "clip": data.clip,
            "subtracted": list(data.subtracted),
            "levels": list(data.levels),
        },
        "sha256": data.sha256,
        "notes": list(data.notes),
        "kind": data.kind,
        "front_end": _copy(data.front_end),
        "vocabulary": _copy(data.vocabulary),
        "targets": [dict(target) for target in data.targets],
    }


def _verification(found: VerificationSummary | None, inputs: ReportInputs) -> dict[str, Any] | None:
    if found is None:
        return None
    result = inputs.models[-1]
    return {
        "passed": found.passed,
        "reasons": list(found.reasons),
        "test_samples": inputs.data.test,
        "accuracy": result.accuracy,
        "twin": _copy(found.twin),
        "twin_agreement": found.twin["same"] if found.twin is not None else None,
        "float_agreement": result.agreement_with_float,
        "first_differing_layer": found.first_differing_layer,
        "layers": [dict(layer) for layer in found.layers],
        "census": _copy(found.census),
    }


def _analysis(recipe: Recipe, inputs: ReportInputs) -> dict[str, Any] | None:
    found = _copy(inputs.analysis)
    if not found or recipe.quantize is None:
        return None
    return {**found, "conclusion": conclusion(found, recipe.quantize.model_dump(mode="json"))}


def write_report(folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Writes report.png, report.md, report.html and, last, report.json into `folder`, each whole or not at all.

    Returns:
        The document in report.json: the report with the hashes of the pages, and of itself.

    Raises:
        ResourceError: The file system refused.
    """
    pages = {
        PICTURE: picture(report),
        MARKDOWN: markdown_report(report).encode(),
        HTML: html_report(report).encode(),
    }
    for name, content in pages.items():
        write_bytes(folder / name, content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in pages.items()}
    document = sealed({**report, "pages": {**report.get("pages", {}), **hashes}})
    write_json(folder / REPORT, document)
    return document


def load_report(folder: Path) -> dict[str, Any]:
    """Returns the report in a run's folder (or in the report.json that is named itself).

    Raises:
        ResourceError: There is none, it is damaged, or a newer edgecompress wrote it.
    """
    path = folder if folder.name == REPORT and folder.is_file() else folder / REPORT
    try:
        report = read_document(path, "a report")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ResourceError(
            f"{folder} holds no finished run: there is no {REPORT}. Give the folder that `edgecompress run` wrote to."
        ) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ResourceError(f"{path} cannot be read: {why}. Run the recipe again.") from error
    version = report.get("schema_version") if isinstance(report, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise ResourceError(
            f"{path} has schema_version {version}; this edgecompress ({__version__}) reads {SCHEMA_VERSION} and older. "
            "Upgrade edgecompress."
        )
    missing = [key for key in NEEDED if not isinstance(report, dict) or key not in report]
    if missing or version != SCHEMA_VERSION:
        what = f"{', '.join(missing)} missing" if missing else f"schema_version is {version!r}"
        raise ResourceError(f"{path} is not a report of edgecompress ({what}). Run the recipe again.")
    if not is_whole(report):
        raise ResourceError(
            f"{path} is damaged (its hash differs). Run the recipe again: the report is written anew from what is "
            "finished."
        )
    checked: dict[str, Any] = report
    return checked
