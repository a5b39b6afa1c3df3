"""What quantized models are held to: the task's figure, its losses as scores, and rungs in the task's words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgecompress.data.base import Split
from edgecompress.figures import ACCURACY, AGREEMENT, MAE, RECONSTRUCTION
from edgecompress.quantization.repairs.ladder import Rung
from edgecompress.stages.quantize import rung_document
from edgecompress.stages.quantizing.judge import judge_by_answers, judge_of
from tests.unit.tasks.test_numbers import LABELS, X, anomaly, numbers, regression

NONE = Split(np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32))


def test_losses_of_an_error_are_percent_of_the_float_models() -> None:
    labels = numbers()
    task, split = regression(labels), Split(X, labels)
    right = ((labels - labels.mean(0)) / labels.std(0)).astype(np.float32)
    judge = judge_of(task, split, right + 0.5)
    assert judge.figure == MAE
    assert judge.best == 0.0
    assert judge.score(right + 0.55) == pytest.approx(-10.0, rel=1e-3)
    assert judge.value(-10.0) == pytest.approx(1.1 * judge.reference)
    rung = rung_document(Rung("plain", -10.0, 10.0, "least and largest values"), judge)
    assert rung["accuracy"] is None
    assert rung["value"] == pytest.approx(1.1 * judge.reference)


def test_normal_samples_alone_are_judged_by_their_reconstruction() -> None:
    task = anomaly(LABELS)
    x = task.inputs(X).numpy()
    judge = judge_of(task, Split(X, np.zeros(60, np.int64)), x + 0.1)
    assert judge.figure == RECONSTRUCTION
    assert judge.score(x + 0.2) == pytest.approx(-300.0, rel=1e-4)


def test_without_labels_the_float_models_answers_are_the_measure() -> None:
    task = regression(numbers())
    floating = np.zeros((4, 2), np.float32)
    for judge in (judge_of(task, NONE, floating), judge_by_answers(task, floating)):
        assert judge.figure == AGREEMENT
        assert judge.best == 100.0
        assert judge.score(floating + np.array([[0.0], [0.2], [0.0], [0.0]], np.float32)) == 75.0
        assert rung_document(Rung("plain", 75.0, 25.0, ""), judge)["accuracy"] == 75.0


def test_an_accuracy_stays_what_it_was() -> None:
    task: Any = SimpleNamespace(
        name="text-classification", metrics=lambda outputs, _split: {"accuracy": float(outputs.sum())}
    )
    judge = judge_of(task, Split(X, LABELS), np.full(1, 93.0, np.float32))
    assert (judge.figure, judge.best, judge.score(np.full(1, 92.5, np.float32))) == (ACCURACY, 93.0, 92.5)
    assert rung_document(Rung("plain", 92.5, 0.5, "x"), judge) == {
        "name": "plain", "accuracy": 92.5, "drop_points": 0.5, "detail": "x",
    }  # fmt: skip
