"""Which operators become integers, as the real quantizer answers."""

from __future__ import annotations

import pytest

from edgecompress.quantization.structure.support import becomes_integer, integer_operators
from edgecompress.report.words.analysis import WITHOUT_INT16


@pytest.mark.parametrize(
    ("op", "narrow", "wide"),
    [
        ("CONV_2D", True, True),
        ("TRANSPOSE_CONV", True, True),
        ("EMBEDDING_LOOKUP", True, True),
        ("HARD_SWISH", True, False),
        ("LOG_SOFTMAX", True, False),
        ("LEAKY_RELU", True, False),
        ("SIN", False, False),
    ],
)
def test_what_becomes_an_integer_operator(op: str, narrow: bool, wide: bool) -> None:
    assert becomes_integer(op, "int8") is narrow
    assert becomes_integer(op, "int16") is wide


def test_reports_know_what_cannot_be_wider() -> None:
    assert integer_operators("int8") - integer_operators("int16") == WITHOUT_INT16
    assert integer_operators("int16") < integer_operators("int8")
