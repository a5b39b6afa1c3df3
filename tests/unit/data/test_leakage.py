"""Samples that train and test share are found by their content, whatever they are."""

from __future__ import annotations

import numpy as np

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.data.leakage import leaked


def dataset(train: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Dataset:
    splits = [Split(inputs, np.zeros(len(inputs), np.int64)) for inputs in (train, validation, test)]
    return Dataset("made", *splits, ("a", "b"), (1, 2, 2), Normalization(1.0, (0.0,), (1.0,), "none"))


def test_what_train_or_validation_holds_is_found_in_test() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (10, 2, 2, 1)).astype(np.uint8)
    test = np.stack([pictures[9], pictures[2], pictures[6], 255 - pictures[2]])
    assert leaked(dataset(pictures[:5], pictures[5:8], test)).tolist() == [False, True, True, False]


def test_samples_may_be_texts_or_series_of_different_lengths() -> None:
    texts = np.array(["one", "two", "ein\udcffs"], object)
    assert leaked(dataset(texts[:1], texts[2:], texts)).tolist() == [True, False, True]
    series = np.empty(3, object)
    for number, steps in enumerate((4, 6, 4)):
        series[number] = np.full((steps, 2), number, np.float32)
    assert leaked(dataset(series[:1], series[2:], series)).tolist() == [True, False, True]


def test_nothing_in_common_and_nothing_at_all() -> None:
    numbers = np.arange(12.0).reshape(6, 2)
    assert not leaked(dataset(numbers[:2], numbers[2:4], numbers[4:])).any()
    assert leaked(dataset(numbers[:2], numbers[2:4], numbers[:0])).shape == (0,)
