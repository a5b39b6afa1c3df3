"""What one cell of a table holds, or what is wrong with it."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.limits import LONGEST_NAME
from edgecompress.data.reading.folders import normal
from edgecompress.data.reading.table import MISSING, shown
from edgecompress.data.reading.text_reading import is_writable_text

#: Numbers as they are written where the comma is the decimal sign.
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
LARGEST = float(np.finfo(np.float32).max)


def text_of(value: Any) -> tuple[str, str]:
    """Returns (text, what is wrong with it or "")."""
    if value is MISSING or value is None:
        return "", "is missing"
    if not isinstance(value, str):
        return "", f"is no text: {shown(value)}"
    if not is_writable_text(value):
        return "", "holds half a surrogate pair, which is no character"
    return value, ""


def label_of(value: Any) -> tuple[str, str]:
    """Returns (name of a class or group, what is wrong with it or "")."""
    if isinstance(value, bool):
        return str(value).lower(), ""
    if isinstance(value, int):
        return str(value), ""
    if value is not MISSING and value is not None and not isinstance(value, str):
        return "", f"is neither text nor a whole number: {shown(value)}"
    name, wrong = text_of(value)
    if len(name) > LONGEST_NAME:
        return "", f"is no name: {len(name):,} characters ({shown(name)}), at most {LONGEST_NAME:,} are read"
    name = normal(name.strip())
    return name, wrong or ("" if name else "is empty")


def number_of(value: Any) -> tuple[float, str]:
    """Returns (number, what is wrong with it or "")."""
    if value is MISSING or value is None:
        return 0.0, "is missing"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return 0.0, f"is no number: {shown(value)}"
    if isinstance(value, str) and not value.strip():
        return 0.0, "is empty"
    if isinstance(value, str) and "_" in value:  # only Python writes 1_000
        return 0.0, f"is no number: {shown(value)}"
    try:
        number = float(value)
    except (ValueError, OverflowError):
        comma = isinstance(value, str) and DECIMAL_COMMA.fullmatch(value.strip())
        return 0.0, f"is no number: {shown(value)}{' (the decimal sign has to be a point)' if comma else ''}"
    if not math.isfinite(number) or abs(number) > LARGEST:
        return 0.0, f"is not finite, or too large for float32: {shown(value)}"
    return number, ""


def exact_of(value: str | float) -> int | float:
    """Returns a number with all of its digits: float64 has 16, a time in nanoseconds 19."""
    try:
        return int(value) if not isinstance(value, float) else value
    except ValueError:
        return float(value)


def array_of(numbers: list[Any]) -> NDArray[Any]:
    """Returns numbers as int64 where all are whole and fit, else as float64."""
    array = np.array(numbers)
    return array if array.dtype.kind in "iu" else array.astype(np.float64)


def sequence_of(value: Any) -> tuple[NDArray[Any] | None, str]:
    """Returns ((steps,) or (steps, features) numbers, what is wrong with it or "")."""
    if not isinstance(value, list):
        return None, "is missing" if value is MISSING or value is None else f"is no list: {shown(value)}"
    if not value or value[0] == []:
        return None, "is an empty list: a series needs a step"
    rows = value if isinstance(value[0], list) else [value]
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(rows[0]):
            return None, f"has at [{place}] {shown(row)}: expected a list of {len(rows[0])}, as at [0]"
        for cell in row:
            if isinstance(cell, str):
                return None, f"holds {shown(cell)}: expected numbers"
            if wrong := number_of(cell)[1]:
                return None, f"holds a value that {wrong}"
    return array_of(value), ""
