"""Tables as people have them: labels spelt in two ways, columns that number the rows, headers in the middle."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from edgecompress.data.loading import load_dataset
from edgecompress.errors import DataError

WORDS = ("fine film", "poor film")


@pytest.fixture
def load(recipe_of, tmp_path: Path):
    def from_files(task: str, train: str, test: str | None = None, **data):
        data["path"] = "train.csv"
        (tmp_path / "train.csv").write_text(train, encoding="utf-8", newline="")
        if test is not None:
            data["test_path"] = "test.csv"
            (tmp_path / "test.csv").write_text(test, encoding="utf-8", newline="")
        return load_dataset(recipe_of("csv", task=task, **data), trust=False)

    return from_files


def texts(*labels: str, count: int = 20) -> str:
    rows = (f"{WORDS[n % 2]} {n},{labels[n % len(labels)]}\n" for n in range(count))
    return "text,label\n" + "".join(rows)


def table(*names: str, rows: int = 40, first=lambda n: n, sep: str = ",") -> str:
    rng = np.random.default_rng(0)
    lines = (
        sep.join([str(first(n)), *(f"{value:.3f}" for value in rng.normal(size=len(names) - 1))]) for n in range(rows)
    )
    return sep.join(names) + "\n" + "\n".join(lines) + "\n"


SPELT = [(("0", "1"), ("0.0", "1.0")), (("1", "2"), ("01", "02")), (("True", "False"), ("true", "false")),
         (("Good", "bad"), ("good", "bad")), (("1", "2"), ("1e0", "2e0"))]  # fmt: skip


@pytest.mark.parametrize(("train", "test"), SPELT)
def test_labels_spelt_differently_in_train_and_test_are_refused(load, train, test) -> None:
    with pytest.raises(DataError, match=r"labels are spelt differently: `.*` in t(rain|est), `.*` in t(rain|est)"):
        load("text-classification", texts(*train), texts(*test))


def test_labels_spelt_differently_in_one_file_are_refused(load) -> None:
    with pytest.raises(DataError, match=r"labels are spelt differently: `0`, `0.0`, and 1 other pair"):
        load("text-classification", texts("0", "1", "0.0", "1.0"))
    with pytest.raises(DataError, match="labels are spelt differently"):
        load(
            "anomaly-detection", "a,label\n" + "".join(f"{n * 7 % 20},{('0', '0.0', '1')[n % 3]}\n" for n in range(20))
        )


@pytest.mark.parametrize("labels", [("1.1", "1.10"), ("a", "A"), ("0.0", "1.0"), (" 1", "2 ")])
def test_labels_that_only_look_alike_stay(load, labels) -> None:
    data = load("text-classification", texts(*labels), texts(*labels))
    assert sorted(data.class_names) == sorted(label.strip() for label in labels)


def test_labels_and_columns_are_compared_in_one_form(load) -> None:
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    train, test = (texts(f"caf{one}", "tea").replace("label", f"{one}t") for one in (composed, apart))
    for asked in (composed, apart):
        data = load("text-classification", train, test, label=f"{asked}t")
        assert data.class_names == (f"caf{composed}", "tea")


def test_no_label_of_the_test_split_that_train_has_is_refused(load) -> None:
    with pytest.raises(DataError, match=r"no test sample is of a class that train has: test has 2 classes"):
        load("text-classification", texts("good", "bad"), texts("gut", "schlecht"))
    notes = load("text-classification", texts("good", "bad", "odd"), texts("good", "bad")).notes
    assert any("the train split has samples of class `odd`, the test split none" in note for note in notes)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_headers_in_the_middle_are_left_out_and_counted(load, tmp_path: Path, mark: str) -> None:
    data = load("text-classification", texts("good", "bad") + (mark + texts("good", "bad")) * 2)
    assert (len(data.train) + len(data.validation) + len(data.test), data.class_names) == (60, ("bad", "good"))
    expected = "2 rows repeat the header and were left out, the first in line 22: are these files put together?"
    assert f"{tmp_path}/train.csv: {expected}" in data.notes


def test_a_header_of_numbers_columns_in_the_middle_is_left_out(load) -> None:
    data = load("regression", table("a", "b", "label", first=lambda n: n * 7 % 40) * 2)
    assert len(data.train) + len(data.validation) + len(data.test) == 80
    assert any("1 row repeats the header and was left out" in note for note in data.notes)


NUMBERED = ["", "Unnamed: 0", "Unnamed: 0.1", "index", "ID", "row_id", "PassengerId", "whatever"]


@pytest.mark.parametrize("name", NUMBERED)
@pytest.mark.parametrize("start", [0, 1, 5000])
@pytest.mark.parametrize("sep", [",", ";", "\t"])
def test_a_column_that_counts_the_rows_is_no_feature(load, name: str, start: int, sep: str) -> None:
    data = load("regression", table(name, "a", "b", "label", first=lambda n: n + start, sep=sep))
    assert data.input_shape == (2,)
    (note,) = [note for note in data.notes if "numbers the rows" in note]
    assert (f"`{name}`" if name else "the one without a name") in note
    assert "left out. If that is wrong, name all features in data.features." in note


@pytest.mark.parametrize(
    ("name", "first", "left"),
    [("", lambda n: n * 7 % 40, 2), ("Unnamed: 0", lambda n: n % 20, 2), ("id", lambda n: f"{n * 7 % 40}.0", 2),
     ("a0", lambda n: n * 7 % 40, 3), ("a0", lambda n: n % 20, 3), ("id", lambda n: n / 7, 3),
     ("index", lambda n: n % 3, 3)],
)  # fmt: skip
def test_shuffled_and_repeated_indexes_are_told_by_their_name(load, name: str, first, left: int) -> None:
    assert load("regression", table(name, "a", "b", "label", first=first)).input_shape == (left,)


def test_what_counts_is_used_where_it_is_named_or_all_there_is(load) -> None:
    assert load("regression", table("id", "a", "label"), features=["id", "a"]).input_shape == (2,)
    data = load("regression", table("x", "label"))
    assert data.input_shape == (1,)
    assert any("numbers the rows (`x`), but there is nothing else to learn from" in note for note in data.notes)


def test_the_test_file_follows_the_train_file(load) -> None:
    data = load("regression", table("id", "a", "label"), table("id", "a", "label", first=lambda n: 90 - n))
    assert (data.input_shape, data.test.inputs.shape) == ((1,), (40, 1))


def test_the_index_is_no_step_of_a_series(load) -> None:
    rows = "".join(f"{n},{n},1,2,{'ab'[n % 2]}\n" for n in range(20))
    assert load("timeseries-classification", f",t0,t1,t2,label\n{rows}").input_shape == (3, 1)


def test_keys_that_count_are_left_out_too(recipe_of, tmp_path: Path) -> None:
    rows = [{"idx": n, "a": n * 7 % 20, "label": n * 0.5} for n in range(20)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load_dataset(recipe_of("jsonl", task="regression", path="x.jsonl"), trust=False)
    assert data.input_shape == (1,)
    assert any("the key numbers the rows (`idx`)" in note for note in data.notes)
