"""What the converter leaves is brought into the form that others take, and computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.tidy import tidied
from edgecompress.tflite.format.views import graph_views
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes, run_bytes

ROWS = (1, 3, 4)
LOWEST = float(np.finfo(np.float32).min)


def named(tensors: Sequence[Made]) -> list[Made]:
    return [Made(made.shape, made.dtype, made.values, name=f"t{number}") for number, made in enumerate(tensors)]


def check(tensors: Sequence[Made], op: Op, *, positive: bool = False) -> list[str]:
    """Compares a graph of one operator before and after, and returns the operators it has then."""
    before = make_bytes(named(tensors), [op])
    x = np.random.default_rng(0).standard_normal(tensors[0].shape).astype(np.float32)
    x = np.abs(x) + 0.1 if positive else x
    after = tidied(before)
    np.testing.assert_allclose(run_bytes(after, x), run_bytes(before, x), rtol=2e-5, atol=1e-6)
    return [one.op for one in graph_views(read_model(after))[0].ops]


@pytest.mark.parametrize(
    ("exponent", "ops"),
    [(2.0, ["MUL"]), (3.0, ["MUL"] * 2), (0.5, ["SQRT"]), (-0.5, ["RSQRT"]), (1 / 3, ["LOG", "MUL", "EXP"])],
)
def test_a_power_becomes_what_has_an_int8_kernel(exponent: float, ops: list[str]) -> None:
    tensors = [Made(ROWS), constant(exponent, "float32"), Made(ROWS)]
    assert check(tensors, Op("POW", (0, 1), (2,)), positive=True) == ops


@pytest.mark.parametrize("fused", [0, 1])
def test_a_division_by_a_constant_becomes_a_product(fused: int) -> None:
    tensors = [Made(ROWS), constant([0.5, -2.0, 3.0, 7.0], "float32"), Made(ROWS)]
    assert check(tensors, Op("DIV", (0, 1), (2,), {"fusedActivationFunction": fused})) == ["MUL"]


@pytest.mark.parametrize("divisor", [0.0, float("inf")])
def test_a_divisor_without_a_reciprocal_stays(divisor: float) -> None:
    content = make_bytes(named([Made(ROWS), constant(divisor, "float32"), Made(ROWS)]), [Op("DIV", (0, 1), (2,))])
    assert tidied(content) == content


@pytest.mark.parametrize(
    ("mask", "ops"),
    [
        (np.where(np.eye(3, 4), LOWEST, 0.0), ["SELECT_V2"]),
        (np.where(np.eye(3, 4), LOWEST, 0.5), ["ADD", "SELECT_V2"]),
        (np.full(4, 0.25), ["ADD"]),
    ],
    ids=["zeros and infinity", "others and infinity", "no mask"],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_mask_chooses(mask: Any, ops: list[str], first: bool) -> None:
    tensors = [Made(ROWS), constant(mask, "float32"), Made(ROWS)]
    assert check(tensors, Op("ADD", (1, 0) if first else (0, 1), (2,))) == ops


def test_a_mask_with_an_activation_stays_a_sum() -> None:
    tensors = [Made(ROWS), constant(np.where(np.eye(3, 4), LOWEST, 0.0), "float32"), Made(ROWS)]
    assert check(tensors, Op("ADD", (0, 1), (2,), {"fusedActivationFunction": 1})) == ["ADD"]


def test_a_bias_becomes_a_vector_and_what_is_in_order_stays_to_the_byte() -> None:
    rng = np.random.default_rng(0)
    spatial = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    kernel = constant(rng.standard_normal((5, 3, 3, 4)), "float32")
    flat, deep = (constant(rng.standard_normal(shape), "float32") for shape in ((5,), (1, 1, 1, 5)))
    for bias in (flat, deep):
        tensors = named([Made((1, 6, 6, 4)), kernel, bias, Made((1, 6, 6, 5))])
        content = make_bytes(tensors, [Op("CONV_2D", (0, 1, 2), (3,), spatial)])
        after = tidied(content)
        assert (after == content) == (bias is flat)
        view = graph_views(read_model(after))[0]
        assert view.tensors[view.ops[0].inputs[2]].shape == (5,)


@pytest.mark.parametrize("base", [2.0, [0.5, 1.0, 3.0, 7.0]])
def test_a_power_of_a_known_base_becomes_an_exponential(base: Any) -> None:
    tensors = [Made(ROWS), constant(base, "float32"), Made(ROWS)]
    assert check(tensors, Op("POW", (1, 0), (2,))) == ["MUL", "EXP"]


@pytest.mark.parametrize("base", [0.0, -2.0])
def test_a_base_without_a_logarithm_stays(base: float) -> None:
    content = make_bytes(named([Made(ROWS), constant(base, "float32"), Made(ROWS)]), [Op("POW", (1, 0), (2,))])
    assert tidied(content) == content


@pytest.mark.parametrize("through", [(), ("int32",), ("int32", "int64")])
def test_truth_values_become_numbers_by_a_choice(through: tuple[str, ...]) -> None:
    """Also by way of whole numbers, which nothing reads any more."""
    tensors = [
        Made(ROWS),
        constant(0.1, "float32"),
        Made(ROWS, "bool"),
        *(Made(ROWS, kind) for kind in through),
        Made(ROWS),
    ]
    casts = [Op("CAST", (n,), (n + 1,)) for n in range(2, len(tensors) - 1)]
    before = make_bytes(named(tensors), [Op("GREATER", (0, 1), (2,)), *casts])
    after = tidied(before)
    x = np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)
    np.testing.assert_array_equal(run_bytes(after, x), run_bytes(before, x))
    assert [one.op for one in graph_views(read_model(after))[0].ops] == ["GREATER", "SELECT_V2"]


def test_whole_numbers_that_are_no_truth_values_are_converted_as_before() -> None:
    tensors = [Made(ROWS), Made(ROWS, "int32"), Made(ROWS)]
    content = make_bytes(named(tensors), [Op("CAST", (0,), (1,)), Op("CAST", (1,), (2,))])
    assert tidied(content) == content
