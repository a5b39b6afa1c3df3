"""Models beside answers that look at no input, and beside each other on the same samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.recipe.schema import Recipe
from edgecompress.tasks.base import Task
from edgecompress.tasks.making import make_task
from edgecompress.tasks.reordering import reordering

PLAIN = Normalization(1.0, (0.0, 0.0), (1.0, 1.0), "none")
RNG = np.random.default_rng(0)


def task(name: str, inputs: np.ndarray, labels: np.ndarray, classes: int = 0, **more: Any) -> Task:
    """Returns a task whose splits are all the same samples, of two features each."""
    split = Split(inputs.astype(np.float32), labels)
    recipe = Recipe.model_validate({"version": 1, "task": name, "student": {"model": "mlp"}})
    names = tuple(f"class {number}" for number in range(classes))
    kind = more.pop("kind", "features")
    return make_task(recipe, Dataset("csv", split, split, split, names, (2,), PLAIN, kind=kind, **more))


def classifier(labels: np.ndarray, classes: int) -> Task:
    split = Split(np.zeros((len(labels), 4, 2), np.float32), labels)
    recipe = Recipe.model_validate({"version": 1, "task": "timeseries-classification", "student": {"model": "tcn"}})
    names = tuple(f"class {number}" for number in range(classes))
    return make_task(recipe, Dataset("npz", split, split, split, names, (4, 2), PLAIN, kind="series"))


def scores(answers: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[answers]


def by_chance(found: Task, outputs: np.ndarray) -> bool:
    split = found.dataset.test
    return found.standing(found.marks(outputs, split), split).by_chance


def test_accuracy_beside_the_most_frequent_class() -> None:
    labels = np.repeat([0, 1, 2], [12, 5, 3])
    found = classifier(labels, 3)
    split = found.dataset.test
    constant = found.standing(found.marks(scores(np.zeros(20, int), 3), split), split)
    assert (constant.value, constant.baseline, constant.samples, constant.by_chance) == (60.0, 60.0, 20, True)
    assert not by_chance(found, scores(labels, 3))
    some = labels.copy()
    some[:5] = 2  # three quarters right, a few samples above 60 %: 20 of them cannot tell
    assert by_chance(found, scores(some, 3))
    single = classifier(np.zeros(500, int), 2)
    assert by_chance(single, scores(np.zeros(500, int), 2))  # right throughout, but so is any constant


def test_errors_beside_the_mean() -> None:
    labels = RNG.normal(50, 10, (200, 1)).astype(np.float32)
    found = task("regression", np.zeros((200, 2)), labels, target_mean=(50.0,), target_std=(10.0,),
                 target_names=("y",), output_shape=(1,))  # fmt: skip
    truth = (labels - 50) / 10
    assert not by_chance(found, truth + RNG.normal(0, 0.7, truth.shape).astype(np.float32))
    assert by_chance(found, np.zeros_like(truth))
    assert by_chance(found, RNG.normal(0, 1, truth.shape).astype(np.float32))
    split = found.dataset.test
    shown = found.standing(found.marks(0 * truth, split), split)
    assert shown.value == pytest.approx(found.metrics(0 * truth, split)["mae"])
    few = Split(split.inputs[:1], split.labels[:1])
    alone = found.standing(found.marks(truth[:1], few), few)
    assert (alone.low, alone.by_chance) == (None, True)


def test_an_auc_beside_a_half() -> None:
    inputs = RNG.normal(size=(60, 2))
    labels = (np.arange(60) >= 40).astype(np.int64)
    found = task("anomaly-detection", inputs, labels, 2, output_shape=(2,))
    back = found.dataset.test.inputs.copy()
    assert by_chance(found, back + RNG.normal(0, 1, back.shape).astype(np.float32))
    good = back.copy()
    good[labels == 1] += 3
    assert not by_chance(found, good)
    split = found.dataset.test
    assert found.standing(found.marks(good, split), split).low < 100
    normal = task("anomaly-detection", inputs[:40], labels[:40], 2, output_shape=(2,))
    assert not by_chance(normal, back[:40])
    assert by_chance(normal, np.zeros_like(back[:40]))


def test_perplexity_beside_the_tokens_frequencies() -> None:
    labels = RNG.choice(8, (40, 16), p=[0.5, 0.2, 0.1, 0.05, 0.05, 0.04, 0.03, 0.03])

    class Words:
        size = 8

        def document(self) -> dict[str, Any]:
            return {"kind": "byte"}

    split = Split(np.zeros((40, 16), np.int32), labels)
    recipe = Recipe.model_validate({"version": 1, "task": "language-modeling", "student": {"model": "gru"}})
    dataset = Dataset("text-files", split, split, split, (), (16,), PLAIN, kind="tokens", output_shape=(16, 8))
    found = make_task(recipe, replace(dataset, vocabulary=Words()))  # type: ignore[arg-type]
    flat = np.zeros((40, 16, 8), np.float32)
    assert by_chance(found, flat)
    shares = np.bincount(labels.ravel(), minlength=8) / labels.size
    assert by_chance(found, flat + np.log(shares).astype(np.float32))
    known = flat + 2 * np.eye(8, dtype=np.float32)[labels]
    assert not by_chance(found, known)
    marks = found.marks(known, split)
    assert found.standing(marks, split).value == pytest.approx(found.metrics(known, split)["perplexity"], rel=1e-5)


def test_two_models_on_the_same_samples() -> None:
    labels = np.arange(40) % 2
    found = classifier(labels, 2)
    split = found.dataset.test
    first, second = labels.copy(), labels.copy()
    first[:2], second[2:12] = 1 - first[:2], 1 - second[2:12]
    paired = found.paired(*(found.marks(scores(one, 2), split) for one in (second, first)), split)
    assert (paired.gained, paired.lost, paired.loss) == (2, 10, 20.0)
    assert paired.p == pytest.approx(0.0386, abs=1e-4)


def test_two_errors_and_two_aucs_on_the_same_samples() -> None:
    labels = (np.arange(80) >= 50).astype(np.int64)
    found = task("anomaly-detection", RNG.normal(size=(80, 2)), labels, 2, output_shape=(2,))
    split = found.dataset.test
    clear = np.where(labels == 1, 2.0, 0.0) + RNG.normal(0, 0.5, 80)
    blurred = np.where(labels == 1, 0.4, 0.0) + RNG.normal(0, 0.5, 80)
    worse = found.paired(blurred, clear, split)
    assert worse.loss > 10
    assert worse.p is not None
    assert worse.p < 0.01
    same = found.paired(clear, clear, split)
    assert (same.loss, same.p, same.gained) == (0.0, 1.0, None)
    little = found.paired(clear + RNG.normal(0, 0.01, 80), clear, split)
    assert little.p is not None
    assert little.p > 0.05


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("right", [1.0, 0.8])
def test_turned_round_classes_are_found(classes: int, right: float) -> None:
    labels = np.arange(20 * classes) % classes
    answers = (labels + 1) % classes
    wrong = RNG.random(len(labels)) > right
    answers[wrong] = RNG.integers(0, classes, int(wrong.sum()))
    found = reordering(answers, labels, classes)
    assert found is not None
    assert found.moved == {number: (number + 1) % classes for number in range(classes)}
    assert found.reordered > 100 * right - 10 > found.accuracy


def test_two_classes_of_ten_and_pairs_are_found() -> None:
    labels = np.repeat(np.arange(10), 12)
    answers = np.where(labels == 3, 7, np.where(labels == 7, 3, labels))
    found = reordering(answers, labels, 10)
    assert found is not None
    assert (found.moved, found.accuracy, found.reordered) == ({3: 7, 7: 3}, 80.0, 100.0)
    pairs = reordering(labels ^ 1, labels, 10)
    assert pairs is not None
    assert pairs.moved == {number: number ^ 1 for number in range(10)}
    few = np.arange(20) % 3
    assert reordering((few + 1) % 3, few, 3) is not None


def test_weak_models_are_not_turned_round() -> None:
    """No order found on half the samples survives on the other: by chance, constant, weak, or one class for another."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 10, 300)
        assert reordering(rng.integers(0, 10, 300), labels, 10) is None
        weak = np.where(rng.random(300) < 0.3, labels, rng.integers(0, 10, 300))
        assert reordering(weak, labels, 10) is None
    labels = np.repeat([0, 1, 2], [20, 60, 20])
    assert reordering(np.zeros(100, int), labels, 3) is None
    assert reordering(np.where(labels == 0, 1, labels), labels, 3) is None
    assert reordering(labels, labels, 3) is None
    assert reordering(labels[:0], labels[:0], 3) is None
    assert reordering(np.zeros(5, int), np.zeros(5, int), 1) is None


def test_random_weights_that_tell_classes_apart_a_little_are_not_turned_round() -> None:
    labels = np.arange(400) % 10
    answers = np.where(RNG.random(400) < 0.3, (labels * 3 + 1) % 10, RNG.integers(0, 10, 400))
    assert reordering(answers, labels, 10) is None
