"""Changes to series are functions of (seed, view, position), and are what their names say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecompress.data.base import Dataset, Normalization, Split
from edgecompress.errors import DataError
from edgecompress.recipe.schema import Recipe
from edgecompress.tasks.augment_series import LARGEST_ANGLE, augment_series, rotations
from edgecompress.tasks.making import make_task

INDEX = np.arange(60)
SERIES = np.random.default_rng(0).normal(size=(60, 20, 6)).astype(np.float32)


def changed(*changes: str, index: np.ndarray = INDEX, view: int = 0) -> np.ndarray:
    return augment_series(SERIES[index], index, changes=changes, seed=0, view=view)


@pytest.mark.parametrize("change", ["shift", "scale", "rotate", "mirror"])
def test_a_series_changes_the_same_way_in_any_batch_and_otherwise_in_another_view(change: str) -> None:
    some = np.array([41, 3, 17])
    np.testing.assert_allclose(changed(change, index=some), changed(change)[some], atol=1e-6)
    assert not np.allclose(changed(change), changed(change, view=1))
    assert not np.allclose(changed(change), SERIES)


def test_shift_goes_round_the_ends_by_up_to_a_quarter() -> None:
    found = set()
    for one, other in zip(SERIES, changed("shift"), strict=True):
        by = [k for k in range(20) if np.array_equal(np.roll(one, k, 0), other)]
        assert len(by) == 1
        found.add((by[0] + 10) % 20 - 10)
    assert min(found) == -5
    assert max(found) == 5


def test_scale_multiplies_each_channel() -> None:
    factors = changed("scale") / SERIES
    assert np.ptp(factors, axis=1).max() < 1e-4
    assert 0.7 <= factors.min() < 0.75
    assert 1.25 < factors.max() <= 1.3


def test_rotations_turn_all_instruments_alike_and_keep_lengths() -> None:
    turned = rotations(INDEX, seed=0, view=0)
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (60, 3, 3)), atol=1e-6)
    angles = np.arccos((np.trace(turned, axis1=1, axis2=2) - 1) / 2)
    assert 0.9 * LARGEST_ANGLE < angles.max() <= LARGEST_ANGLE + 1e-3
    both = changed("rotate")
    np.testing.assert_allclose(both[7, :, :3], SERIES[7, :, :3] @ turned[7].T, atol=1e-5)
    np.testing.assert_allclose(both[7, :, 3:], SERIES[7, :, 3:] @ turned[7].T, atol=1e-5)


def test_a_mirror_turns_acceleration_and_rotation_otherwise() -> None:
    signs = np.unique(np.sign(changed("mirror") / SERIES)[:, 0], axis=0)
    np.testing.assert_array_equal(signs, [[-1, 1, 1, 1, -1, -1], [1, 1, 1, 1, 1, 1]])


def task_over(series: np.ndarray, **data: Any) -> Any:
    recipe = Recipe.model_validate(
        {"version": 1, "task": "timeseries-classification", "teacher": {"model": "tcn"}, "data": data}
    )
    split = Split(series, np.zeros(len(series), np.int64))
    channels = series.shape[2]
    plain = Normalization(1.0, (0.5,) * channels, (2.0,) * channels, "train")
    dataset = Dataset("npz", split, split, split, ("a", "b"), series.shape[1:], plain, kind="series")
    return make_task(recipe, dataset)


def test_a_task_prepares_augmented_series_and_leaves_the_data_as_they_are() -> None:
    series = SERIES.copy()
    task = task_over(series, augment=["rotate", "shift"])
    expected = (augment_series(SERIES, INDEX, changes=("rotate", "shift"), seed=0, view=3) - 0.5) / 2
    np.testing.assert_allclose(task.augmented(series[:], INDEX, 3).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(task.inputs(series[:30]).numpy(), (SERIES[:30] - 0.5) / 2, atol=1e-6)
    np.testing.assert_array_equal(series, SERIES)


@pytest.mark.parametrize(
    ("change", "channels", "message"),
    [
        ("crop", 6, "`crop` cannot be used here: for series there are shift, scale, rotate, mirror"),
        ("rotate", 4, "`rotate` is for series of a multiple of 3 channels; these have 4"),
        ("mirror", 3, "`mirror` is for series of 6 channels; these have 3"),
    ],
)
def test_changes_that_do_not_fit_are_refused(change: str, channels: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        task_over(np.zeros((4, 20, channels), np.float32), augment=[change])
