"""Operators that INT8 makes slower."""

from __future__ import annotations

import csv
from pathlib import Path

from edgecompress.tflite.facts.slow import LEAST_RATIO, SLOWER_IN_INT8, slower_in_int8

MEASURED = Path(__file__).parents[4] / "benchmarks" / "results" / "operator_speeds.csv"


def test_the_table_is_what_was_measured() -> None:
    with MEASURED.open(newline="", encoding="utf-8") as stream:
        ratios = {row["op"]: float(row["ratio"]) for row in csv.DictReader(stream)}
    assert len(ratios) > 50
    slow = {op: round(ratio, 1) for op, ratio in ratios.items() if ratio > LEAST_RATIO}
    assert slow == SLOWER_IN_INT8


def test_the_slowest_come_first_and_others_are_left_out() -> None:
    ops = ["CONV_2D", "HARD_SWISH", "MY_OWN", "SOFTMAX", "HARD_SWISH"]
    found = slower_in_int8(ops)
    assert set(found) == {"HARD_SWISH", "SOFTMAX"}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert min(found.values()) > LEAST_RATIO
    assert slower_in_int8([]) == {}
