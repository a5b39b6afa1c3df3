"""Inputs, losses and figures of the picture task, each against an independent computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.recipe.schema import Recipe
from edgecompress.tasks.classification import Classification
from edgecompress.tasks.making import TASKS, make_task


def make(inputs: np.ndarray, normalization: Normalization, classes: int = 3, **data: Any) -> Classification:
    labels = np.arange(len(inputs)) % classes
    split = Split(inputs, labels)
    names = tuple("abcdefgh"[:classes])
    shape = (inputs.shape[3], *inputs.shape[1:3])
    recipe = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}, "data": data})
    return Classification(recipe, Dataset("npz", split, split, split, names, shape, normalization))


BYTES = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 3), dtype=np.uint8)
RGB = Normalization(1 / 255, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "train")


def test_the_table_holds_every_task_of_the_schema() -> None:
    from typing import get_args

    assert set(TASKS) == set(get_args(Recipe.model_fields["task"].annotation))


def test_inputs_are_normalised_and_channels_first() -> None:
    x = make(BYTES, RGB).inputs(BYTES[:5])
    expected = (BYTES[:5] / 255 - np.array(RGB.mean)) / np.array(RGB.std)
    assert x.shape == (5, 3, 8, 6)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x.numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)
    np.testing.assert_array_equal(make(BYTES, RGB).to_flatbuffer(x), x.numpy().transpose(0, 2, 3, 1))


def test_an_augmented_view_without_changes_is_the_picture() -> None:
    task = make(BYTES, RGB)
    assert torch.equal(task.augmented(BYTES[:4], np.arange(4), 2), task.inputs(BYTES[:4]))


def test_cutout_hides_with_the_mean() -> None:
    task = make(BYTES, RGB, augment=["cutout"])
    plain, cut = task.inputs(BYTES), task.augmented(BYTES, np.arange(40), 0)
    changed = cut != plain
    assert changed.any()
    assert (cut[changed] == 0).all()


def test_task_made_from_a_recipe() -> None:
    task = make(BYTES, RGB)
    recipe = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}})
    assert isinstance(make_task(recipe, task.dataset), Classification)


def test_distillation_loss_is_hintons() -> None:
    task, generator = make(BYTES, RGB), torch.Generator().manual_seed(0)
    outputs, targets = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    t, alpha = 4.0, 0.7
    p, q = torch.softmax(targets / t, 1).numpy(), torch.softmax(outputs / t, 1).numpy()
    soft = (p * np.log(p / q)).sum(1).mean()
    hard = -np.log(torch.softmax(outputs, 1).numpy()[np.arange(7), labels]).mean()
    expected = (1 - alpha) * hard + alpha * t**2 * soft
    assert float(task.distillation_loss(outputs, targets, labels, t, alpha)) == pytest.approx(expected, rel=1e-9)
    assert float(task.distillation_loss(outputs, targets, labels, t, 0.0)) == pytest.approx(hard, rel=1e-9)
    assert float(task.distillation_loss(targets, targets, labels, t, 1.0)) == pytest.approx(0.0, abs=1e-12)


def test_metrics_against_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

    rng = np.random.default_rng(1)
    task = make(BYTES, RGB, classes=5)
    labels = rng.integers(0, 4, 200)  # class 4 does not occur
    outputs = rng.standard_normal((200, 5)).astype(np.float32) + 2 * np.eye(5, dtype=np.float32)[labels]
    outputs[:, 4] = -10.0  # and is never answered
    answers = outputs.argmax(1)
    split = Split(np.zeros(200), labels)
    figures = task.metrics(outputs, split)
    assert figures["accuracy"] == pytest.approx(100 * accuracy_score(labels, answers))
    assert figures["macro_f1"] == pytest.approx(100 * f1_score(labels, answers, average="macro"))
    plots = task.plots(outputs, split)
    assert plots["confusion_matrix"] == confusion_matrix(labels, answers, labels=range(5)).tolist()
    assert plots["per_class_accuracy"][4] is None
    assert plots["per_class_accuracy"][0] == pytest.approx(100 * (answers[labels == 0] == 0).mean(), abs=1e-3)


def test_agreement_counts_equal_answers() -> None:
    outputs = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    reference = np.eye(3, dtype=np.float32)[[0, 1, 1, 1]] * 5
    assert make(BYTES, RGB).agreement(outputs, reference) == 50.0


def test_input_range_of_bytes_is_all_a_byte_can_hold() -> None:
    low, high = make(BYTES[:, :1], RGB).input_range()
    assert low == pytest.approx(min(-m / s for m, s in zip(RGB.mean, RGB.std, strict=True)), rel=1e-5)
    assert high == pytest.approx(max((1 - m) / s for m, s in zip(RGB.mean, RGB.std, strict=True)), rel=1e-5)


def test_input_range_of_floats_is_that_of_the_train_split() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (20, 4, 4, 1)).astype(np.float32)
    low, high = make(x, Normalization(1.0, (3.0,), (2.0,), "train")).input_range()
    assert low == pytest.approx((x.min() - 3) / 2, rel=1e-5)
    assert high == pytest.approx((x.max() - 3) / 2, rel=1e-5)


def test_no_plots_of_very_many_classes() -> None:
    split = Split(BYTES, np.arange(40) % 3)
    dataset = Dataset("npz", split, split, split, tuple(map(str, range(101))), (3, 8, 6), RGB)
    recipe = Recipe.model_validate({"version": 1, "teacher": {"model": "resnet8"}})
    assert Classification(recipe, dataset).plots(np.zeros((40, 101), np.float32), split) == {}
