"""From the stages' results to the report's figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecompress.pipeline.plan import Plan, Step
from edgecompress.pipeline.report_inputs import environment, report_inputs
from edgecompress.recipe.schema import Recipe
from edgecompress.report.document import build_report
from edgecompress.report.schema import ReportInputs
from edgecompress.store.store import Artifact, StageResult
from tests.unit.report import sample

LATENCY = {"p50_ms": 1.0, "p95_ms": 2.0, "mean_ms": 1.1, "min_ms": 0.9, "runs": 200, "ratio_to_first": 1.0}
CURVE = [{"epoch": 1, "loss": 0.5, "learning_rate": 0.1, "validation_accuracy": 80.0}]
#: Parameters of the models, by row.
PARAMS = {"teacher": 1000, "student": 100, "pruned": 50}
SPARSITY = sample.SPARSITY | {"zeros_in_file": 30}


def results(folder: Path, recipe: Recipe) -> dict[str, StageResult]:
    """Returns what the stages of a recipe leave."""
    rows = ["teacher"]
    rows += ["student"] if recipe.student is not None else []
    rows += ["pruned"] if recipe.prune is not None else []
    shipped = [*rows, "quantized"]
    made: dict[str, dict[str, Any]] = {
        "teacher": {"validation_accuracy": 90.0, "distilled": False},
        "distill": {"validation_accuracy": 88.0, "distilled": True},
        "prune": {"validation_accuracy": 87.0, "method": "structured", "distilled": False},
        "quantize": {"validation_accuracy": 86.0, "mode": "ptq", "calibration_samples": 64},
        "export": {
            "flatbuffers": {
                key: {
                    "file": "model.tflite" if key == "quantized" else f"{key}.tflite", "size_bytes": 4000,
                    "gzip_bytes": 3000, "dtype": "int8" if key == "quantized" else "float32",
                }
                for key in shipped
            }
        },
        "verify": {
            "data": {
                "source": "digits", "train": 80, "validation": 10, "test": 10, "classes": ["a", "b"],
                "input_shape": [1, 8, 8], "value_scale": 1 / 16, "mean": [0.3], "std": [0.4], "origin": "train",
                "notes": [],
            },
            "input": {"dtype": "int8", "shape": [1, 8, 8, 1], "scale": 0.1, "zero_point": 1},
            "output": {"dtype": "int8", "shape": [1, 2], "scale": 0.2, "zero_point": 2},
            "models": {key: {"accuracy": 80.0, "macro_f1": 79.0} for key in shipped},
            "passed": True, "census": sample.CENSUS, "reasons": [], "sparsity": None,
        },
        "benchmark": {"latency": {key: {"litert": LATENCY} for key in shipped}},
    }  # fmt: skip
    for row, stage in (("teacher", "teacher"), ("student", "distill"), ("pruned", "prune")):
        made[stage] |= {"params": PARAMS[row], "nonzero_params": PARAMS[row], "macs": 10 * PARAMS[row]}
    made["verify"]["models"]["quantized"]["agreement_with_float"] = 99.0
    found = {}
    for stage, figures in made.items():
        metrics = json.loads(json.dumps(figures, sort_keys=True))  # as a manifest gives them back
        artifacts = {}
        for name, content in (("curve.json", CURVE), ("plots.json", {"class_names": ["a", "b"]})):
            if (name == "plots.json") == (stage == "verify") and stage not in {"export", "benchmark"}:
                (folder / stage).mkdir(exist_ok=True)
                (folder / stage / name).write_text(json.dumps(content))
                artifacts[name] = Artifact(folder / stage / name, "ab", "cd")
        found[stage] = StageResult(stage, f"print of {stage}", folder, artifacts, metrics, 2.5, (f"from {stage}",))
    if recipe.quantize is None:
        del found["quantize"]
    if recipe.prune is None:
        del found["prune"]
    if recipe.student is None:
        del found["distill"]
    return found


def inputs(folder: Path, recipe: Recipe, **changes: dict[str, Any]) -> ReportInputs:
    found = results(folder, recipe)
    for stage, metrics in changes.items():
        found[stage] = replace(found[stage], metrics=found[stage].metrics | metrics)
    steps = tuple(
        Step(stage, result.fingerprint, {}, result if stage == "teacher" else None, "")
        for stage, result in found.items()
    )
    plan = Plan(steps, "data hash")
    return report_inputs(recipe, plan, found, created_at="2026-01-01T00:00:00+00:00", files={"model.tflite": "ab"})


def test_every_model_has_its_figures(tmp_path: Path) -> None:
    found = inputs(tmp_path, sample.recipe())
    assert [(row.key, row.model, row.params) for row in found.models] == [
        ("teacher", "resnet9", 1000), ("student", "resnet8", 100), ("pruned", "resnet8", 50),
        ("quantized", "resnet8", 50),
    ]  # fmt: skip
    assert [row.validation_accuracy for row in found.models] == [90.0, 88.0, 87.0, 86.0]
    assert [row.agreement_with_float for row in found.models] == [None, None, None, 99.0]
    assert found.models[-1].latency["litert"].p95_ms == 2.0
    assert found.data.sha256 == "data hash"
    assert (found.data.classes, found.input.shape) == (("a", "b"), (1, 8, 8, 1))
    assert found.plots == {"class_names": ["a", "b"]}


def test_every_stage_is_told_of(tmp_path: Path) -> None:
    steps = {step.stage: step for step in inputs(tmp_path, sample.recipe()).steps}
    assert (steps["teacher"].status, steps["prune"].status) == ("cached", "ran")
    assert [dict(entry) for entry in steps["distill"].curve] == CURVE
    assert steps["export"].curve == ()
    assert steps["export"].warnings == ("from export",)


def test_who_learned_from_the_teacher(tmp_path: Path) -> None:
    asked = sample.recipe(distill={"alpha": 0.5})
    assert inputs(tmp_path, asked).distillation == {
        "temperature": 4.0, "alpha": 0.5, "views": 8, "stages": ["distill"], "teacher_outputs": None,
    }  # fmt: skip
    keras = inputs(tmp_path, asked, teacher={"outputs": "logits"}).distillation
    assert keras is not None
    assert keras["teacher_outputs"] == "logits"
    assert inputs(tmp_path, asked, distill={"distilled": False}).distillation is None
    fine_tuned = inputs(tmp_path, sample.recipe(student=None, distill=None), prune={"distilled": True})
    assert fine_tuned.distillation is not None
    assert fine_tuned.distillation["stages"] == ["prune"]


def test_without_a_quantize_block_the_last_float_model_is_the_result(tmp_path: Path) -> None:
    found = inputs(tmp_path, sample.recipe(quantize=None, prune=None))
    assert found.quantization is None
    assert found.pruning is None
    assert (found.models[-1].params, found.models[-1].validation_accuracy) == (100, 88.0)


def test_zeros_in_the_file_are_not_counted_as_parameters(tmp_path: Path) -> None:
    found = inputs(tmp_path, sample.recipe(), verify={"sparsity": SPARSITY})
    assert found.models[-1].nonzero_params == 50 - 30
    assert found.sparsity == SPARSITY


def test_a_report_can_be_built_from_it(tmp_path: Path) -> None:
    report = build_report(sample.recipe(), inputs(tmp_path, sample.recipe()))
    json.dumps(report, allow_nan=False)
    assert report["ratios"]["against_teacher"]["params"] == 20.0
    assert report["environment"]["versions"]["torch"]


@pytest.mark.parametrize(
    ("content", "name"),
    [("processor: 0\nmodel name\t: Example CPU\n", "Example CPU"), ("Hardware : Board\n", "Board"), (None, "")],
)
def test_the_processor_is_named(monkeypatch: pytest.MonkeyPatch, content: str | None, name: str) -> None:
    def read(*_: Any, **__: Any) -> str:
        if content is None:
            raise FileNotFoundError
        return content

    monkeypatch.setattr(Path, "read_text", read)
    found = environment()
    assert found["cpu"]
    assert not name or found["cpu"] == name
    assert found["cores"] >= 1
    assert "tensorflow" not in found["versions"] or found["versions"]["tensorflow"]
