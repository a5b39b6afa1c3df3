"""Files of text for a language model: which are read, which are held out, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.errors import DataError


@pytest.fixture
def load(recipe_of):
    def from_path(path: str = "texts", **data):
        data = {"tokenizer": {"kind": "byte"}, "length": 8, **data}
        return load_dataset(recipe_of("text-files", task="language-modeling", path=path, **data), trust=False)

    return from_path


@pytest.fixture
def write(tmp_path: Path):
    def to_files(files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return to_files


TEN = {f"texts/{number}.txt": f"{number}" * 41 for number in range(10)}


def letters(split) -> set[int]:
    return {int(token) - 50 for token in split.inputs.ravel()}


def test_whole_files_are_held_out(load, write) -> None:
    write(TEN)
    data = load()
    assert [len(letters(split)) for split in (data.train, data.validation, data.test)] == [7, 1, 2]
    assert letters(data.train) | letters(data.validation) | letters(data.test) == set(range(10))
    assert len(data.test) == 2 * 5
    assert (data.outputs, data.input_shape, data.class_names) == ((8, 258), (8,), ())
    assert letters(load(validation=0.2).test) == letters(data.test)
    assert "2 of 10 samples were held out for it, by seed 0" in data.notes[0]


def test_labels_are_the_next_bytes(load, write) -> None:
    text = "".join(chr(40 + number % 80) for number in range(300))
    write({**TEN, "test/a.txt": text})
    data = load(test_path="test")
    assert len(data.test) == 37
    whole = [int(token) - 2 for row in data.test.inputs for token in row]
    assert bytes(whole).decode() == text[:296]
    assert [int(token) - 2 for row in data.test.labels for token in row] == list(text[1:297].encode())


def test_a_folder_a_pattern_and_a_file_name_texts(load, write) -> None:
    write(
        {
            **TEN,
            "texts/deep/a.MD": "x" * 99,
            "texts/code.py": "y" * 99,
            "texts/deep/more.py": "y" * 99,
            "texts/.hidden/b.txt": "z" * 99,
        }
    )
    every = load()
    assert any("of 11 samples" in note for note in every.notes)
    assert any("of 10 samples" in note for note in load("texts/*.txt").notes)
    assert any("of 3 samples" in note for note in load("texts/**/[a-z]*.*[!t]").notes)
    data = load("texts/*.txt", test_path="texts/code.py")
    assert letters(data.test) == {ord("y") - 48}


def test_empty_files_are_left_out_with_a_note(load, write) -> None:
    write({**TEN, "texts/none.txt": ""})
    assert "1 text file is empty and left out: none.txt." in load().notes[0]
    write({"void/a.txt": "", "void/b.txt": ""})
    with pytest.raises(DataError, match="void: all text files are empty"):
        load("void")


@pytest.mark.parametrize(
    ("files", "data", "message"),
    [
        ({"texts/x.txt": b"fine\nnot so fine: \xe4\n"}, {}, r"texts/x.txt:2: not UTF-8 text \(byte 0xe4\)"),
        ({}, {"path": "absent"}, "absent: No such file or directory. Expected a text file, a folder"),
        ({"void/x.bin": b"x"}, {"path": "void"}, "void: no text files there"),
        ({}, {"path": "texts/*.rst"}, "no text files there"),
        ({}, {"test_path": "texts/1.txt"}, "1 file in both data.path and data.test_path: .*1.txt"),
        ({}, {"test_path": "absent.txt"}, "data.test_path .*absent.txt: No such file"),
        (
            {},
            {"path": "texts/1.txt"},
            r"^texts/1.txt: .* one text file only to hold out a test split from: give data.test_path",
        ),
        (
            {},
            {"path": "texts/1.txt", "test_path": "texts/2.txt"},
            "one text file only to hold out a validation split from: give more text files",
        ),
        (
            {"test/a.txt": "short"},
            {"test_path": "test"},
            "longest of the 1 test text has 5 tokens: no window of data.length",
        ),
    ],
)
def test_what_cannot_be_used_is_explained(load, write, files, data, message: str) -> None:
    write({**TEN, **files})
    with pytest.raises(DataError, match=message):
        load(**data)


def test_line_ends_are_kept_and_a_byte_order_mark_is_not(load, write) -> None:
    write({**TEN, "test/a.txt": b"\xef\xbb\xbfa\r\nb\r\nc\r\nd\r\n"})
    data = load(test_path="test")
    assert data.vocabulary is not None
    assert data.vocabulary.decode(data.test.inputs[0].tolist()) == "a\r\nb\r\nc\r"


def test_the_fingerprint_follows_content_and_names(recipe_of, write, tmp_path: Path) -> None:
    write(TEN)

    def print_of(path: str) -> str:
        return fingerprint(recipe_of("text-files", task="language-modeling", path=path), trust=False)

    first = print_of("texts")
    (tmp_path / "texts").rename(tmp_path / "moved")
    assert print_of("moved") == print_of("moved/*.txt") == first
    (tmp_path / "moved/1.txt").write_text("other")
    assert print_of("moved") != first
