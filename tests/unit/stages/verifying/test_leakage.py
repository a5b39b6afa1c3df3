"""What the report says where test samples are in the training data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edgecompress.data.base import Split
from edgecompress.figures import ACCURACY
from edgecompress.stages.verifying.leakage import warn_of_leakage
from tests.unit.training.training_task import BlobTask


def told(shared: int, figures: str = "accuracy") -> tuple[int, list[str]]:
    """Returns what is said of a model that is right on the shared samples alone."""
    task, warnings = BlobTask(), list[str]()
    train, test = task.dataset.train, task.dataset.test
    test.inputs[:shared] = train.inputs[:shared]
    outputs = np.eye(2, dtype=np.float32)[1 - test.labels]
    outputs[:shared] = np.eye(2, dtype=np.float32)[test.labels[:shared]]

    def metrics(outputs: Any, split: Split) -> dict[str, float]:
        return {figures: 100.0 * float((outputs.argmax(1) == split.labels).mean())}

    bench: Any = SimpleNamespace(
        dataset=task.dataset,
        task=SimpleNamespace(metrics=metrics, figure=ACCURACY),
        ctx=SimpleNamespace(warn=warnings.append),
    )
    return warn_of_leakage(bench, outputs), warnings


def test_they_are_counted_and_the_accuracy_without_them_is_given() -> None:
    count, (warning,) = told(16)
    assert count == 16
    assert "16 test samples of 64 (25.0%) are in the training data too" in warning
    assert "the test accuracy of 25.00 % is 0.00 % without them" in warning
    assert told(1)[1][0].startswith("1 test sample of 64 (1.6%) is in the training data too")


def test_nothing_is_said_where_there_is_nothing() -> None:
    assert told(0) == (0, [])


def test_all_of_them_and_figures_of_other_kinds() -> None:
    assert "say nothing of new samples" in told(64)[1][0]
    assert "may be too good" in told(3, figures="mean_error")[1][0]
