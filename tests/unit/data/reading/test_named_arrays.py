"""Arrays of series, tables and text, from an npz or a Python function, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.errors import DataError

SERIES, FEATURES = (
    np.arange(20 * 6 * 2, dtype=np.float64).reshape(20, 6, 2),
    np.arange(60, dtype=np.int16).reshape(20, 3),
)
CLASSES, NUMBERS = np.arange(20) % 2, np.arange(20) / 4


@pytest.fixture
def load(recipe_of, tmp_path: Path):
    def from_arrays(task: str, arrays: dict[str, Any], **data: Any):
        np.savez(tmp_path / "data.npz", **arrays)
        return load_dataset(recipe_of("npz", task=task, path="data.npz", **data), trust=False)

    return from_arrays


def test_series_and_classes(load) -> None:
    data = load(
        "timeseries-classification", {"x_train": SERIES, "y_train": CLASSES, "class_names": np.array(["a", "b"])}
    )
    assert (data.kind, data.input_shape, data.outputs) == ("series", (6, 2), (2,))
    assert data.train.inputs.dtype == np.float32
    assert data.notes[0].startswith("The source has no test split: 4 of 20 samples were held out")
    rows = data.train.inputs.reshape(-1, 2)
    assert data.normalization.mean == pytest.approx(rows.mean(0))
    assert data.normalization.std == pytest.approx(rows.std(0))


def test_rows_of_a_table_are_series_of_one_feature_or_features(load) -> None:
    arrays = {"x_train": FEATURES, "y_train": CLASSES}
    assert load("timeseries-classification", arrays).input_shape == (3, 1)
    data = load("regression", {"x_train": FEATURES, "y_train": NUMBERS})
    assert (data.kind, data.input_shape, data.outputs, data.target_names) == ("features", (3,), (1,), ("y",))
    assert (data.train.inputs[:, 0] / 12 == data.train.labels[:, 0]).all()


def test_several_numbers_to_predict_have_names(load) -> None:
    arrays = {"x_train": SERIES, "y_train": np.stack([NUMBERS, -NUMBERS], 1), "target_names": np.array(["up", "down"])}
    data = load("regression", arrays)
    assert (data.kind, data.outputs, data.target_names) == ("series", (2,), ("up", "down"))
    assert data.target_std[0] == pytest.approx(data.train.labels[:, 0].std())
    del arrays["target_names"]
    assert load("regression", arrays).target_names == ("y[0]", "y[1]")


def test_pictures_can_be_regressed_on(load) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)
    data = load("regression", {"x_train": pictures, "y_train": NUMBERS})
    assert (data.kind, data.input_shape, data.train.inputs.dtype) == ("pictures", (3, 6, 5), np.uint8)


def test_texts_of_arrays_are_tokens(load) -> None:
    texts = np.array([f"word{n % 3} and more" for n in range(20)])
    data = load("text-classification", {"x_train": texts, "y_train": np.array(["yes", "no"])[CLASSES]}, length=4)
    assert (data.kind, data.class_names) == ("tokens", ("no", "yes"))
    data = load("language-modeling", {"x_train": texts, "x_test": texts[:2]}, length=2)
    assert len(data.test) == 2
    data = load("regression", {"x_train": texts, "y_train": NUMBERS}, length=4)
    assert (data.kind, data.outputs) == ("tokens", (1,))


def test_anomalies_are_what_is_not_labelled_0(load) -> None:
    data = load("anomaly-detection", {"x_train": FEATURES, "x_test": FEATURES[:4], "y_test": np.array([0, 3, 1, 0])})
    assert data.test.labels.tolist() == [0, 1, 1, 0]
    assert (data.kind, data.outputs, data.class_names) == ("features", (3,), ("normal", "anomaly"))
    with pytest.raises(DataError, match="all samples left to train on are anomalies"):
        load("anomaly-detection", {"x_train": FEATURES, "y_train": CLASSES * 0 + 1})


def test_lengths_say_where_padding_begins(load) -> None:
    lengths = np.arange(20) % 4 + 2
    padded = SERIES.copy()
    for one, steps in zip(padded, lengths, strict=True):
        one[steps:] = np.nan  # whatever stands there is not looked at
    arrays = {
        "x_train": padded,
        "lengths_train": lengths,
        "y_train": CLASSES,
        "x_test": SERIES[:3],
        "y_test": CLASSES[:3],
    }
    data = load("timeseries-classification", {**arrays, "lengths_test": np.array([1, 2, 6])})
    assert data.input_shape == (5, 2)
    mean = np.array(data.normalization.mean, np.float32)
    assert (data.test.inputs[0, :4] == mean).all()
    assert (data.test.inputs[0, 4:] == SERIES[0, :1]).all()
    assert (data.test.inputs[2] == SERIES[2, :5]).all()  # longer than any in train: the end is cut off
    assert "Series have 2 to 5 steps: longer ones than 5 keep their first steps" in data.notes[0]


def test_length_and_hop_cut_windows_within_the_splits(load) -> None:
    arrays = {"x_train": SERIES, "y_train": CLASSES, "person_train": np.arange(20) % 5}
    data = load("timeseries-classification", arrays, split_by="person", length=3, hop=2)
    whole = load("timeseries-classification", arrays, split_by="person")
    for one, all_steps in ((data.train, whole.train), (data.validation, whole.validation), (data.test, whole.test)):
        assert len(one) == 2 * len(all_steps)
        assert (one.inputs[0::2] == all_steps.inputs[:, :3]).all()
        assert (one.inputs[1::2] == all_steps.inputs[:, 2:5]).all()
        assert (one.labels == np.repeat(all_steps.labels, 2)).all()
        assert (one.groups == np.repeat(all_steps.groups, 2)).all()
    assert "are cut into windows that begin every 2" in data.notes[-1]
    longer = load("timeseries-classification", arrays, length=8, hop=2)
    assert len(longer.train) == 14
    assert (longer.test.inputs[:, :2] == np.array(longer.normalization.mean, np.float32)).all()
    first = load("timeseries-classification", arrays, length=3)
    assert (first.test.inputs == load("timeseries-classification", arrays).test.inputs[:, :3]).all()


@pytest.mark.parametrize(
    "keys", [("person_train", "person_test"), ("groups_train", "groups_test"), ("person", "groups_test")]
)
def test_groups_are_found_by_their_names(load, keys) -> None:
    arrays = {"x_train": SERIES, "y_train": CLASSES, keys[0]: np.arange(20) // 4}
    data = load("timeseries-classification", arrays, split_by="person")
    people = [set(split.groups.tolist()) for split in (data.train, data.validation, data.test)]
    assert sorted([*people[0], *people[1], *people[2]]) == [0, 1, 2, 3, 4]
    arrays |= {"x_test": SERIES[:3], "y_test": CLASSES[:3], keys[1]: np.array([7, 8, 9])}
    assert load("timeseries-classification", arrays, split_by="person").test.groups.tolist() == [7, 8, 9]
    arrays[keys[1]] = np.array([7, 4, 2])
    with pytest.raises(DataError, match=r"split_by: person: 2 groups of `npz` are in both train and test: 2, 4"):
        load("timeseries-classification", arrays, split_by="person")


def test_groups_keep_pictures_apart_too(load) -> None:
    pictures = np.arange(20 * 16).reshape(20, 4, 4) % 250
    data = load(
        "image-classification", {"x_train": pictures, "y_train": CLASSES, "scene": np.arange(20) // 2}, split_by="scene"
    )
    scenes = [set(split.groups.tolist()) for split in (data.train, data.validation, data.test)]
    assert not scenes[0] & scenes[2] | scenes[1] & scenes[2]


TS, RE, TE = "timeseries-classification", "regression", "text-classification"
BAD = {
    "nothing": (TS, {"images": SERIES}, "no x_train and no x_test: it has images. Expected x_train, y_train"),
    "labels missing": (TS, {"x_train": SERIES}, "x_train without y_train"),
    "inputs missing": (TS, {"x_train": SERIES, "y_train": CLASSES, "y_test": CLASSES}, "y_test without x_test"),
    "one axis": (TS, {"x_train": SERIES.ravel(), "y_train": CLASSES}, r"x_train has shape \(240,\).*expected series"),
    "four axes": (TS, {"x_train": SERIES[None], "y_train": CLASSES}, "expected series"),
    "complex": (TS, {"x_train": SERIES + 1j, "y_train": CLASSES}, "type complex128"),
    "empty": (TS, {"x_train": SERIES[:0], "y_train": CLASSES[:0]}, r"is empty, shape \(0, 6, 2\)"),
    "not finite": (TS, {"x_train": SERIES * np.nan, "y_train": CLASSES}, "values that are not finite"),
    "too few labels": (TS, {"x_train": SERIES, "y_train": CLASSES[1:]}, "19 labels for 20 samples"),
    "other features": (
        TS,
        {"x_train": SERIES, "y_train": CLASSES, "x_test": SERIES[:, :, :1], "y_test": CLASSES},
        "x_test has 1 feature, x_train 2",
    ),
    "length 0": (
        TS,
        {"x_train": SERIES, "y_train": CLASSES, "lengths_train": CLASSES * 3},
        r"x_train: 10 series without a step \(length 0\), at \[0, 2, 4, 6, 8 and 5 more\]",
    ),
    "length too large": (
        TS,
        {"x_train": SERIES, "y_train": CLASSES, "lengths_train": CLASSES + 6},
        r"x_train\[1\] has the length 7, but there are 6 steps only",
    ),
    "lengths of another shape": (
        TS,
        {"x_train": SERIES, "y_train": CLASSES, "lengths_train": CLASSES[1:]},
        r"lengths of .*x_train have shape \(19,\)",
    ),
    "text to predict": (RE, {"x_train": FEATURES, "y_train": NUMBERS.astype(str)}, "expected numbers to predict"),
    "too few numbers": (RE, {"x_train": FEATURES, "y_train": NUMBERS[1:]}, "y_train has 19 rows for 20 samples"),
    "numbers not finite": (
        RE,
        {"x_train": FEATURES, "y_train": NUMBERS * np.nan},
        "y_train has 20 values that are not",
    ),
    "targets differ": (
        RE,
        {"x_train": FEATURES, "y_train": NUMBERS, "x_test": FEATURES[:, :], "y_test": np.stack([NUMBERS] * 2, 1)},
        "different numbers of targets",
    ),
    "too few names": (
        RE,
        {"x_train": FEATURES, "y_train": NUMBERS, "target_names": np.array(["a", "b"])},
        "target_names has 2 names for 1 target",
    ),
    "numbers as text": (TE, {"x_train": FEATURES, "y_train": CLASSES}, r"expected texts \(N,\) as str"),
    "kinds differ": (
        RE,
        {"x_train": FEATURES, "y_train": NUMBERS, "x_test": SERIES, "y_test": NUMBERS},
        "x_test holds series, .*x_train features",
    ),
}


@pytest.mark.parametrize(("task", "arrays", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_named(load, task: str, arrays, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(task, arrays)
    assert "data.npz" in str(caught.value)


def test_groups_that_do_not_fit_are_named(load) -> None:
    arrays = {"x_train": SERIES, "y_train": CLASSES}
    with pytest.raises(DataError, match=r"person has shape \(19,\).* expected one group per sample"):
        load(TS, {**arrays, "person": np.arange(19)}, split_by="person")
    with pytest.raises(DataError, match="split_by: person: source `npz` says of no sample which group"):
        load(TS, arrays, split_by="person")
    with pytest.raises(DataError, match=r"all samples are of one group \(3\)"):
        load(TS, {**arrays, "person": np.full(20, 3)}, split_by="person")


SOURCE = """
import numpy as np

