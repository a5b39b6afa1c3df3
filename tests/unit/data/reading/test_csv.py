"""Delimited files in the forms people have them, and the rows that cannot be used, by file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.data.reading.delimited import parse, read_delimited
from edgecompress.errors import DataError

TEXTS = ["text,label", *(f'"text {n}, with a comma",{"good" if n % 2 else "bad"}' for n in range(20))]
NUMBERS = ["a,b,label", *(f"{n},{n * 0.5},{n * 2}" for n in (7 * m % 20 for m in range(20)))]


@pytest.fixture
def load(recipe_of, tmp_path: Path):
    def from_lines(lines, task: str = "text-classification", name: str = "data.csv", **data):
        content = lines if isinstance(lines, bytes) else ("\n".join(lines) + "\n").encode()
        (tmp_path / name).write_bytes(content)
        return load_dataset(recipe_of("csv", task=task, path=name, **data), trust=False)

    return from_lines


@pytest.fixture
def table(tmp_path: Path):
    def from_text(text: str, *wanted: str, name: str = "data.csv"):
        (tmp_path / name).write_text(text, newline="")
        return read_delimited(tmp_path / name, wanted or ("text", "label"))

    return from_text


def test_text_is_split_and_becomes_tokens(load) -> None:
    data = load(TEXTS, length=8)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    assert data.kind == "tokens"
    assert data.class_names == ("bad", "good")
    assert data.vocabulary is not None
    words = [data.vocabulary.decode(row) for row in data.test.inputs]
    for text, label in zip(words, data.test.labels, strict=True):
        number = text.split()[1]
        assert text in (f"text {number} , with a comma", "text \N{REPLACEMENT CHARACTER} , with a comma")
        assert label in (0, 1)


def test_a_test_file_of_its_own_is_the_test_split(load, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("label;text\ngood;one\nawful;two\n")
    data = load(TEXTS, test_path="test.csv", length=4)
    assert data.class_names == ("awful", "bad", "good")
    assert data.test.labels.tolist() == [2, 0]
    assert "the test split has samples of class `awful`, the train split none" in data.notes[0]


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("text,label\na,b\n", ("text", "label"), [["a", "b"]]),
        ("text;label\na, b, c;x\nd, e;y\n", ("text", "label"), [["a, b, c", "x"], ["d, e", "y"]]),
        ("text|label\r\na|b\r\n", ("text", "label"), [["a", "b"]]),
        ('text\tlabel\na "quoted" word\tb\n', ("text", "label"), [['a "quoted" word', "b"]]),
        ('text\tlabel\n"a\ttab"\tb\n', ("text", "label"), [["a\ttab", "b"]]),
        ('text\tlabel\n"an opened quote\tb\nc\td\n', ("text", "label"), [['"an opened quote', "b"], ["c", "d"]]),
        ('text,label\n"a\nb",c\n\nd,e\n', ("text", "label"), [["a\nb", "c"], ["d", "e"]]),
        ('text,label\n"say ""hi""",c\n', ("text", "label"), [['say "hi"', "c"]]),
        ("ham,hello you\nspam,win, now\nham,see you\n", ("1", "2"), [["ham", "hello you"], ["ham", "see you"]]),
        ("1,2,a\n3,4,b\n", ("1", "2", "3"), [["1", "2", "a"], ["3", "4", "b"]]),
        ("x,y,class\n1,2,a\n3,4,b\n", ("x", "y", "class"), [["1", "2", "a"], ["3", "4", "b"]]),
        ("text\njust words\nmore, words\nand more\n", ("text",), [["just words"], ["more, words"], ["and more"]]),
        ("\ufefftext,label\na,b\n", ("text", "label"), [["a", "b"]]),
    ],
)  # fmt: skip
def test_delimiter_header_and_quotes_are_found_out(table, text: str, names, rows) -> None:
    found = table(text)
    assert found.names == names
    assert [list(row) for row in zip(*(found.columns[name] for name in names), strict=True)] == rows


def test_a_header_is_known_by_the_columns_that_the_recipe_names(table) -> None:
    assert table("ham,hello\nspam,win\n", "label").names == ("1", "2")
    assert table("kind,words\nspam,win\n", "kind", "words").names == ("kind", "words")


