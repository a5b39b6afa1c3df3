"""Test samples of another scale than train: what is found, and what is only another sample of the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecompress.data.base import Dataset, Kind, Normalization, Split
from edgecompress.data.shift import shifts


def dataset(train: Any, test: Any, kind: Kind = "pictures", labels: Any = None, **more: Any) -> Dataset:
    known, unknown = (Split(part, np.zeros(len(part), np.int64)) for part in (train, test))
    if labels is not None:
        unknown = Split(test, labels)
    plain = Normalization(1.0, (0.0,), (1.0,), "none")
    return Dataset("npz", known, known, unknown, ("a", "b"), (1,), plain, kind=kind, **more)


def pictures(count: int, seed: int, channels: int = 3) -> np.ndarray:
    """Returns pictures whose brightness varies from one to the next; reddish ones."""
    rng = np.random.default_rng(seed)
    light = rng.normal(110, 25, (count, 1, 1, 1))
    return np.clip(light + rng.normal(0, 40, (count, 8, 8, channels)) + np.linspace(12, -12, channels), 0, 255)


def found(train: Any, test: Any, kind: Kind = "pictures", **more: Any) -> list[str]:
    return [one.what for one in shifts(dataset(train, test, kind, **more))]


TRAIN = pictures(300, 0)


@pytest.mark.parametrize("count", [20, 200])
def test_another_scale(count: int) -> None:
    test = pictures(count, 1)
    assert found(TRAIN, test) == []
    assert found(TRAIN, test / 255) == ["mean", "spread"]
    assert found(TRAIN / 255, test) == ["mean", "spread"]
    assert found(TRAIN.astype(np.uint8), (test / 255).astype(np.float32)) == ["mean", "spread"]
    assert "mean" in found(TRAIN / 255 - 0.5, test / 255 + 0.5)
    grey = pictures(300, 2, 1)
    assert "mean" in found(np.where(grey > 170, 255, 0), 255 - np.where(pictures(count, 3, 1) > 170, 255, 0))


def test_colours_turned_round() -> None:
    test = pictures(400, 1)
    assert found(TRAIN, test[..., ::-1]) == ["order"]
    assert found(TRAIN, test) == []
    assert found(TRAIN.mean(3, keepdims=True).repeat(3, 3), test.mean(3, keepdims=True).repeat(3, 3)) == []


@pytest.mark.slow
def test_another_sample_of_the_same_is_no_shift() -> None:
    for seed in range(1, 9):
        assert found(TRAIN, pictures(12, seed)) == []
        rng = np.random.default_rng(seed)
        rare = (rng.random((400, 500)) < 0.002).astype(np.float32)  # words of a few texts
        assert found(rare[:300], rare[300:], "features") == []
        heavy = rng.standard_cauchy((400, 20))
        assert found(heavy[:300], heavy[300:], "features") == []


def test_features_and_series_of_other_units() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(20, 5, (500, 8))
    test = rng.normal(20, 5, (25, 8))
    assert found(table, test, "features") == []
    celsius = test.copy()
    celsius[:, 3] = celsius[:, 3] * 1.8 + 32
    (one,) = shifts(dataset(table, celsius, "features"))
    assert (one.what, one.channel, one.channels) == ("mean", 3, 1)
    assert found(table - 20, (test - 20) / 1000, "features") == ["spread"]
    assert found(table - 20, (test - 20) * 1000, "features")[-1] == "spread"
    series = np.empty(40, object)
    series[:] = [rng.normal(0, 1, (rng.integers(5, 20), 2)) for _ in range(40)]
    other = np.empty(20, object)
    other[:] = [1000 * one for one in series[:20]]
    assert found(series, series[20:], "series") == []
    assert "spread" in found(series, other, "series")


def test_anomalies_may_differ_and_tokens_have_no_scale() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(200, 4)), rng.normal(size=(100, 4))
    test[50:] *= 40
    labels = (np.arange(100) >= 50).astype(np.int64)
    mixed = dataset(train, test, "features", labels)
    assert shifts(mixed, normal_only=True) == []
    assert [one.what for one in shifts(mixed)] == ["spread"]
    assert found(np.zeros((9, 4), np.int32), np.full((9, 4), 900, np.int32), "tokens") == []


def test_nothing_to_compare_with() -> None:
    test = pictures(9, 1)
    assert found(TRAIN[:0], test) == []
    assert found(TRAIN[:0], test / 255, calibration=TRAIN) == ["mean", "spread"]
    assert found(TRAIN[:1], test) == []
    assert found(TRAIN, test[:0]) == []
    assert found(np.zeros((30, 4, 4, 3)), test) == []
