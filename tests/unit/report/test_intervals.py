"""Intervals and paired tests, against published values and against counting."""

from __future__ import annotations

import itertools
import math

import pytest

from edgecompress.report.intervals import (
    auc_interval,
    hits_text,
    mcnemar,
    mcnemar_of,
    mean_interval,
    mean_p,
    wilson,
    wilson_percent,
)


@pytest.mark.parametrize(
    ("hits", "samples", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_has_newcombes_published_intervals(hits: int, samples: int, low: float, high: float) -> None:
    assert wilson(hits, samples) == pytest.approx((low, high), abs=5e-5)


def test_all_right_is_no_proof_of_certainty() -> None:
    assert wilson_percent(100.0, 64) == pytest.approx((94.34, 100.0), abs=5e-3)
    assert wilson_percent(0.0, 64) == pytest.approx((0.0, 5.66), abs=5e-3)
    assert wilson(1, 1)[0] < 0.25
    assert wilson_percent(None, 5) is None
    assert wilson_percent(50.0, 0) is None


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 5), (3, 3), (2, 12), (7, 4)])
def test_mcnemar_counts_the_ways(gained: int, lost: int) -> None:
    trials, fewer = gained + lost, min(gained, lost)
    ways = sum(min(sum(flips), trials - sum(flips)) <= fewer for flips in itertools.product((0, 1), repeat=trials))
    assert mcnemar(gained, lost) == pytest.approx(min(ways / 2**trials, 1.0))


def test_mcnemar_of_very_many_samples() -> None:
    assert mcnemar(50_000, 50_000) == 1.0
    assert 0 < mcnemar(49_000, 51_000) < 1e-8


def test_an_auc_of_one_has_an_interval() -> None:
    low, high = auc_interval(1.0, 10, 10)
    assert 0.6 < low < 0.95
    assert high == pytest.approx(1.0)
    low, high = auc_interval(0.5, 200, 200)
    assert low < 0.5 < high
    assert high - low < 0.14
    assert auc_interval(0.5, 3, 3)[0] < 0.2


def test_means() -> None:
    assert mean_interval(1.0, 1.0, 1) is None
    low, high = mean_interval(0.0, 1.0, 10) or (0, 0)
    assert (low, high) == pytest.approx((-2.262 / math.sqrt(10), 2.262 / math.sqrt(10)), abs=2e-3)
    assert mean_interval(0.0, 1.0, 2) == pytest.approx((-12.706 / math.sqrt(2), 12.706 / math.sqrt(2)))
    assert mean_p(1.96, math.sqrt(100), 100) == pytest.approx(0.05, abs=1e-3)
    assert (mean_p(0.0, 0.0, 9), mean_p(1.0, 0.0, 9), mean_p(1.0, 1.0, 1)) == (1.0, 0.0, None)


def test_answers_are_kept_as_bits_and_compared() -> None:
    first, second = [True, True, False, True, False, False, True, True, True], [True, False, True] + [True] * 6
    found = mcnemar_of(hits_text(first), hits_text(second), 9)
    assert (found.gained, found.lost) == (3, 1)
    assert found.loss == pytest.approx(-100 * 2 / 9)
    assert hits_text([]) == ""
    assert hits_text([True] + [False] * 8) == "8000"
    assert mcnemar_of("", "", 0).p == 1.0
