"""Reports of runs of other tasks than classification; the figures are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgecompress.data.front_end import describe
from edgecompress.recipe.schema import AudioSpec
from edgecompress.report.schema import TensorSummary
from tests.unit.report import sample

TASKS = ("regression", "anomaly-detection", "language-modeling")
#: Task -> figures of teacher, student, pruned model and result.
FIGURES: dict[str, tuple[dict[str, float], ...]] = {
    "regression": tuple({"mae": mae, "rmse": 1.3 * mae, "r2": 1 - mae / 100} for mae in (2.0, 2.2, 2.4, 2.5)),
    "anomaly-detection": tuple(
        {"auc": auc, "pauc": auc - 10, "reconstruction_error": 1 - auc / 100} for auc in (95.0, 94.0, 93.5, 93.0)
    ),
    "language-modeling": tuple(
        {"perplexity": bits * 4, "bits_per_byte": bits, "token_accuracy": 60 - bits} for bits in (2.0, 2.2, 2.3, 2.35)
    ),
}
PLOTS: dict[str, dict[str, Any]] = {
    "regression": {
        "predictions": [
            {
                "name": "minutes <till> noon", "mae": 2.5, "rmse": 3.2, "r2": 0.97, "true": [10.0, 20.0, 40.0],
                "predicted": [11.0, 18.5, 43.0],
            },
            {"name": "flat", "mae": 0.0, "rmse": 0.0, "r2": None, "true": [1.0, 1.0, 1.0], "predicted": [1.0] * 3},
        ]
    },
    "anomaly-detection": {
        "roc": {"false_alarms": [0.0, 0.0, 0.04, 0.5, 1.0], "hits": [0.0, 0.3, 0.62, 0.9, 1.0]},
        "scores": {"edges": [0.01, 0.1, 1.0, 10.0], "normal": [40, 9, 1], "anomalous": [0, 12, 38]},
    },
    "language-modeling": {
        "sample": {"prompt": "It was <b> ", "text": "a *dark* night", "tokens": 14, "temperature": 0.8}
    },
}  # fmt: skip
BUDGETS = {
    "regression": {"mae": 3.0, "rmse": 4.0, "r2": 0.9, "drop_percent": 20},
    "anomaly-detection": {"auc": 94.0, "drop_percent": 5},
    "language-modeling": {"perplexity": 10.0, "bits_per_byte": 2.3, "agreement": 90},
}
DATA: dict[str, dict[str, Any]] = {
    "regression": {
        "source": "csv", "classes": (), "input_shape": (3,), "value_scale": 1.0, "mean": (1.0, 2.0, 3.0),
        "std": (0.5, 1.0, 2.0), "kind": "features", "subtracted": (0, 1_700_000_000, 0),
        "levels": (0, 4095),
        "targets": (
            {"name": "minutes <till> noon", "mean": 40.0, "std": 8.0}, {"name": "flat", "mean": -1.0, "std": 1.0},
        ),
    },
    "anomaly-detection": {
        "source": "wav-folder", "classes": ("normal", "anomaly"), "input_shape": (49, 40), "value_scale": 1.0,
        "mean": (0.0,) * 40, "std": (1.0,) * 40, "kind": "series", "front_end": describe(AudioSpec()),
    },
    "language-modeling": {
        "source": "text-files", "classes": (), "input_shape": (16,), "value_scale": 1.0, "mean": (0.0,), "std": (1.0,),
        "kind": "tokens", "vocabulary": {"kind": "word", "lowercase": True, "pattern": "\\w+", "size": 1000},
    },
}  # fmt: skip
ENDS = {
    "regression": (TensorSummary("int8", (1, 3), 0.02, 3), TensorSummary("int8", (1, 2), 0.03, -2)),
    "anomaly-detection": (TensorSummary("int8", (1, 49, 40), 0.02, 3), TensorSummary("int8", (1, 49, 40), 0.03, -2)),
    "language-modeling": (TensorSummary("int32", (1, 16)), TensorSummary("int8", (1, 16, 1000), 0.1, 10)),
}


def evidence(task: str) -> dict[str, Any]:
    """Returns what the verdict of a sound run of a task is made from: no answers are right or wrong, but for errors."""
    figure, better = next(iter(FIGURES[task][0])), task == "anomaly-detection"
    blind = {"regression": 20.0, "anomaly-detection": 50.0, "language-modeling": 200.0}[task]
    models = [
        sample.stands(
            one["key"], found[figure], 0.9 * found[figure], 1.1 * found[figure], figure=figure, baseline=blind,
            against="a blind answer", larger_is_better=better,
        )
        for one, found in zip(sample.EVIDENCE["models"], FIGURES[task], strict=True)
    ]  # fmt: skip
    paired = [sample.pair(one["key"], None, None, 0.2, 1.0) for one in sample.EVIDENCE["paired"]]
    return {**sample.EVIDENCE, "models": models, "paired": paired, "answers": None}


def report(task: str, **changes: Any) -> dict[str, Any]:
    """Returns the report of a run of a task, with some of what it is made from changed."""
    full = sample.inputs()
    models = tuple(
        replace(row, accuracy=None, macro_f1=None, validation_accuracy=None, metrics=found, validation_metrics=found)
        for row, found in zip(full.models, FIGURES[task], strict=True)
    )
    main = next(iter(FIGURES[task][0]))
    steps = tuple(
        replace(step, curve=tuple(_renamed(entry, f"validation_{main}") for entry in step.curve)) for step in full.steps
    )
    twin = {**(full.verification.twin or {}), "accuracy": None, "metrics": FIGURES[task][3]}  # type: ignore[union-attr]
    quantization = {
        "mode": "ptq", f"validation_{main}": 2.5, f"float_validation_{main}": 2.4, f"ptq_validation_{main}": 2.6,
        "rungs": [
            {"name": "plain", "accuracy": None, "value": 2.6, "drop_points": 1.25, "detail": "least and largest values"}
        ],
    }  # fmt: skip
    about = sample.recipe(task=task, data={"source": DATA[task]["source"], "path": "data"}, budget=BUDGETS[task])
    return sample.report(
        about,
        **{
            "data": replace(full.data, **DATA[task]),
            "models": models,
            "steps": steps,
            "verification": replace(full.verification, twin=twin),
            "pruning": {**(full.pruning or {}), f"base_validation_{main}": 2.2},
            "quantization": quantization,
            "analysis": {**sample.ANALYSIS, "figure": main, "score": 2.6, "float_score": 2.5},
            "evidence": evidence(task),
            "plots": PLOTS[task],
            "input": ENDS[task][0],
            "output": ENDS[task][1],
            **changes,
        },
    )


def _renamed(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {key if name == "validation_accuracy" else name: value for name, value in entry.items()}
