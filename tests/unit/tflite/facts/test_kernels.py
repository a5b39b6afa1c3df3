"""Kernels that compute wrongly: the table holds what was measured, and files are searched for them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgecompress.tflite.facts.kernels import WRONG_KERNELS, wrong_operators
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes

MEASURED = Path(__file__).parents[4] / "benchmarks" / "results" / "operators.csv"


def found(tensors: Sequence[Made], ops: Sequence[Op], runtime: str) -> list[tuple[int, str]]:
    wrong = wrong_operators(read_model(make_bytes(tensors, ops)), runtime)
    return [(one.index, one.kernel.op) for one in wrong]


def test_the_table_is_what_was_measured() -> None:
    """Every operator and runtime with a value more than one step off, the largest difference rounded up, no other."""
    measured: dict[tuple[str, str], float] = {}
    with MEASURED.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["allowed"] == "yes" and row["outcome"] == "runs" and float(row["off_share"]) > 0:
                key = row["op"], row["runtime"]
                measured[key] = max(measured.get(key, 0.0), float(row["max_steps"]))
    table = {(kernel.op, runtime): kernel.max_steps for kernel in WRONG_KERNELS for runtime in kernel.runtimes}
    assert {key for key in measured if key[1] in RUNTIMES} == set(table)
    for kernel in WRONG_KERNELS:
        assert kernel.max_steps == max(measured[kernel.op, runtime] for runtime in kernel.runtimes), kernel.op
    assert list(table) == sorted(table, key=lambda key: key[0])


def test_an_operator_is_wrong_on_some_runtimes_only() -> None:
    tensors = [int8(1, 4), constant([1], "int32"), int8(1)]
    ops = [Op("SUM", (0, 1), (2,))]
    assert found(tensors, ops, "tensorflow") == [(0, "SUM")]
    assert {runtime: found(tensors, ops, runtime) for runtime in RUNTIMES if runtime != "tensorflow"} == {
        "litert": [], "tflite-micro": [], "tflite-runtime": [],
    }  # fmt: skip


def test_float_operators_have_other_kernels() -> None:
    tensors = [Made((1, 4)), constant([1], "int32"), Made((1,))]
    assert found(tensors, [Op("SUM", (0, 1), (2,))], "tensorflow") == []


@pytest.mark.parametrize(("scale", "zero_point", "wrong"), [(0.5, 3, False), (0.25, 3, True), (0.5, -128, True)])
def test_relu6_of_microcontrollers_needs_one_grid(scale: float, zero_point: int, wrong: bool) -> None:
    tensors = [int8(1, 4), int8(1, 4, scale=scale, zero_point=zero_point)]
    ops = [Op("RELU6", (0,), (1,))]
    assert found(tensors, ops, "tflite-micro") == ([(0, "RELU6")] if wrong else [])
    assert found(tensors, ops, "litert") == []


@pytest.mark.parametrize(("zero_point", "wrong"), [(0, False), (-7, True)])
def test_what_fills_with_the_integer_zero_is_right_where_that_is_zero(zero_point: int, wrong: bool) -> None:
    grid = {"zero_point": zero_point}
    tensors = [constant([[1]], "int32"), int8(1, 4, **grid), constant([3, 4], "int32"), int8(3, 4, **grid)]  # type: ignore[arg-type]
    ops = [Op("SCATTER_ND", (0, 1, 2), (3,))]
    assert found(tensors, ops, "litert") == ([(0, "SCATTER_ND")] if wrong else [])
