"""One epoch, two epochs."""

from __future__ import annotations

import pytest

from compress.wording import counted, verb


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