def test_oranges_three_header_rows_say_what_columns_are(table, load) -> None:
    header = "Category\tId\tText\td\nd\tcontinuous\tstring\tcontinuous\nclass\tmeta\t\t\n\n"
    body = '"quoted\t1\tsome text\t0\nb\t2\tother text\t1\n'
    found = table(header + body, name="data.tab")
    assert (found.label, found.text, found.left_out) == ("Category", "Text", ("Id", "Text"))
    assert found.lines == [5, 6]
    assert found.columns["Category"] == ['"quoted', "b"]
    lines = [*header.splitlines(), *(f"{'ab'[n % 2]}\t{n}\tword\t{n}" for n in range(20))]
    assert load(lines, name="data.tab", length=4).class_names == ("a", "b")


def test_lines_are_counted_through_quoted_line_ends() -> None:
    parsed = parse('a,b\n"x\ny\nz",1\nc,2\n', ",")
    assert parsed.lines == [1, 2, 5]


def test_bad_rows_are_all_counted_and_the_first_named_by_line(load, tmp_path: Path) -> None:
    lines = [*TEXTS, "only one field", *(f"text {n}, too many,good" for n in range(7)), "no label,"]
    with pytest.raises(DataError) as caught:
        load(lines)
    path = tmp_path / "data.csv"
    shown = str(caught.value).splitlines()
    assert shown[0] == f"{path}: 9 rows cannot be used (delimiter: comma):"
    assert shown[1] == f"  {path}:22: 1 field, expected 2: 'only one field'"
    assert shown[2] == f"  {path}:23: 3 fields, expected 2: 'text 0, too many,good'"
    assert shown[6:] == ["  and 4 more", "Mend or remove them."]
    assert list(caught.value.details) == shown[1:], "on a screen each has a line of its own"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [*lines, "x,"], r"data.csv:22: `label` is empty"),
        (lambda lines: [*lines, '"never closed,good', "a,b"], r"data.csv:22: a quote is opened here and never closed"),
        (lambda lines: [*lines, '"a"b,good'], r"data.csv:22: ',' expected after '\"'"),
        (lambda lines: [line.replace("good", "bad") for line in lines], r"one class only \('bad'\)"),
        (lambda lines: lines[:1], "there are no rows"),
        (lambda lines: [], "there are no rows"),
        (lambda lines: ["body,label", *lines[1:]], "no column called `text`.*data.text"),
        (lambda lines: "\n".join(lines).encode("utf-16"), "UTF-16 text. Expected UTF-8: iconv"),
        (lambda lines: "\n".join([*lines, "\xe9,bad"]).encode("latin-1"), r"data.csv:22: not UTF-8 text \(byte 0xe9\)"),
        (lambda lines: [*lines, "a\0b,good"], "data.csv:22: a zero byte"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_by_line(load, spoil, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(spoil(TEXTS))


def test_a_misspelt_column_gets_its_nearest_name(load) -> None:
    with pytest.raises(
        DataError, match=r"data.label: .* has no column `lable`. Did you mean `label`\? It has: text, label"
    ):
        load(TEXTS, label="lable")
    with pytest.raises(DataError, match=r"data.test_path .*absent.csv: No such file.*a .csv"):
        load(TEXTS, test_path="absent.csv")
    with pytest.raises(DataError, match="two columns `text`"):
        load(["text,text,label", "a,b,c"])


def test_empty_texts_are_kept_and_noted(load) -> None:
    data = load([*TEXTS, ",good", "  ,bad"], length=4)
    assert len(data.train) + len(data.validation) + len(data.test) == 22
    assert "2 texts are empty, the first in line 22: nothing but padding" in data.notes[0]


def test_a_text_of_100_000_characters_is_cut_to_its_tokens(load) -> None:
    long = '"' + "word, " * 16_667 + '"'
    data = load([*TEXTS, f"{long},good", f"{'x' * 200_000},bad"], length=6)
    every = np.concatenate([data.train.inputs, data.validation.inputs, data.test.inputs])
    assert len(every) == 22
    assert every.shape[1] == 6


def test_numbers_are_features_of_a_regression(load) -> None:
    data = load(NUMBERS, "regression")
    assert (data.kind, data.input_shape, data.outputs, data.target_names) == ("features", (2,), (1,), ("label",))
    assert (data.train.inputs[:, 0] * 0.5 == data.train.inputs[:, 1]).all()
    assert (data.train.inputs[:, :1] * 2 == data.train.labels).all()
    assert data.train.labels.dtype == np.float64
    assert data.target_mean[0] == pytest.approx(data.train.labels.mean())


def test_columns_are_chosen_by_name(load) -> None:
    data = load(NUMBERS, "regression", features=["b"], label="a")
    assert data.input_shape == (1,)
    assert (data.train.inputs * 2 == data.train.labels).all()


def test_columns_in_order_are_a_series(load) -> None:
    lines = ["label,t0,t1,t2,t3", *(f"{'up' if n % 2 else 'down'},{n},1,2,3" for n in range(20))]
    data = load(lines, "timeseries-classification")
    assert (data.kind, data.input_shape) == ("series", (4, 1))
    assert (data.test.inputs[:, 1:, 0] == [1, 2, 3]).all()
    assert (data.test.labels == data.test.inputs[:, 0, 0] % 2).all()


def test_a_text_can_be_regressed_on(load) -> None:
    data = load([*(["text,label"]), *(f"word{n % 3},{n}" for n in range(20))], "regression", text="text", length=2)
    assert (data.kind, data.outputs) == ("tokens", (1,))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,x,2", "data.csv:22: `b` is no number: 'x'"),
        ("1,1_000,2", "data.csv:22: `b` is no number: '1_000'"),
        ("1,,2", "data.csv:22: `b` is empty"),
        ("1,nan,2", "data.csv:22: `b` is not finite"),
        ("1,1e300,2", "data.csv:22: `b` is not finite, or too large"),
        ("1,2,many", "data.csv:22: `label` is no number: 'many'"),
    ],
)
def test_what_is_no_number_is_named_by_line(load, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load([*NUMBERS, row], "regression")


def test_a_decimal_comma_is_explained(load) -> None:
    with pytest.raises(DataError, match=r"`a` is no number: '0,5' \(the decimal sign has to be a point\)"):
        load(["a;b;label", *(f"{n},5;1;2" for n in range(5))], "regression", features=["a"])


def test_a_column_that_is_no_feature_is_named_once(load) -> None:
    lines = ["name,a,label", *(f"n{n},{n},{n}" for n in range(20))]
    with pytest.raises(DataError, match=r"data.csv:2: column `name` is no number: 'n0'. .*data.features"):
        load(lines, "regression")
    assert load(lines, "regression", features=["a"]).input_shape == (1,)


def test_anomalies_are_kept_out_of_train(load) -> None:
    lines = ["a,b,label", *(f"{n},{n},{'normal' if n % 4 else 'broken'}" for n in range(40))]
    data = load(lines, "anomaly-detection")
    assert (data.class_names, data.outputs) == (("normal", "anomaly"), (2,))
    assert (data.train.labels == 0).all()
    assert (data.test.labels == (data.test.inputs[:, 0] % 4 == 0)).all()
    assert any("Left out of train, which is to hold what is normal: 7 samples" in note for note in data.notes)
    with pytest.raises(DataError, match="which of the labels broken, fine is the normal one"):
        load([line.replace("normal", "fine") for line in lines], "anomaly-detection")


def test_normal_samples_need_no_labels(load, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("a,b,label\n1,2,0\n3,4,1\n")
    data = load(["a,b", *(f"{n},{n}" for n in range(20))], "anomaly-detection", test_path="test.csv")
    assert (data.train.labels == 0).all()
    assert data.test.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match="no column called `label`"):
        load(["a,b", "1,2", "3,4"], "anomaly-detection")


def test_the_rows_of_a_group_stay_together(load) -> None:
    lines = ["who,text,label", *(f"p{n % 10},word{n},{'ab'[n % 2]}" for n in range(60))]
    data = load(lines, split_by="who", length=2)
    people = [set(split.groups) for split in (data.train, data.validation, data.test)]
    assert [len(one) for one in people] == [7, 1, 2]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
    assert any(note.startswith("Held out for the test, by who: p") for note in data.notes)


def test_rows_are_texts_of_a_language_model(load) -> None:
    data = load(["text", *(f"some words and the number {n}" for n in range(20))], "language-modeling", length=4)
    assert data.kind == "tokens"
    assert data.train.inputs.shape[1:] == data.train.labels.shape[1:] == (4,)
    assert (data.train.inputs[:, 1:] == data.train.labels[:, :-1]).all()


def test_the_fingerprint_follows_both_files(load, recipe_of, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\na,good\n")
    load(TEXTS)
    recipe = recipe_of("csv", task="text-classification", path="data.csv", test_path="test.csv")
    before = fingerprint(recipe, trust=False)
    (tmp_path / "test.csv").rename(tmp_path / "moved.csv")
    moved = recipe_of("csv", task="text-classification", path="data.csv", test_path="moved.csv")
    assert fingerprint(moved, trust=False) == before
    (tmp_path / "moved.csv").write_text("text,label\nb,good\n")
    assert fingerprint(moved, trust=False) != before
