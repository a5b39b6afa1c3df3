"""One epoch, two epochs; text from outside."""

from __future__ import annotations

import pytest

from edgecompress.wording import counted, in_digits, printable, verb


@pytest.mark.parametrize(
    ("count", "noun", "plural", "expected"),
    [
        (0, "epoch", "", "0 epochs"),
        (1, "epoch", "", "1 epoch"),
        (2, "epoch", "", "2 epochs"),
        (1.0, "point", "", "1.0 point"),
        (1797, "sample", "", "1,797 samples"),
        (1, "class", "classes", "1 class"),
        (3, "class", "classes", "3 classes"),
    ],
)
def test_a_noun_agrees_with_its_count(count: float, noun: str, plural: str, expected: str) -> None:
    assert counted(count, noun, plural) == expected


def test_a_verb_agrees_with_its_count() -> None:
    assert [verb(count, "is", "are") for count in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, é, 日本, \N{GRINNING FACE}", "plain, é, 日本, \N{GRINNING FACE}"),
        ("line\nline\tcell\r\n", "line\nline\tcell\r\n"),
        ("\x1b[31m\x00\x7f\x9b", r"\x1b[31m\x00\x7f\x9b"),
        ("over\rwritten", r"over\rwritten"),
        ("\u202eturned\u2069", r"\u202eturned\u2069"),
        ("half \ud800", r"half \ud800"),
        (r"C:\x1b", r"C:\x1b"),
    ],
)
def test_text_that_no_terminal_obeys(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_numbers_have_as_many_digits_as_their_spread_needs() -> None:
    assert in_digits(12.5, 3.0, 7) == "12.5"
    assert in_digits(1_700_000_123.456, 50.0, 7) == "1700000123.456"
    assert in_digits(1.7e18, 1e-9, 7) == "1.7e+18"
    assert in_digits(0.0, 0.0, 7) == "0"
