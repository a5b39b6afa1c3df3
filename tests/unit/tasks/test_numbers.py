"""Regression and anomaly detection: losses and figures against independent computations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.quantization.grids.ranges import scale_and_zero_point
from edgecompress.recipe.schema import Recipe
from edgecompress.tasks.anomaly import AnomalyDetection
from edgecompress.tasks.making import make_task
from edgecompress.tasks.regression import Regression

PLAIN = Normalization(1.0, (1.0, 0.0, 0.0), (2.0, 1.0, 1.0), "made up")
X = np.random.default_rng(0).normal(1.0, 2.0, (60, 3)).astype(np.float32)


def recipe(task: str) -> Recipe:
    return Recipe.model_validate({"version": 1, "task": task, "teacher": {"model": "mlp"}})


def dataset(labels: np.ndarray, **more: Any) -> Dataset:
    split = Split(X[: len(labels)], labels)
    return Dataset("npz", split, split, split, more.pop("names", ()), (3,), PLAIN, kind="features", **more)


def regression(labels: np.ndarray) -> Regression:
    mean, std = (tuple(found.tolist()) for found in (labels.mean(0), labels.std(0)))
    task = make_task(
        recipe("regression"), dataset(labels, target_mean=mean, target_std=std, output_shape=(labels.shape[1],))
    )
    assert isinstance(task, Regression)
    return task


def numbers() -> np.ndarray:
    return np.random.default_rng(1).normal([40.0, -2.0], [10.0, 0.5], (60, 2)).astype(np.float32)


def test_networks_predict_standardised_numbers() -> None:
    labels = numbers()
    task = regression(labels)
    targets = task.targets(torch.zeros(60, 3), labels)
    assert targets.dtype == torch.float32
    np.testing.assert_allclose(targets.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(targets.std(0, correction=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(task.values(targets.numpy()), labels, rtol=1e-5)


def test_the_loss_is_smooth_l1_and_a_teachers_outputs_take_its_share() -> None:
    task = regression(numbers())
    outputs, targets = torch.tensor([[0.0, 3.0]]), torch.tensor([[0.5, 0.0]])
    hard = (0.5 * 0.5**2 + (3.0 - 0.5)) / 2
    assert float(task.loss(outputs, targets)) == pytest.approx(hard)
    soft = float(task.loss(outputs, outputs + 1))
    found = task.distillation_loss(outputs, outputs + 1, targets, 4.0, 0.7)
    assert float(found) == pytest.approx(0.3 * hard + 0.7 * soft)


def test_errors_are_in_the_units_of_the_data() -> None:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    labels = numbers()
    task = regression(labels)
    split = Split(X, labels)
    outputs = task.targets(torch.zeros(60, 3), labels).numpy() + np.random.default_rng(2).normal(0, 0.3, (60, 2))
    values = task.values(outputs.astype(np.float32))
    figures = task.metrics(outputs.astype(np.float32), split)
    assert figures["mae"] == pytest.approx(mean_absolute_error(labels, values))
    assert figures["rmse"] == pytest.approx(root_mean_squared_error(labels, values))
    assert figures["r2"] == pytest.approx(r2_score(labels, values))
    first, second = task.plots(outputs.astype(np.float32), split)["predictions"]
    assert (first["name"], second["name"]) == ("target 1", "target 2")
    assert first["mae"] == pytest.approx(mean_absolute_error(labels[:, 0], values[:, 0]))
    np.testing.assert_allclose(second["predicted"], values[:, 1], rtol=1e-5)
    np.testing.assert_allclose(second["true"], labels[:, 1], rtol=1e-5)


def test_a_number_that_does_not_vary_has_no_r2() -> None:
    labels = np.full((60, 1), 3.0, np.float32)
    task = make_task(recipe("regression"), dataset(labels, target_mean=(3.0,), target_std=(1.0,), output_shape=(1,)))
    outputs = np.zeros((60, 1), np.float32)
    assert task.metrics(outputs, Split(X, labels)) == {"mae": 0.0, "rmse": 0.0}
    assert task.plots(outputs, Split(X, labels))["predictions"][0]["r2"] is None


def test_predictions_agree_within_a_tenth_of_the_spread() -> None:
    task = regression(numbers())
    reference = np.zeros((4, 2), np.float32)
    outputs = np.array([[0.09, -0.09], [0.11, 0.0], [0.0, 0.0], [0.0, -0.2]], np.float32)
    assert task.agreement(outputs, reference) == 50.0
    assert not task.chooses


def test_mean_errors_may_differ_by_rounding() -> None:
    task = regression(numbers())
    spread = float(task.dataset.target_std[0] + task.dataset.target_std[1]) / 2
    assert task.tolerance(task.dataset.test, 2.0, 0.001) == pytest.approx(0.02)
    assert task.tolerance(task.dataset.test, 0.001, 0.03) == pytest.approx(0.003 * spread)  # smaller than a step


def anomaly(labels: np.ndarray) -> AnomalyDetection:
    task = make_task(recipe("anomaly-detection"), dataset(labels, names=("normal", "anomaly"), output_shape=(3,)))
    assert isinstance(task, AnomalyDetection)
    return task


LABELS = (np.arange(60) % 3 == 0).astype(np.int64)


def test_an_auto_encoder_is_held_against_its_input() -> None:
    task = anomaly(LABELS)
    x = task.inputs(X)
    assert task.targets(x, LABELS) is x
    outputs = x + torch.tensor([1.0, 0.0, 0.0])
    assert float(task.loss(outputs, x)) == pytest.approx(1 / 3)
    assert float(task.distillation_loss(outputs, outputs, x, 4.0, 0.75)) == pytest.approx(0.25 / 3)


def test_scores_are_mean_squares_of_normalised_values() -> None:
    task = anomaly(LABELS)
    scores = task.scores(np.zeros((60, 3), np.float32), task.dataset.test)
    np.testing.assert_allclose(scores, (((X - [1, 0, 0]) / [2, 1, 1]) ** 2).mean(1), rtol=1e-5)


def test_figures_against_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    task, split = anomaly(LABELS), Split(X, LABELS)
    rng = np.random.default_rng(3)
    error = rng.normal(0, 1, (60, 3)) * (1 + LABELS[:, None])
    error[:6] = 0.25  # ties among both kinds
    outputs = (task.inputs(X).numpy() + error).astype(np.float32)
    scores = task.scores(outputs, split)
    figures = task.metrics(outputs, split)
    assert figures["auc"] == pytest.approx(100 * roc_auc_score(LABELS, scores))
    assert figures["pauc"] == pytest.approx(100 * roc_auc_score(LABELS, scores, max_fpr=0.1))
    assert figures["reconstruction_error"] == pytest.approx(scores[LABELS == 0].mean())
    plots = task.plots(outputs, split)
    assert np.trapezoid(plots["roc"]["hits"], plots["roc"]["false_alarms"]) * 100 == pytest.approx(
        figures["auc"], abs=1e-2
    )
    assert sum(plots["scores"]["normal"]) == 40
    assert sum(plots["scores"]["anomalous"]) == 20
    assert (np.diff(plots["scores"]["edges"]) > 0).all()


def test_normal_samples_alone_have_no_auc() -> None:
    task = anomaly(np.zeros(60, np.int64))
    outputs = task.inputs(X).numpy()
    assert task.metrics(outputs, task.dataset.test) == {"reconstruction_error": 0.0}
    assert "roc" not in task.plots(outputs, task.dataset.test)
    assert task.tolerance(task.dataset.test, 2.0, 0.1) == pytest.approx(0.02)


def test_one_sample_more_or_less_is_no_difference_of_aucs() -> None:
    task = anomaly(LABELS)
    assert task.tolerance(task.dataset.test, 90.0, 0.1) == pytest.approx(100 / 20)
    outputs = np.zeros((2, 3), np.float32)
    assert task.agreement(outputs, outputs + np.array([[0.09], [0.11]], np.float32)) == 50.0


def test_inputs_are_no_view_of_the_data() -> None:
    """Normalising in place would change float samples for good."""
    before = X.copy()
    anomaly(LABELS).inputs(X[:8])
    np.testing.assert_array_equal(X, before)


def test_values_end_where_the_data_say() -> None:
    ended = replace(dataset(numbers()), normalization=replace(PLAIN, clip=1.5))
    task, free = (make_task(recipe("regression"), one) for one in (ended, dataset(numbers())))
    x, plain = task.inputs(X), free.inputs(X)
    assert float(plain.abs().max()) > 3.0
    torch.testing.assert_close(x, plain.clamp(-1.5, 1.5))
    scale, zero_point = scale_and_zero_point(*task.input_range())
    assert zero_point == 0
    assert 1.5 / scale == pytest.approx(127.0, abs=1e-3)
    # No range is wider than what the train split reaches.
    wide = make_task(recipe("regression"), replace(ended, normalization=replace(PLAIN, clip=900.0)))
    assert wide.input_range() == free.input_range()
