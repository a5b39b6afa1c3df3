"""Numbers far from zero and close together: nothing of them is lost, whatever they come in, and it is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgecompress.data.loading import load_dataset
from edgecompress.data.offsets import Offsets, counted_from, is_coarse

RNG = np.random.default_rng(0)
NEAR = RNG.normal(size=200)
#: Where they lie, how far apart: seconds, milliseconds, microseconds and nanoseconds since 1970, and a pressure.
PLACES = {"s": (1.7e9, 80), "ms": (1.7e12, 9e4), "us": (1.7e15, 9e7), "ns": (1.7e18, 9e10), "Pa": (101_325, 3)}


@pytest.mark.parametrize(("base", "spread"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint64])
def test_what_float32_cannot_tell_apart_is_shifted(base: float, spread: float, dtype) -> None:
    values = np.round(base + spread * NEAR).astype(dtype)
    offsets = Offsets("x")
    rows = np.stack([values.astype(np.float64) if dtype == np.float64 else values, np.round(values * 0 + 3)], 1)
    found = offsets.shifted(rows.astype(dtype)).astype(np.float32)
    expected = (values.astype(object) - int(np.sort(values)[100])).astype(np.float64)
    assert found[:, 0] == pytest.approx(expected, rel=1e-6, abs=1e-3 * spread)
    assert (found[:, 1] == 3).all()
    assert len(offsets.notes) == 1
    assert "was subtracted before anything else. A device has to do the same." in offsets.notes[0]
    assert offsets.shifted(rows[:3].astype(dtype)).astype(np.float32) == pytest.approx(found[:3])


@pytest.mark.parametrize(
    "values",
    [2020 + 5 * NEAR, 1.7e9 + 1e7 * NEAR, np.arange(300), np.full(50, 1.7e9), NEAR * 1e30,
     np.array([np.nan, 1e9, np.nan]), np.zeros(0)],
)  # fmt: skip
def test_other_numbers_are_as_they_were(values: np.ndarray) -> None:
    offsets = Offsets("x")
    assert offsets.shifted(values[:, np.newaxis]) is not None
    assert offsets.notes == []
    assert not is_coarse(values, np.float32)


def test_differences_of_large_integers_are_exact() -> None:
    base = 1_700_000_000_123_456_789
    values = np.array([base - 3, base, base + 5])
    assert counted_from(values, base).tolist() == [-3, 0, 5]
    assert counted_from(values.astype(np.uint64), base).tolist() == [-3, 0, 5]
    top = np.array([2**64 - 3, 2**64 - 1], np.uint64)
    assert counted_from(top, 2**64 - 2).tolist() == [-1, 1]


def csv(path: Path, *columns: np.ndarray, names: str) -> None:
    lines = (",".join(str(cell) for cell in row) for row in zip(*(column.tolist() for column in columns), strict=True))
    path.write_text(names + "\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("base", [1.7e9, 1.7e12])
def test_a_table_s_times_are_features_and_targets(recipe_of, tmp_path: Path, base: float) -> None:
    when, answer = base + 80 * NEAR, base + 50 * NEAR
    csv(tmp_path / "x.csv", when, NEAR, answer, names="when,a,label")
    data = load_dataset(recipe_of("csv", task="regression", path="x.csv"), trust=False)
    inputs = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    labels = np.concatenate([data.train.labels, data.validation.labels, data.test.labels])
    assert inputs.dtype == np.float32
    assert inputs[:, 0] - inputs[0, 0] == pytest.approx(80 * (inputs[:, 1] - inputs[0, 1]), abs=0.01)
    assert labels[:, 0] - base == pytest.approx(50 * inputs[:, 1].astype(np.float64), abs=0.01)
    assert data.target_mean[0] == pytest.approx(base, rel=1e-6)
    assert data.target_std[0] == pytest.approx(50, rel=0.3)
    notes = " ".join(data.notes)
    assert "`when`: numbers near 1.7e+" in notes
    assert "`label`: numbers near 1.7e+" in notes
    assert "learnt and scored as float64, counted from its mean" in notes


def test_nanoseconds_have_more_digits_than_float64(recipe_of, tmp_path: Path) -> None:
    base = 1_700_000_000_000_000_000
    ticks = np.round(900 * NEAR).astype(np.int64)
    csv(tmp_path / "x.csv", base + ticks, ticks, base + 2 * ticks, names="when,a,label")
    data = load_dataset(recipe_of("csv", task="regression", path="x.csv", features=["when", "a"]), trust=False)
    assert (np.diff(data.test.inputs[:, 0]) == np.diff(data.test.inputs[:, 1])).all()
    assert (np.diff(data.test.labels[:, 0]) == 2 * np.diff(data.test.inputs[:, 1])).all()
    assert any(
        "`label` has more digits than floating-point numbers: it is counted from 1" in note for note in data.notes
    )


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@pytest.mark.parametrize("shape", [(40, 5), (40, 5, 1)])
def test_arrays_of_times_are_shifted_too(recipe_of, tmp_path: Path, dtype, shape) -> None:
    values = np.round(1.7e9 + 80 * NEAR).astype(dtype).reshape(shape)
    np.savez(
        tmp_path / "x.npz",
        x_train=values,
        y_train=values.reshape(40, -1)[:, 0],
        x_test=values[:9],
        y_test=values.reshape(40, -1)[:9, 0],
    )
    data = load_dataset(recipe_of("npz", task="regression", path="x.npz"), trust=False)
    flat = data.test.inputs.reshape(9, -1)
    assert np.diff(flat[:, 0]) == pytest.approx(np.diff(data.test.labels[:, 0]), abs=1e-3)
    assert any("x.npz: x_train: " in note and "was subtracted" in note for note in data.notes)
    assert any("`y`: numbers near 1.7e+09" in note for note in data.notes)


@pytest.mark.parametrize("ragged", [True, False])
def test_series_in_lists_are_shifted_together(recipe_of, tmp_path: Path, ragged: bool) -> None:
    rows = []
    for number in range(20):
        steps = 5 + (number % 2) * ragged
        rows.append({"label": "ab"[number % 2], "s": [1_700_000_000 + number + step for step in range(steps)]})
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load_dataset(
        recipe_of("jsonl", task="timeseries-classification", path="x.jsonl", features=["s"]), trust=False
    )
    assert (np.diff(data.test.inputs[:, -5:, 0], axis=1) == 1).all()
    assert any("was subtracted" in note for note in data.notes)


def test_a_padded_series_and_one_of_a_function_are_shifted(recipe_of, tmp_path: Path) -> None:
    values = (1_700_000_000 + np.arange(120).reshape(20, 6)).astype(np.float64)
    lengths = np.array([4, 6] * 10)
    np.savez(tmp_path / "x.npz", x_train=values, y_train=np.arange(20) % 2, lengths_train=lengths)
    data = load_dataset(recipe_of("npz", task="timeseries-classification", path="x.npz"), trust=False)
    assert (np.diff(data.test.inputs[:, -4:, 0], axis=1) == 1).all()


def test_pictures_of_large_integers_are_shifted(recipe_of, tmp_path: Path) -> None:
    pictures = 2_000_000_000 + np.arange(20 * 16, dtype=np.int64).reshape(20, 4, 4)
    np.savez(tmp_path / "x.npz", x_train=pictures, y_train=np.arange(20) % 2)
    data = load_dataset(recipe_of("npz", path="x.npz"), trust=False)
    assert (np.diff(data.test.inputs.reshape(len(data.test), -1), axis=1) == 1).all()
    assert any("was subtracted" in note for note in data.notes)


def test_12_bits_in_16_are_as_they_are(recipe_of, tmp_path: Path) -> None:
    pictures = RNG.integers(500, 700, (20, 4, 4)).astype(np.uint16)
    np.savez(tmp_path / "x.npz", x_train=pictures, y_train=np.arange(20) % 2, x_test=pictures, y_test=np.arange(20) % 2)
    data = load_dataset(recipe_of("npz", path="x.npz"), trust=False)
    assert (data.test.inputs[..., 0] == pictures).all()


@pytest.mark.slow
def test_a_network_learns_such_targets(recipe_of, tmp_path: Path) -> None:
    import torch

    from edgecompress.tasks.making import make_task

    csv(tmp_path / "x.csv", NEAR, 1.7e9 + 50 * NEAR, names="a,label")
    recipe = recipe_of("csv", task="regression", path="x.csv")
    task = make_task(recipe, load_dataset(recipe, trust=False))
    split = task.dataset.test
    wanted = task.targets(torch.zeros(1), split.labels).numpy()
    assert wanted.dtype == np.float32
    assert task.metrics(wanted, split)["mae"] < 1e-3
    shown = task.plots(wanted, split)["predictions"][0]
    assert len(set(shown["true"])) == len(split)


def test_what_came_rounded_is_told(recipe_of, tmp_path: Path) -> None:
    values = (1.7e9 + 300 * NEAR).astype(np.float32)
    np.savez(tmp_path / "x.npz", x_train=np.stack([values, NEAR], 1).astype(np.float32), y_train=values)
    notes = load_dataset(recipe_of("npz", task="regression", path="x.npz"), trust=False).notes
    assert any("x_train: feature 0: so large that float32 has coarse steps there" in note for note in notes)
    assert any("x.npz: `y`: so large that float32 has coarse steps" in note for note in notes)


def test_columns_that_are_no_series_are_told(recipe_of, tmp_path: Path) -> None:
    rows = "".join(f"{1.7e9 + 5 * one:.3f},{one:.3f},{'ab'[place % 2]}\n" for place, one in enumerate(NEAR))
    (tmp_path / "x.csv").write_text(f"when,v,label\n{rows}")
    data = load_dataset(recipe_of("csv", task="timeseries-classification", path="x.csv"), trust=False)
    assert any(
        "column 1 holds numbers that float32 cannot tell apart, and others do not" in note for note in data.notes
    )


def test_a_number_that_never_changes_is_told(recipe_of, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=NEAR.reshape(-1, 2), y_train=(1.7e9 + NEAR[:100]).astype(np.float32))
    notes = load_dataset(recipe_of("npz", task="regression", path="x.npz"), trust=False).notes
    assert any("`y` is 1.7e+09 everywhere in train: there is nothing to learn." in note for note in notes)
