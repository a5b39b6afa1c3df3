"""Each limit of the budget: kept, missed, at its edge, and without a figure."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.recipe.schema import BudgetSpec
from edgecompress.report.budget import BudgetFigures, evaluate_budget, unfounded

FIGURES = BudgetFigures(
    metrics={"accuracy": 97.3, "macro_f1": 97.1},
    reference_metrics={"accuracy": 98.3, "macro_f1": 98.2},
    reference="the FP32 teacher resnet9",
    size_bytes=64 * 1024,
    latency_ms=0.5,
    runtime="litert",
    agreement=99.0,
    arena_bytes=45_856,
)


@pytest.mark.parametrize(
    ("limits", "passed", "text"),
    [
        (
            # 98.3 - 97.3 is 1.0000000000000142
            {"accuracy_drop_points": 1.0}, True,
            "accuracy lost against the FP32 teacher resnet9: 1.00 points, at most 1 points allowed",
        ),
        (
            {"accuracy_drop_points": 0.99}, False,
            "accuracy lost against the FP32 teacher resnet9: 1.00 points, at most 0.99 points allowed",
        ),
        ({"accuracy": 97.3}, True, "test accuracy: 97.30 %, at least 97.3 % needed"),
        ({"accuracy": 97.301}, False, "test accuracy: 97.30 %, at least 97.301 % needed"),
        ({"size_kib": 64}, True, "flatbuffer size: 64.0 KiB, at most 64 KiB allowed"),
        ({"size_kib": 63.9}, False, "flatbuffer size: 64.0 KiB, at most 63.9 KiB allowed"),
        ({"latency_ms": 0.5}, True, "p50 latency on litert: 0.500 ms, at most 0.5 ms allowed"),
        ({"latency_ms": 0.499}, False, "p50 latency on litert: 0.500 ms, at most 0.499 ms allowed"),
        ({"arena_kib": 45}, True, "tensor arena on tflite-micro: 44.8 KiB, at most 45 KiB allowed"),
        ({"arena_kib": 44}, False, "tensor arena on tflite-micro: 44.8 KiB, at most 44 KiB allowed"),
        ({"agreement": 99}, True, "agreement with the float model: 99.00 %, at least 99 % needed"),
        ({"agreement": 99.5}, False, "agreement with the float model: 99.00 %, at least 99.5 % needed"),
    ],
)  # fmt: skip
def test_each_limit(limits: dict[str, float], passed: bool, text: str) -> None:
    found = evaluate_budget(BudgetSpec(**limits), FIGURES)
    (line,) = found["lines"]
    assert (found["passed"], line["passed"], line["text"]) == (passed, passed, text)
    assert line["name"] == next(iter(limits))
    assert line["limit"] == limits[line["name"]]


def test_a_value_just_beyond_its_limit_is_told_apart_from_it() -> None:
    found = evaluate_budget(BudgetSpec(size_kib=64), BudgetFigures(size_bytes=64 * 1024 + 4))
    assert found["lines"][0]["text"] == "flatbuffer size: 64.004 KiB, at most 64 KiB allowed"
    assert found["passed"] is False


def test_a_gain_in_accuracy_is_no_loss() -> None:
    found = evaluate_budget(
        BudgetSpec(accuracy_drop_points=0),
        BudgetFigures(metrics={"accuracy": 90.0}, reference_metrics={"accuracy": 89.0}),
    )
    assert found["passed"] is True
    assert found["lines"][0]["value"] == -1.0


@pytest.mark.parametrize("name", list(BudgetSpec.model_fields))
def test_what_was_not_measured_misses_its_limit(name: str) -> None:
    found = evaluate_budget(BudgetSpec(**{name: 50 if name != "r2" else 0.5}), BudgetFigures())
    (line,) = found["lines"]
    assert (line["name"], line["value"], line["passed"], found["passed"]) == (name, None, False, False)
    assert "not measured" in line["text"]


def test_no_limits_are_kept() -> None:
    assert evaluate_budget(BudgetSpec(), BudgetFigures()) == {"passed": True, "lines": []}


def test_one_missed_line_misses_the_budget() -> None:
    found = evaluate_budget(BudgetSpec(accuracy=90, size_kib=10, agreement=90), FIGURES)
    assert [line["passed"] for line in found["lines"]] == [True, False, True]
    assert found["passed"] is False


def line(**changes: Any) -> dict[str, Any]:
    found = {"name": "size_kib", "value": 10.0, "limit": 12.0, "bound": "at most", "passed": True}
    return {**found, **changes}


@pytest.mark.parametrize(
    ("lines", "passed", "known", "told"),
    [
        ([line()], True, {}, []),
        ([line()], True, {"size_kib": 10.000004}, []),
        ([line(value=12.0)], True, {}, []),
        ([line(value=12.0, passed=False)], False, {}, []),  # the difference may be in a digit that is not written
        ([line(value=13.0)], True, {}, ["size_kib is 13, at most 12, which is said to have passed"]),
        ([line(bound="at least")], True, {}, ["size_kib is 10, at least 12, which is said to have passed"]),
        ([line()], True, {"size_kib": 11.0}, ["size_kib is 11, not 10.0"]),
        ([line(value=None)], True, {}, ["size_kib was not measured, but passed"]),
        ([line(value=None, passed=False)], False, {}, []),
        ([line(passed=False, value=13.0)], True, {}, ["the whole is said to have passed"]),
        ([], False, {}, ["the whole is said to have failed"]),
    ],
)
def test_limits_that_do_not_follow_from_their_figures(
    lines: list[dict[str, Any]], passed: bool, known: dict[str, float], told: list[str]
) -> None:
    assert unfounded({"passed": passed, "lines": lines}, known) == told
