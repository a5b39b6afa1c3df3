"""Splits keep every class on both sides, in proportion, and are the same each time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.data.splits import calibration_inputs, calibration_samples, derived_seed, stratified, subset
from edgecompress.errors import DataError

LABELS = st.lists(st.integers(0, 12), max_size=200).map(lambda numbers: np.array(numbers, np.int64))
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.slow
@given(LABELS, st.one_of(st.floats(0.001, 0.999), st.integers(1, 220)), SEEDS)
def test_held_and_kept_make_up_the_whole_with_every_class_in_proportion(labels, share_or_count, seed: int) -> None:
    kept, held = stratified(labels, share_or_count, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    total = len(labels)
    count = share_or_count if isinstance(share_or_count, int) else round(share_or_count * total)
    for number in np.unique(labels):
        size, there = int((labels == number).sum()), int((labels[held] == number).sum())
        assert abs(there - min(count, total) * size / total) <= 1
        if size >= 2:
            assert 0 < there < size
        else:
            assert there == 0


@given(LABELS, st.integers(1, 220), SEEDS)
def test_a_subset_has_exactly_the_number_asked_for(labels, count: int, seed: int) -> None:
    index = subset(labels, count, seed)
    assert len(set(index.tolist())) == len(index) == min(count, len(labels))
    assert list(index) == sorted(index)
    if count >= len(set(labels.tolist())):
        assert set(labels[index].tolist()) == set(labels.tolist())


@given(LABELS, st.floats(0.1, 0.9), SEEDS)
def test_the_same_seed_gives_the_same_split(labels, share: float, seed: int) -> None:
    first, second = stratified(labels, share, seed), stratified(labels, share, seed)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_a_split_is_exact_where_it_can_be() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    _, held = stratified(labels, 0.1, 0)
    assert np.bincount(labels[held]).tolist() == [5, 3, 2]
    _, held = stratified(labels, 7, 0)
    assert np.bincount(labels[held]).tolist() == [4, 2, 1]  # shares 3.5, 2.1, 1.4: the largest remainder is rounded up


def test_another_seed_or_purpose_gives_another_split() -> None:
    labels = np.arange(200) % 4
    splits = {tuple(stratified(labels, 0.2, derived_seed(seed, "test"))[1].tolist()) for seed in range(5)}
    assert len(splits) == 5
    assert derived_seed(0, "test") != derived_seed(0, "validation")


def test_splits_do_not_change_between_versions() -> None:
    # Stored results are found by fingerprints that know the seed, not this code: a change here must be deliberate.
    assert stratified(np.arange(12) % 3, 0.25, derived_seed(7, "test"))[1].tolist() == [7, 8, 9]
    assert subset(np.arange(12) % 3, 4, derived_seed(7, "train_samples")).tolist() == [0, 5, 9, 10]


def dataset(train: int = 40, calibration: np.ndarray | None = None) -> Dataset:
    inputs = np.arange(train, dtype=np.uint8).reshape(-1, 1, 1, 1)
    test = Split(np.full((9, 1, 1, 1), 200, np.uint8), np.zeros(9, np.int64))
    none = Normalization(1.0, (0.0,), (1.0,), "")
    split = Split(inputs, np.arange(train) // 10)
    return Dataset("mine", split, test, test, ("a", "b", "c", "d"), (1, 1, 1), none, calibration)


def test_calibration_draws_from_train_alone_and_from_all_classes() -> None:
    drawn = calibration_inputs(dataset(), 8, 0)
    assert drawn.shape == (8, 1, 1, 1)
    assert np.bincount(drawn.ravel() // 10).tolist() == [2, 2, 2, 2]
    assert (drawn == calibration_inputs(dataset(), 8, 0)).all()
    assert drawn.ravel().tolist() != calibration_inputs(dataset(), 8, 1).ravel().tolist()
    assert sorted(calibration_inputs(dataset(), 1000, 0).ravel()) == list(range(40))


def test_classes_go_with_what_is_drawn_where_there_are_any() -> None:
    inputs, classes = calibration_samples(dataset(), 8, 0)
    assert classes is not None
    assert classes.tolist() == (inputs.ravel() // 10).tolist()
    assert calibration_samples(dataset(40, np.zeros((20, 1, 1, 1), np.uint8)), 8, 0)[1] is None
    texts = dataset()
    several = dataclasses.replace(texts, train=Split(texts.train.inputs, np.zeros((40, 5), np.int64)))
    assert calibration_samples(several, 8, 0)[1] is None


def test_calibration_mixes_the_classes() -> None:
    order = calibration_inputs(dataset(), 1000, 0).ravel().tolist()
    assert order != sorted(order)


def test_a_calibration_set_of_the_source_is_used_instead() -> None:
    own = np.arange(100, 120, dtype=np.uint8).reshape(-1, 1, 1, 1)
    assert set(calibration_inputs(dataset(0, own), 5, 0).ravel()) <= set(range(100, 120))
    assert len(calibration_inputs(dataset(40, own), 512, 0)) == 20


def test_nothing_to_calibrate_on_is_said() -> None:
    with pytest.raises(DataError, match="mine has nothing to calibrate on"):
        calibration_inputs(dataset(0), 5, 0)
