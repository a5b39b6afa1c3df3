"""Which tensors share a range, and what scale and zero point a range gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.graph import Graph, read_graph
from edgecompress.quantization.grids.ranges import (
    QMAX,
    QMIN,
    RangeGroup,
    check_comparisons,
    find_groups,
    floor_scales,
    scale_and_zero_point,
)
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes

#: A range as calibration sees it; anything but infinite.
ENDS = st.floats(-1e6, 1e6, allow_nan=False)


def groups_of(tensors: list[Made], ops: list[Op]) -> list[RangeGroup]:
    graph = read_graph(read_model(make_bytes(tensors, ops)), [f"op{k}" for k in range(len(ops))])
    return find_groups(graph)


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero_point"),
    [
        (0.0, 255.0, 1.0, -128),
        (-128.0, 127.0, 1.0, 0),
        (-255.0, 0.0, 1.0, 127),
        (-1.0, 3.0, 4 / 255, -64),  # -64.25 is rounded
        (2.0, 6.0, 6 / 255, -128),  # zero is taken in
        (-6.0, -2.0, 6 / 255, 127),
    ],
)
def test_scale_and_zero_point_of_a_range(low: float, high: float, scale: float, zero_point: int) -> None:
    found = scale_and_zero_point(low, high)
    assert found == (float(np.float32(scale)), zero_point)


def test_an_empty_range_still_has_a_scale() -> None:
    scale, zero_point = scale_and_zero_point(0.0, 0.0)
    assert scale > 0
    assert zero_point == QMIN


@given(a=ENDS, b=ENDS)
@settings(max_examples=300, deadline=None)
def test_zero_is_exact_and_the_whole_range_is_covered(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero_point = scale_and_zero_point(low, high)
    assert QMIN <= zero_point <= QMAX
    assert scale == np.float32(scale)
    ends = (QMIN - zero_point) * scale, (QMAX - zero_point) * scale
    # Rounding the zero point may shift both ends by half a step, no more.
    slack = scale * (0.5 + 1e-4) + 1e-8
    assert ends[0] <= low + slack
    assert ends[1] >= high - slack


def test_a_fixed_group_keeps_its_scale() -> None:
    group = RangeGroup((0,), (0,), fixed=True, scale=1 / 256, zero_point=-128)
    group.set_range(-5.0, 5.0)
    assert (group.low, group.high, group.scale, group.zero_point) == (-5.0, 5.0, 1 / 256, -128)
    free = RangeGroup((0,), (0,), fixed=False, scale=1.0, zero_point=0)
    free.set_range(-5.0, 5.0)
    assert (free.scale, free.zero_point) == scale_and_zero_point(-5.0, 5.0)


def test_integers_of_a_group_saturate_and_ranges_come_back() -> None:
    group = RangeGroup((0,), (0,), fixed=False, scale=0.5, zero_point=3)
    assert group.integers(np.array([0.0, 0.25, 0.75, -1e9, 1e9])).tolist() == [3, 3, 5, -128, 127]
    group.set_range(-2.0, 5.0)
    other = RangeGroup((0,), (0,), fixed=False, scale=1.0, zero_point=0)
    other.restore(group.as_dict())
    assert other == group


def test_operators_that_compute_have_ranges_of_their_own() -> None:
    tensors = [int8(1, 4, scale=0.5), int8(1, 4, scale=0.5), int8(1, 4, scale=0.5)]
    groups = groups_of(tensors, [Op("TANH", (0,), (1,)), Op("ADD", (0, 1), (2,))])
    assert [group.tensors for group in groups] == [(0,), (1,), (2,)]
    assert [group.observed for group in groups] == [(0,), (1,), (2,)]


def test_what_only_passes_values_shares_the_range_of_its_input() -> None:
    tensors = [int8(1, 4, 4, 2), int8(1, 2, 2, 2), constant([1, 8], "int32"), int8(1, 8)]
    pool = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    groups = groups_of(tensors, [Op("MAX_POOL_2D", (0,), (1,), pool), Op("RESHAPE", (1, 2), (3,))])
    assert [(group.tensors, group.observed) for group in groups] == [((0, 1, 3), (0,))]
    assert groups[0].low == (QMIN - 3) * 0.5
    assert groups[0].high == (QMAX - 3) * 0.5


def test_a_requantizing_one_does_not() -> None:
    """The reference kernels of some operators take another scale on each side."""
    tensors = [int8(1, 4, scale=0.5), constant([4], "int32"), int8(4, scale=0.25)]
    groups = groups_of(tensors, [Op("RESHAPE", (0, 1), (2,))])
    assert [(group.tensors, group.observed) for group in groups] == [((0,), (0,)), ((2,), (2,))]


def test_all_inputs_of_a_concatenation_share_one_range() -> None:
    tensors = [int8(1, 2), int8(1, 2), int8(1, 2), int8(1, 6)]
    ops = [Op("RELU", (0,), (1,)), Op("ABS", (0,), (2,)), Op("CONCATENATION", (0, 1, 2), (3,), {"axis": 1})]
    groups = groups_of(tensors, ops)
    assert [(group.tensors, group.observed) for group in groups] == [((0, 1, 2, 3), (0, 1, 2))]


def test_a_constant_that_is_filled_in_has_the_scale_of_its_group() -> None:
    filled = constant([3], "int8", scale=(0.5,), zero_point=(3,))
    pads = constant([[0, 0], [1, 1]], "int32")
    groups = groups_of([int8(1, 2), pads, filled, int8(1, 4)], [Op("PADV2", (0, 1, 2), (3,))])
    assert [(group.tensors, group.observed) for group in groups] == [((0, 2, 3), (0,))]


def test_a_constant_that_is_joined_to_others_must_fit_their_range() -> None:
    """A class token, say: clipped to the range of the patches it would be another one."""
    token = constant([[90, -90]], "int8", scale=(0.5,), zero_point=(3,))
    groups = groups_of([int8(1, 2), token, int8(1, 4)], [Op("CONCATENATION", (0, 1), (2,), {"axis": 1})])
    assert [(group.tensors, group.observed) for group in groups] == [((0, 1, 2), (0, 1))]


def test_other_constants_keep_the_quantizers_scale() -> None:
    added = constant([1, 2], "int8", scale=(0.1,), zero_point=(0,))
    groups = groups_of([int8(1, 2), added, int8(1, 2)], [Op("ADD", (0, 1), (2,))])
    assert [group.tensors for group in groups] == [(0,), (2,)]
    alone = constant([[1, 2]], "int8", scale=(0.1,), zero_point=(0,))  # passed on, but by itself
    groups = groups_of([int8(1, 2), alone, int8(1, 2)], [Op("MAXIMUM", (0, 1), (2,))])
    assert [group.tensors for group in groups] == [(0, 2)]


@pytest.mark.parametrize("op", ["LOGISTIC", "SOFTMAX", "LOG_SOFTMAX"])
def test_scales_that_kernels_fix_are_fixed(op: str) -> None:
    tensors = [int8(1, 4), int8(1, 4, scale=1 / 256, zero_point=-128), int8(1, 4)]
    groups = groups_of(tensors, [Op(op, (0,), (1,)), Op("ADD", (1, 1), (2,))])
    assert [group.fixed for group in groups] == [False, True, False]
    assert groups[1].scale == 1 / 256


def test_float_and_per_channel_tensors_have_no_group() -> None:
    tensors = [
        int8(1, 2),
        Made((1, 2)),
        constant([[1, 2], [3, 4]], "int8", scale=(0.1, 0.2)),
        int8(1, 2),
    ]
    groups = groups_of(tensors, [Op("DEQUANTIZE", (0,), (1,)), Op("FULLY_CONNECTED", (1, 2, -1), (3,))])
    assert [group.tensors for group in groups] == [(0,), (3,)]
    assert all(math.isfinite(group.low) for group in groups)


def normed_twice() -> tuple[Graph, list[RangeGroup], dict[int, int]]:
    """Returns a mean over 8 values and its product with another tensor."""
    tensors = [int8(1, 8, scale=0.5), constant([-1], "int32"), int8(1, 1), int8(1, 8), int8(1, 8, scale=0.1)]
    ops = [Op("MEAN", (0, 1), (2,), {"keepDims": True}), Op("TANH", (0,), (4,)), Op("MUL", (2, 4), (3,))]
    graph = read_graph(read_model(make_bytes(tensors, ops, outputs=(3,))), ["mean", "tanh", "mul"])
    groups = find_groups(graph)
    return graph, groups, {n: k for k, group in enumerate(groups) for n in group.tensors}


def test_means_and_products_are_no_finer_than_what_they_are_made_of() -> None:
    graph, groups, group_of = normed_twice()
    mean, product = groups[group_of[2]], groups[group_of[3]]
    mean.set_range(-1e-7, 3e-7)
    product.set_range(-2e-6, 0.0)
    zero_points = mean.zero_point, product.zero_point
    floor_scales(graph, groups, group_of, {}.get)
    assert mean.scale == 0.5 / 8
    assert product.scale == np.float32(0.5 / 8 * 0.1)
    assert (mean.zero_point, product.zero_point) == zero_points
    mean.set_range(-1e-8, 1e-8)  # as it would drift while ranges are tracked
    assert mean.scale == 0.5 / 8


def test_useful_ranges_are_not_touched() -> None:
    graph, groups, group_of = normed_twice()
    for group in groups:
        group.set_range(-20.0, 50.0)
    before = [group.as_dict() for group in groups]
    floor_scales(graph, groups, group_of, {}.get)
    assert [group.as_dict() for group in groups] == before


def test_sums_of_products_that_are_next_to_zero_have_steps_the_kernels_can_make() -> None:
    """XNNPACK cannot prepare a layer whose input's step times its weight's is 256 of its output's or more."""
    weight = constant([[1, 2]], "int8", scale=(0.25,), zero_point=(0,))
    tensors = [int8(1, 2, scale=0.5), weight, int8(1, 1), int8(1, 1, scale=0.2), int8(1, 1)]
    ops = [Op("FULLY_CONNECTED", (0, 1, -1), (2,)), Op("TANH", (2,), (3,)), Op("BATCH_MATMUL", (2, 3), (4,))]
    graph = read_graph(read_model(make_bytes(tensors, ops, outputs=(4,))), ["fc", "tanh", "product"])
    groups = find_groups(graph)
    group_of = {n: k for k, group in enumerate(groups) for n in group.tensors}
    layer, product = groups[group_of[2]], groups[group_of[4]]
    for group in (layer, product):
        group.set_range(-1e-7, 1e-7)
    floor_scales(graph, groups, group_of, {1: 0.25}.get)
    assert layer.scale == np.float32(0.5 * 0.25 / 128)
    assert product.scale == np.float32(layer.scale * groups[group_of[3]].scale / 128)
    layer.set_range(-3.0, 3.0)
    before = layer.as_dict()
    floor_scales(graph, groups, group_of, {1: 0.25}.get)
    assert layer.as_dict() == before


@pytest.mark.parametrize(("low", "high"), [(float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_not_finite_says_that_training_diverged(low: float, high: float) -> None:
    group = RangeGroup(tensors=(0,), observed=(0,), fixed=False, scale=1.0, zero_point=0)
    with pytest.raises(ModelError, match="training has diverged"):
        group.set_range(low, high)


@pytest.mark.parametrize(("scale", "other"), [(0.5, 1.5), (1.5, 0.5)])
def test_comparisons_of_large_values_are_refused(scale: float, other: float) -> None:
    """Constants count as well: LiteRT ends the process at either."""
    made = [int8(1, 4, scale=scale), constant([100], "int8", scale=(other,)), Made((1, 4), "bool")]
    graph = read_graph(read_model(make_bytes(made, [Op("LESS", (0, 1), (2,))])), ["op0"])
    groups = find_groups(graph)
    with pytest.raises(ModelError, match=r"LESS \(layer op0\) compares values from .*255 at most"):
        check_comparisons(graph, groups, {0: 0})
