"""Limits and keys that do not go with a recipe's task."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from edgecompress.recipe.checks.tasks import LIMITS, check_task
from edgecompress.recipe.schema import BudgetSpec, Recipe, TaskName

GENERAL = {"size_kib", "latency_ms", "arena_kib", "agreement"}


def test_every_limit_is_for_all_tasks_or_for_some() -> None:
    assert set(LIMITS) | GENERAL == set(BudgetSpec.model_fields)
    for task in get_args(TaskName):
        assert any(task in tasks for tasks in LIMITS.values())


@pytest.mark.parametrize(
    ("recipe", "path", "told", "hint"),
    [
        ({"budget": {"mae": 1}}, ("budget", "mae"), "image-classification, which is judged by accuracy", "`accuracy`"),
        (
            {"task": "regression", "budget": {"accuracy": 90}}, ("budget", "accuracy"), "which is judged by MAE",
            "`mae`, `rmse`, `r2`, `drop_percent`",
        ),
        ({"task": "language-modeling", "budget": {"auc": 9}}, ("budget", "auc"), "by perplexity", "`bits_per_byte`"),
        (
            {"task": "anomaly-detection", "distill": {"temperature": 2}}, ("distill", "temperature"), "not softened",
            "remove it",
        ),
        (
            {"task": "regression", "teacher": {"train": {"label_smoothing": 0.1}}},
            ("teacher", "train", "label_smoothing"), "has no classes", "remove it",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_with_the_task_is_told(
    recipe: dict[str, Any], path: tuple[str, ...], told: str, hint: str
) -> None:
    ((found, message, advice),) = check_task(recipe)
    assert found == path
    assert told in message
    assert hint in advice


@pytest.mark.parametrize(
    "recipe",
    [
        {"budget": {"accuracy": 90, "agreement": 90}},
        {"task": "anomaly-detection", "budget": {"auc": 90, "drop_percent": 1}},
        {"task": "language-modeling", "budget": {"perplexity": 9}, "distill": {"temperature": 2}},
        {"task": ["regression"], "budget": {"accuracy": 90}},
        {"task": "regression", "budget": None, "distill": 3},
    ],
)
def test_what_goes_with_it_is_not(recipe: dict[str, Any]) -> None:
    assert list(check_task(recipe)) == []


def test_limits_keep_their_ranges() -> None:
    base = {"version": 1, "task": "regression", "teacher": {"model": "mlp"}}
    assert Recipe.model_validate({**base, "budget": {"r2": -0.5}}).budget.r2 == -0.5
    for wrong in ({"r2": 1.5}, {"mae": -1}, {"perplexity": 0.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Recipe.model_validate({**base, "budget": wrong})
