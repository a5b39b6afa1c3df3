"""JSON lines: text, numbers, series of any length, and what is wrong with a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgecompress.data.loading import load_dataset
from edgecompress.errors import DataError


@pytest.fixture
def load(recipe_of, tmp_path: Path):
    def from_rows(rows, task: str = "text-classification", **data):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "data.jsonl").write_text("\n".join(lines))
        return load_dataset(recipe_of("jsonl", task=task, path="data.jsonl", **data), trust=False)

    return from_rows


TEXTS = [{"text": f"a\u2028b {n}", "label": n % 2} for n in range(20)]
SERIES = [{"label": "ab"[n % 2], "signal": [[n, step] for step in range(3 + n % 3)]} for n in range(20)]


def test_text_and_labels_of_any_kind_are_read(load) -> None:
    data = load(TEXTS, length=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    assert data.class_names == ("0", "1")
    assert load([{**row, "label": bool(row["label"])} for row in TEXTS]).class_names == ("false", "true")
    ten = load([{**row, "label": n % 11} for n, row in enumerate(TEXTS)])
    assert ten.class_names == tuple(str(n) for n in range(11))  # by value, not by letter


def test_series_of_several_lengths_are_padded_in_front(load) -> None:
    data = load(SERIES, "timeseries-classification")
    assert (data.kind, data.input_shape) == ("series", (5, 2))
    mean = np.array(data.normalization.mean, np.float32)
    for one in data.test.inputs:
        steps = 3 + int(one[-1, 0]) % 3
        assert one[5 - steps :, 1].tolist() == list(range(steps))
        assert (one[: 5 - steps] == mean).all()
    known = [row for n, one in enumerate(data.train.inputs) for row in one[5 - (3 + int(one[-1, 0]) % 3) :]]
    assert data.normalization.mean == pytest.approx(np.mean(known, 0))  # what was added does not count


def test_plain_lists_are_series_of_one_feature_or_rows_of_many(load) -> None:
    rows = [{"label": n % 2, "x": [n, 1, 2]} for n in range(20)]
    assert load(rows, "timeseries-classification").input_shape == (3, 1)
    assert load(rows, "regression").input_shape == (3,)
    assert load(rows, "regression").kind == "features"


def test_keys_can_be_chosen(load) -> None:
    rows = [{"y": n / 2, "a": n, "b": -n, "note": "free text"} for n in range(20)]
    data = load(rows, "regression", label="y", features=["b", "a"])
    assert (data.train.inputs == data.train.labels * [-2, 2]).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "x"', r"data.jsonl:21: no JSON: Expecting ',' delimiter at column 13"),
        ("[1, 2]", r"data.jsonl:21: \[1, 2\] is no object"),
        ('{"text": 5, "label": "a"}', "data.jsonl:21: `text` is no text: 5"),
        ('{"text": "x"}', "data.jsonl:21: `label` is missing"),
        ('{"text": null, "label": "a"}', "data.jsonl:21: `text` is missing"),
        ('{"text": "x", "label": 1.5}', "data.jsonl:21: `label` is neither text nor a whole number: 1.5"),
        ('{"text": "x", "label": ["a"]}', "data.jsonl:21: `label` is neither"),
        ('{"text": "\\ud800", "label": "a"}', "data.jsonl:21: `text` holds half a surrogate pair"),
        ("[" * 100_000, "data.jsonl:21: no JSON that can be read"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(load, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load([*TEXTS, row])


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        ([], "data.jsonl:21: `signal` is an empty list: a series needs a step"),
        ([[]], "is an empty list"),
        ([[1, 2], [3]], r"`signal` has at \[1\] \[3\]: expected a list of 2"),
        ([[1, 2, 3]], "`signal` holds rows of 3 numbers, the first row rows of 2 numbers"),
        ([1, 2], "holds plain numbers, the first row rows of 2 numbers"),
        ([[1, "x"]], "holds 'x': expected numbers"),
        ([[1, float("nan")]], "holds a value that is not finite"),
        ([[1, 10**400]], "holds a value that is no number"),
        (7, "`signal` is no list: 7"),
    ],
)
def test_what_is_wrong_with_a_series_is_said(load, signal, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load([*SERIES, {"label": "a", "signal": signal}], "timeseries-classification")


def test_one_array_is_no_jsonl(load) -> None:
    with pytest.raises(DataError, match=r"data.jsonl:1: a JSON array. Expected one JSON object per line: jq"):
        load(['[{"text": "a", "label": "b"}]'])


def test_a_key_of_the_wrong_name_is_said(load) -> None:
    with pytest.raises(DataError, match=r"has no key called `text`. .*It has: body, label"):
        load([{"body": "x", "label": 1}])