def ragged():
    series = [np.full((steps + 1, 2), steps) for steps in range(12)]
    return {"x_train": series, "y_train": np.arange(12) % 2, "groups_train": [f"p{n // 3}" for n in range(12)]}

def same(): return {"x_train": [[[1, 2], [3, n]] for n in range(12)], "y_train": [n % 2 for n in range(12)]}
def texts(): return {"x_train": [f"text {n}" for n in range(12)], "y_train": [n % 2 for n in range(12)]}
def empty(): return {"x_train": [np.zeros((0, 2)), np.zeros((3, 2))], "y_train": [0, 1]}
def nothing(): return {"x_train": [[], [1.0]], "y_train": [0, 1]}
def odd(): return {"x_train": [np.zeros((1, 2)), np.zeros((3, 4))], "y_train": [0, 1]}
def surrogate(): return {"x_train": ["a", "\\ud800"], "y_train": [0, 1]}
"""


@pytest.fixture
def call(recipe_of, tmp_path: Path):
    (tmp_path / "mine.py").write_text(SOURCE)
    return lambda name, task=TS, **data: load_dataset(recipe_of(f"python:mine:{name}", task=task, **data), trust=True)


def test_a_function_may_return_series_of_several_lengths(call, recipe_of) -> None:
    data = call("ragged", split_by="person")
    assert data.input_shape[1] == 2
    assert {*data.train.groups, *data.validation.groups, *data.test.groups} == {"p0", "p1", "p2", "p3"}
    assert not {*data.train.groups} & {*data.test.groups}
    recipe = recipe_of("python:mine:ragged", task=TS, split_by="person")
    assert fingerprint(recipe, trust=True) == fingerprint(recipe, trust=True)
    assert fingerprint(recipe, trust=True) != fingerprint(recipe_of("python:mine:same", task=TS), trust=True)
    assert call("same").input_shape == (2, 2)
    assert call("texts", TE, length=3).kind == "tokens"


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("empty", TS, r"x_train: 1 series without a step \(length 0\), at \[0\]"),
        ("nothing", TS, r"1 series without a step"),
        ("odd", TS, r"x_train\[1\] has 4 features, python:mine:odd: x_train\[0\] 2"),
        ("texts", TS, "expected series"),
        ("surrogate", TE, r"x_train\[1\] holds half a surrogate pair"),
        ("ragged", TE, "x_train is a list that is no array"),
    ],
)
def test_what_a_function_returns_is_checked(call, name: str, task: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call(name, task)


def test_the_fingerprint_follows_texts_and_groups(recipe_of, tmp_path: Path, monkeypatch) -> None:
    from edgecompress.data.sources import python_function

    prints = set()
    for first in ("a", "b", "b"):
        (tmp_path / "value.txt").write_text(first)
        (tmp_path / "mine.py").write_text(
            "from pathlib import Path\ndef make():\n    value = Path(__file__).with_name('value.txt').read_text()\n"
            "    return {'x_train': [value, 'x'], 'y_train': [0, 1], 'who': [value, 'y']}\n"
        )
        monkeypatch.setattr(python_function, "_RETURNED", {})  # as in a new process
        prints.add(fingerprint(recipe_of("python:mine:make", task=TE, split_by="who"), trust=True))
    assert len(prints) == 2
