"""Figures of finished steps, held against the form that stages give them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecompress.errors import ResultError
from edgecompress.recipe.schema import Recipe
from edgecompress.report.forms import require_form
from edgecompress.store.store import Artifact, StageResult

Metrics = dict[str, Any]
COUNTS = {"params": 10, "nonzero_params": 9, "macs": 8}
STANDING = {
    "figure": "accuracy", "value": 97.0, "low": None, "high": 99.0, "baseline": 30.0, "against": "always answering",
    "samples": 30, "larger_is_better": True,
}  # fmt: skip
LATENCY = {"litert": {"p50_ms": 0.1, "p95_ms": 0.2, "runs": 20}}
FILE = {
    "file": "model.tflite",
    "size_bytes": 9,
    "gzip_bytes": 8,
    "dtype": "int8",
    "parts": {"weights": 3},
    "sparse": None,
}
END = {"dtype": "int8", "shape": [1, 3], "scale": 0.1, "zero_point": 0}
GOOD: dict[str, Metrics] = {
    "teacher": {**COUNTS, "trained": False, "outputs": "softmax"},
    "distill": {
        **COUNTS, "trained": True, "from_scratch": True, "optimizer_steps": 3, "validation_accuracy": 97.0,
        "validation_standing": STANDING, "reordered": {"accuracy": 9.0, "reordered": 90.0, "moved": [["a", "b"]]},
    },
    "prune": {
        **COUNTS, "base": COUNTS, "method": "structured", "of": "macs", "asked": 0.2, "distilled": False,
        "importance": "l2", "removed_params": 0.1, "removed_macs": 0.2, "rounding_points": None,
        "step_widths": {"conv": [3, 2]}, "widths": {"conv": [4, 2]}, "whole": {},
        "target": {"kind": "macs", "before": 9.0, "asked": 7.0, "reached": 7.5, "tries": []},
        "latency": {"runtime": "litert", "before_ms": 1.0, "after_ms": 0.9, "ratio": 0.9},
    },
    "quantize": {
        "mode": "ptq", "weights": "int8", "activations": "int8", "portable": False, "validation_accuracy": 97,
        "rungs": [{"name": "ptq", "detail": "as it is", "drop_points": 0.1, "accuracy": None, "value": 3.0}],
    },
    "export": {"io": "int8", "flatbuffers": {"student": FILE, "pruned": FILE, "quantized": FILE}},
    "verify": {
        "passed": True, "reasons": [], "models": {"student": {"accuracy": 9.0}, "pruned": {}, "quantized": {"x": None}},
        "census": {"ops": {"ADD": {"count": 1, "dtypes": {"int8": 1}}}, "tensors": {"int8": 3}, "not_int8": []},
        "data": {
            "source": "npz", "train": 3, "validation": 2, "test": 1, "classes": ["a"], "input_shape": [1, 8, 8],
            "value_scale": 0.1, "mean": [0.0], "std": [1.0], "origin": "data", "notes": [],
        },
        "input": END, "output": END, "evidence": {}, "test_samples": 3,
    },
    "benchmark": {
        "latency": {"student": LATENCY, "pruned": LATENCY, "quantized": LATENCY},
        "runtimes": [], "threads": 1, "runs": 2,
    },
}  # fmt: skip


def recipe() -> Recipe:
    blocks = {"student": {"model": "resnet8"}, "prune": {"method": "structured"}, "quantize": {"mode": "ptq"}}
    return Recipe.model_validate({"version": 1, **blocks})


def of(stage: str, metrics: Metrics, **more: Any) -> StageResult:
    return StageResult(stage, "f" * 64, Path("store") / stage, more.pop("artifacts", {}), metrics, **more)


@pytest.mark.parametrize("stage", GOOD)
def test_what_stages_leave_passes(stage: str) -> None:
    before = copy.deepcopy(GOOD[stage])
    require_form(of(stage, GOOD[stage], seconds=1.5, warnings=("careful",)), recipe())
    assert GOOD[stage] == before  # looked at, not changed


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        found += places(node[key], (*path, key))
    return found


def harmed(metrics: Metrics, path: tuple[Any, ...], value: Any) -> Metrics:
    other = copy.deepcopy(metrics)
    node: Any = other
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return other


@pytest.mark.parametrize("stage", GOOD)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), [[]], {"\n": {}}])
def test_nothing_of_another_kind_passes(stage: str, value: Any) -> None:
    """Whatever is put in the place of a figure: what is not finite, a list or a mapping in the place of another."""
    free = {"tries", "whole", "evidence", "x", "runs", "sparse"}  # not read, or looked at where they are used
    for path in places(GOOD[stage]):
        if path[-1] in free:
            continue
        bad = of(stage, harmed(GOOD[stage], path, value))
        with pytest.raises(ResultError) as caught:
            require_form(bad, recipe())
        assert caught.value.steps == ((stage, "f" * 64),)
        assert str(Path("store") / stage) in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "harm"),
    [
        ("distill", lambda m: m.pop("params")),
        ("distill", lambda m: m.update(params="10")),
        ("distill", lambda m: m.update(params=-1)),
        ("distill", lambda m: m.update(validation_accuracy="97")),
        ("distill", lambda m: m["validation_standing"].update(figure="beauty")),
        ("prune", lambda m: m.pop("widths")),
        ("prune", lambda m: m.update(method="unstructured", prunable_weights=1)),
        ("prune", lambda m: m["widths"].update(conv=[0, 0])),
        ("quantize", lambda m: m.update(mode="none")),
        ("export", lambda m: m["flatbuffers"].pop("pruned")),
        ("export", lambda m: m["flatbuffers"]["pruned"].pop("size_bytes")),
        ("verify", lambda m: m["models"].update(teacher={})),
        ("verify", lambda m: m.update(passed="yes")),
        ("verify", lambda m: m["data"].pop("classes")),
        ("benchmark", lambda m: m["latency"]["pruned"]["litert"].update(p50_ms="fast")),
        ("benchmark", lambda m: m.clear()),
    ],
)
def test_what_is_missing_or_of_another_type_is_found(stage: str, harm: Callable[[Metrics], object]) -> None:
    metrics = copy.deepcopy(GOOD[stage])
    harm(metrics)
    with pytest.raises(ResultError):
        require_form(of(stage, metrics), recipe())


def test_figures_that_a_network_leaves_undefined_are_left_out_and_pass() -> None:
    undefined = {"validation_accuracy": None, "validation_standing": {**STANDING, "value": None}}
    rung = {**GOOD["quantize"]["rungs"][0], "drop_points": None}
    for stage, metrics in (("distill", undefined), ("quantize", {"rungs": [rung]})):
        result = of(stage, {**GOOD[stage], **metrics})
        require_form(result, recipe())
        assert result.metrics == {**GOOD[stage], **metrics}  # looked at, not filled in


@pytest.mark.parametrize(
    "more", [{"seconds": "long"}, {"seconds": float("nan")}, {"seconds": True}, {"warnings": (1,)}, {"warnings": ({},)}]
)
def test_seconds_and_warnings_are_looked_at_too(more: dict[str, Any]) -> None:
    with pytest.raises(ResultError):
        require_form(of("teacher", GOOD["teacher"], **more), recipe())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("curve.json", {"epoch": 1}),
        ("curve.json", [{"epoch": 1}]),
        ("curve.json", [{"epoch": 1, "loss": "low"}]),
        ("curve.json", None),
        ("plots.json", [1]),
    ],
)
def test_small_files_have_a_form_too(tmp_path: Path, name: str, content: Any) -> None:
    path = tmp_path / name
    artifacts = {name: Artifact(path, "0", "0")}
    path.write_text(json.dumps([{"epoch": 1, "loss": 0.5, "optimizer": "sgd"}] if name == "curve.json" else {}))
    require_form(of("teacher", GOOD["teacher"], artifacts=artifacts), recipe())
    for text in (json.dumps(content), "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ResultError):
            require_form(of("teacher", GOOD["teacher"], artifacts=artifacts), recipe())
