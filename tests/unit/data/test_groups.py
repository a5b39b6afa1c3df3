"""Splits by group: every group whole on one side, classes as near to their share as groups allow."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.data.splits import by_group, undivided
from edgecompress.errors import DataError

MEMBERS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=2, max_size=120)


@settings(max_examples=50, deadline=None)
@given(MEMBERS, st.floats(0.05, 0.6), st.integers(0, 99))
def test_no_group_is_on_both_sides(members, share: float, seed: int) -> None:
    groups, labels = np.array(members).T
    if len(set(groups.tolist())) < 2:
        with pytest.raises(DataError, match="all samples are of one group"):
            by_group(groups, labels, share, seed)
        return
    kept, held = by_group(groups, labels, share, seed)
    assert sorted([*kept, *held]) == list(range(len(groups)))
    assert len(kept)
    assert len(held)
    assert not set(groups[kept]) & set(groups[held])
    again = by_group(groups, labels, share, seed)
    assert (again[0] == kept).all()
    assert (again[1] == held).all()


def test_equal_groups_are_held_to_their_share() -> None:
    groups = np.repeat(np.arange(10), 14)
    labels = np.tile(np.repeat(np.arange(7), 2), 10)
    tests = set()
    for seed in range(5):
        _, held = by_group(groups, labels, 0.3, seed)
        assert len(held) == 42
        assert np.bincount(labels[held]).tolist() == [6] * 7
        tests.add(tuple(sorted(set(groups[held].tolist()))))
    assert len(tests) > 1


def test_groups_that_bring_the_classes_are_preferred() -> None:
    groups = np.array(["a"] * 4 + ["b"] * 4 + ["c"] * 4 + ["d"] * 4)
    labels = np.array([0] * 8 + [1] * 8)
    _, held = by_group(groups, labels, 0.5, 3)
    assert np.bincount(labels[held]).tolist() == [4, 4]
    _, held = by_group(groups, None, 0.25, 3)
    assert len(held) == 4


def test_thousands_of_groups_take_seconds_at_most() -> None:
    generator = np.random.default_rng(0)
    groups, labels = generator.integers(0, 2600, 20_000), generator.integers(0, 35, 20_000)
    start = time.process_time()
    _, held = by_group(groups, labels, 0.1, 0)
    assert time.process_time() - start < 5
    assert len(held) == pytest.approx(2000, rel=0.02)


def test_without_classes_both_sides_get_something() -> None:
    assert [len(part) for part in undivided(10, 0.2, 0)] == [8, 2]
    assert [len(part) for part in undivided(2, 0.01, 0)] == [1, 1]
    assert [len(part) for part in undivided(2, 0.99, 0)] == [1, 1]
