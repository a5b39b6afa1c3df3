"""Keys that do not go with the recipe's task: limits on figures it does not have, and what only classes need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgecompress.figures import FIGURES, main_figure
from edgecompress.recipe.checks.data import Finding
from edgecompress.recipe.fields import blocks

CLASSES = tuple(task for task in FIGURES if task.endswith("-classification"))
#: Limit -> the tasks that have what it limits.
LIMITS = {
    "accuracy": CLASSES,
    "accuracy_drop_points": CLASSES,
    "auc": ("anomaly-detection",),
    "mae": ("regression",),
    "rmse": ("regression",),
    "r2": ("regression",),
    "perplexity": ("language-modeling",),
    "bits_per_byte": ("language-modeling",),
    "drop_percent": ("regression", "anomaly-detection", "language-modeling"),
}
#: Tasks whose answers are numbers, which are neither smoothed nor softened.
NUMBERS = ("regression", "anomaly-detection")


def check_task(data: dict[str, Any]) -> Iterator[Finding]:
    """Gives what does not go with the task: (path of the key to blame, message, hint)."""
    task = data.get("task", "image-classification")
    if isinstance(task, str) and task in FIGURES:
        yield from _limits(task, _block(data, "budget"))
        if task in NUMBERS:
            yield from _numbers(task, data)


def _limits(task: str, given: dict[str, Any]) -> Iterator[Finding]:
    for key, tasks in LIMITS.items():
        if given.get(key) is not None and task not in tasks:
            fitting = [limit for limit, others in LIMITS.items() if task in others]
            listed = ", ".join(f"`{limit}`" for limit in fitting)
            yield (
                ("budget", key),
                f"does not go with task {task}, which is judged by {main_figure(task).label}",
                f"its limits are {listed}",
            )


def _numbers(task: str, data: dict[str, Any]) -> Iterator[Finding]:
    if _block(data, "distill").get("temperature") is not None:
        message = f"is not used: in task {task} the teacher's outputs are numbers, which are not softened"
        yield ("distill", "temperature"), message, "remove it"
    for place in blocks():
        path = tuple(place.split("."))
        if path[-1] == "train" and _block(data, *path).get("label_smoothing") is not None:
            yield (*path, "label_smoothing"), f"is not used: task {task} has no classes", "remove it"


def _block(data: dict[str, Any], *path: str) -> dict[str, Any]:
    """Returns a block as the user wrote it, empty where it is absent or no block."""
    for part in path:
        inner = data.get(part)
        data = inner if isinstance(inner, dict) else {}
    return data
