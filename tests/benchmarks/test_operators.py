"""One-operator files held against exact arithmetic: right ones pass, wrong ones are seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # exact convolutions are torch's


def run(made: Any) -> list[Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=made.content[0], num_threads=1)
    interpreter.allocate_tensors()
    for details, values in zip(interpreter.get_input_details(), made.inputs, strict=True):
        interpreter.set_tensor(details["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]


def measured(op: str, start: str) -> tuple[float, float, float]:
    """Returns the shares and the largest difference of a case in LiteRT."""
    from benchmarks.runtimes.operator_files import compared, make
    from benchmarks.runtimes.operators import cases

    made = make(next(case for case in cases() if case.op == op and case.variant.startswith(start)), 1)
    (found,) = compared(made, run(made))
    return found


@pytest.mark.parametrize(
    ("op", "start"),
    [
        ("REVERSE_V2", "channels"), ("DEPTH_TO_SPACE", "2"), ("TILE", "all"),
        ("MINIMUM", "one grid, channels, constant"),
        ("MAXIMUM", "one grid, scalar, constant"), ("REDUCE_MAX", "axes (1, 2)"), ("CONCATENATION", "rows"),
    ],
)  # fmt: skip
def test_operators_that_pick_values_are_exact(op: str, start: str) -> None:
    assert measured(op, start) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("op", ["EQUAL", "GREATER", "LESS_EQUAL"])
def test_comparisons_of_two_scales_err_by_a_fraction_of_a_step(op: str) -> None:
    _, off, steps = measured(op, "two scales, alike")
    assert off == 0.0
    assert steps < 0.1


@pytest.mark.parametrize(("op", "start"), [("CONV_2D", "3x3, stride 2"), ("TRANSPOSE_CONV", "3x3, stride 2, SAME")])
def test_exact_arithmetic_places_windows_as_the_kernels_do(op: str, start: str) -> None:
    inexact, off, steps = measured(op, start)
    assert (inexact, off, steps) == (0.0, 0.0, 0.0)


def test_a_kernel_that_is_wrong_is_seen() -> None:
    _, off, steps = measured("NEG", "scale 0.05, zero point 3, one grid")
    assert off > 90
    assert steps > 100


def test_either_neighbour_of_a_tie_is_right_and_the_next_is_not() -> None:
    from benchmarks.runtimes.operator_cases import q8
    from benchmarks.runtimes.operator_files import Case, compared, make

    grid = q8((1, 4), scale=1.0, zero=0)
    made = make(Case("RELU", "by hand", (grid,), (grid,), lambda x: x), 1)
    made = replace(made, expected=(np.array([[0.5, 0.5, 0.5, np.nan]]),))
    given = np.array([[0, 1, 3, 99]], np.int8)
    assert list(compared(made, [given])) == [(pytest.approx(100 / 3), pytest.approx(100 / 3), 2.0)]
