"""Ranges end where their readers cannot tell values apart, and zero lies in the middle where kernels are fast so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgecompress.quantization.graph.graph import read_graph
from edgecompress.quantization.grids.ranges import QMAX, RangeGroup, scale_and_zero_point
from edgecompress.quantization.grids.readers import (
    ADDED_SHARE,
    CELL,
    FEW_CLASSES,
    LEAST_COSINE,
    SATURATED_AT,
    SLIGHT_STEPS,
    cut_outputs,
    mark_readers,
    output_floor,
)
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes, run_bytes


def marked(tensors: list[Made], ops: list[Op]) -> Twin:
    content = make_bytes(tensors, ops)
    return Twin(read_model(content), read_model(content), [f"op{k}" for k in range(len(ops))]).eval()


def group_of(twin: Twin, n: int) -> RangeGroup:
    return twin.groups[twin.group_of[n]]


@pytest.mark.parametrize("op", sorted(SATURATED_AT))
def test_nothing_is_lost_where_a_curve_is_flat(op: str) -> None:
    """All that lies beyond the limit, near or far, gives the least or the largest integer."""
    grid = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}[op]
    limit = SATURATED_AT[op]
    for reach in (2 * limit, 4 * limit):
        made = [int8(1, 256, scale=reach / 128, zero_point=0), int8(1, 256, scale=grid[0], zero_point=grid[1])]
        raw = np.arange(-128, 128, dtype=np.int8)[None]
        found = run_bytes(make_bytes(made, [Op(op, (0,), (1,))]), raw)[0].astype(int)
        beyond = np.abs(raw[0].astype(int)) * reach / 128 >= limit
        assert set(found[beyond]) == {-128, 127}
    middle = [int8(1, 4), int8(1, 4, scale=0.1), int8(1, 4, scale=grid[0], zero_point=grid[1])]
    twin = marked(middle, [Op("ABS", (0,), (1,)), Op(op, (1,), (2,))])
    group_of(twin, 1).set_range(-40.0, 3.0)
    assert (group_of(twin, 1).low, group_of(twin, 1).high) == (-limit, 3.0)
    assert group_of(twin, 0).limits == (-math.inf, math.inf)


def test_other_readers_need_the_whole_range() -> None:
    made = [int8(1, 4), int8(1, 4, scale=0.1), int8(1, 4, scale=1 / 128, zero_point=0), int8(1, 4), int8(1, 4)]
    ops = [Op("ABS", (0,), (1,)), Op("TANH", (1,), (2,)), Op("NEG", (1,), (3,)), Op("ADD", (2, 3), (4,))]
    assert group_of(marked(made, ops), 1).limits == (-math.inf, math.inf)


def test_a_state_that_only_a_tanh_and_itself_read_is_cut_off() -> None:
    """c = c * f + a, h = tanh(c): the cell of an LSTM, twice."""
    step = "levels.0.step"
    tensors = [int8(1, 4, scale=0.05), int8(1, 4, scale=1 / 256, zero_point=-128), int8(1, 4, scale=0.2)]
    ops = [Op("LOGISTIC", (0,), (1,)), Op("ABS", (0,), (2,))]
    labels = ["sigmoid", f"{step}.cell.abs"]
    for cell in (2, 5):  # 2: what the state begins with
        tensors += [int8(1, 4, scale=0.3), int8(1, 4, scale=1 / 128, zero_point=0), int8(1, 4, scale=0.15)]
        ops += [Op("MUL", (1, cell), (cell + 1,)), Op("ADD", (cell + 1, 0), (cell + 3,))]
        ops += [Op("TANH", (cell + 3,), (cell + 2,))]
        end = f"#{cell}" if cell > 2 else ""
        labels += [f"{step}.keep.mul{end}", f"{step}.cell.add{end}", f"{step}.tanh{end}"]
    tensors += [int8(1, 4)]
    ops += [Op("MUL", (0, 2), (9,))]  # an LSTM makes the hidden state's zeros of the cell's
    content = make_bytes(tensors, ops)
    twin = Twin(read_model(content), read_model(content), [*labels, "begin"])
    assert len({twin.group_of[n] for n in (2, 5, 8)}) == 1
    assert group_of(twin, 8).limits == (-CELL, CELL)
    share = CELL * 255 / 256
    assert group_of(twin, 3).limits == group_of(twin, 6).limits == (-share, share)
    assert group_of(twin, 0).limits == (-math.inf, math.inf)
    tensors += [int8(1, 4)]
    ops += [Op("NEG", (5,), (10,))]  # another reader sees what is cut off
    content = make_bytes(tensors, ops)
    twin = Twin(read_model(content), read_model(content), [*labels, "begin", "other"])
    assert group_of(twin, 8).limits == (-math.inf, math.inf)


def test_second_factors_have_their_zero_in_the_middle() -> None:
    made = [int8(2, 3, 4), int8(2, 3, 4), int8(2, 3, 3)]
    twin = marked(made, [Op("ABS", (0,), (1,)), Op("BATCH_MATMUL", (0, 1), (2,), {"adjY": True})])
    first, second = group_of(twin, 0), group_of(twin, 1)
    for low, high in ((-2.0, 3.0), (-3.0, 1.0)):
        second.set_range(low, high)
        assert (second.scale, second.zero_point) == (float(np.float32(3.0 / QMAX)), 0)
        first.set_range(low, high)
        assert (first.scale, first.zero_point) == scale_and_zero_point(low, high)
    second.set_range(-0.2, 3.0)  # next to nothing on one side: that would cost a bit
    assert (second.scale, second.zero_point) == scale_and_zero_point(-0.2, 3.0)


@pytest.mark.parametrize("scale", [0.11, 0.37, 1.3])
def test_products_with_such_a_factor_are_the_kernels_to_the_bit(scale: float) -> None:
    raw = np.random.default_rng(0).integers(-128, 128, (2, 64, 32)).astype(np.int8)
    made = [int8(2, 64, 32, scale=0.047, zero_point=0), int8(2, 64, 64, scale=scale, zero_point=5)]
    content = make_bytes(made, [Op("BATCH_MATMUL", (0, 0), (1,), {"adjY": True}, version=2)])
    found = run_bytes(content, raw)
    twin = Twin(read_model(content), read_model(content), ["product"]).eval()
    with torch.no_grad():
        real = twin.run_node(twin.graph.nodes[0], [torch.from_numpy(raw.astype(np.float32) * np.float32(0.047))] * 2)[0]
    assert np.array_equal(np.rint(real.double().numpy() / scale) + 5, found)


def test_outputs_far_below_the_largest_are_cut_off() -> None:
    outputs = np.array([[9.0, 2.0, -30.0], [1.0, 0.5, -25.0]], np.float32)
    floor = output_floor(outputs)
    raised = np.maximum(outputs.astype(np.float64), floor)
    added = np.exp(raised).sum(1) / np.exp(outputs.astype(np.float64)).sum(1) - 1
    assert added.max() == pytest.approx(ADDED_SHARE, rel=1e-3)
    assert -6.0 < floor < 0.5
    made = [int8(1, 3), int8(1, 3, scale=0.2)]
    twin = marked(made, [Op("ABS", (0,), (1,))])
    assert cut_outputs(twin.graph, twin.groups, twin.group_of, floor)
    twin.set_ranges({twin.group_of[1]: (-30.0, 9.0)})
    assert group_of(twin, 1).low == floor
    other = marked(made, [Op("ABS", (0,), (1,))])
    other.load_ranges(twin.ranges())
    assert group_of(other, 1) == group_of(twin, 1)


def test_of_many_classes_outputs_stay_what_they_are_as_vectors() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(0.0, 3.0, (60, 1000)).astype(np.float32)
    outputs[np.arange(60), np.arange(60)] = 25.0

    def cosine(floor: float) -> float:
        raised = np.maximum(outputs, floor)
        lengths = np.linalg.norm(raised, axis=1) * np.linalg.norm(outputs, axis=1)
        return float(((raised * outputs).sum(1) / lengths).mean())

    few, many = output_floor(outputs[:, :FEW_CLASSES]), output_floor(outputs)
    assert cosine(many) == pytest.approx(LEAST_COSINE, abs=1e-6)
    assert outputs.min() < many < few
    assert cosine(few) < 0.9
    assert np.isfinite(output_floor(np.zeros((3, 1000), np.float32)))


def test_outputs_that_all_but_agree_are_not_cut_off() -> None:
    """As of a head behind a normalisation: the sum under the softmax hardly knows them apart, but all have a chance."""
    outputs = np.random.default_rng(0).normal(0.0, 0.01, (60, 10)).astype(np.float32)
    floor = output_floor(outputs)
    assert 0.0 <= floor - outputs.min() <= (SLIGHT_STEPS + 0.1) * (outputs.max() - floor) / 255


def test_what_turns_out_to_be_the_answer_is_not_cut_off() -> None:
    """A network with weights of no use is sure of itself all the same, and all of its outputs vary."""
    rng = np.random.default_rng(0)
    outputs = rng.normal(0.0, 40.0, (60, 10)).astype(np.float32)
    right, wrong = outputs.argmax(1), rng.integers(0, 10, 60)
    alone, borne_out, refuted = (output_floor(outputs, classes) for classes in (None, right, wrong))
    assert alone == borne_out > 0.0
    least = outputs[np.arange(60), wrong].min()
    assert refuted - least == pytest.approx(SLIGHT_STEPS * (outputs.max() - refuted) / 255)
    few = np.where(np.arange(600) == 0, np.tile(wrong, 10), np.tile(right, 10))
    assert output_floor(np.tile(outputs, (10, 1)), few) == alone  # one of 600, who may have the wrong name


def test_an_output_that_is_read_on_or_on_a_fixed_grid_is_not() -> None:
    made = [int8(1, 3), int8(1, 3, scale=1 / 256, zero_point=-128)]
    fixed = marked(made, [Op("SOFTMAX", (0,), (1,))])
    assert not cut_outputs(fixed.graph, fixed.groups, fixed.group_of, 0.0)
    graph = read_graph(read_model(make_bytes([int8(1, 3)], [], outputs=(0,))), [])
    groups = [RangeGroup((0,), (0,), fixed=False, scale=1.0, zero_point=0)]
    mark_readers(graph, groups)
    assert groups[0].limits == (-math.inf, math.inf)


def cut(*ops: Op, more: tuple[Made, ...] = ()) -> tuple[float, float]:
    """Returns where the range of a root ends, at tensor 1, that these read."""
    made = [int8(1, 4), int8(1, 4, scale=0.1), int8(1, 4, scale=0.1), int8(1, 4, scale=0.2), *more]
    return group_of(marked(made, [Op("RSQRT", (0,), (1,)), *ops]), 1).limits


LIMIT = constant(3.0, "float32", name="limit")


def test_a_range_ends_where_all_readers_clip() -> None:
    assert cut(Op("MINIMUM", (1, 4), (2,)), Op("ABS", (2,), (3,)), more=(LIMIT,)) == (-math.inf, 3.0)
    assert cut(Op("MAXIMUM", (4, 1), (2,)), Op("ABS", (2,), (3,)), more=(LIMIT,)) == (3.0, math.inf)
    assert cut(Op("RELU6", (1,), (2,)), Op("ABS", (2,), (3,))) == (0.0, 6.0)
    behind = Op("RESHAPE", (1,), (2,)), Op("MINIMUM", (2, 4), (3,))
    assert cut(*behind, more=(LIMIT,)) == (-math.inf, 3.0)
    both = Op("MINIMUM", (1, 4), (2,)), Op("RELU6", (1,), (3,))
    assert cut(*both, more=(LIMIT,)) == (-math.inf, 6.0)


def test_a_sum_or_product_with_a_constant_clips_where_its_activation_does() -> None:
    two, sides = constant(2.0, "float32", name="two"), constant([1.0, 2.0, 4.0, 4.0], "float32", name="sides")
    none = constant([-1.0], "float32", name="negative")

    def fused(op: str, code: int, factor: Made) -> tuple[float, float]:
        return cut(Op(op, (1, 4), (2,), {"fusedActivationFunction": code}), Op("ABS", (2,), (3,)), more=(factor,))

    assert fused("MUL", 1, two) == (0.0, math.inf)
    assert fused("MUL", 3, two) == (0.0, 3.0)
    assert fused("MUL", 3, sides) == (0.0, 6.0)
    assert fused("MUL", 2, sides) == (-1.0, 1.0)
    assert fused("ADD", 3, LIMIT) == (-3.0, 3.0)
    assert fused("ADD", 1, sides) == (-4.0, math.inf)
    for op, code, factor in (("MUL", 0, two), ("MUL", 3, none), ("SUB", 3, two)):
        assert fused(op, code, factor) == (-math.inf, math.inf)
    of_two = Op("MUL", (1, 0), (2,), {"fusedActivationFunction": 3})
    assert cut(of_two, Op("ABS", (2,), (3,))) == (-math.inf, math.inf)


def test_a_range_that_one_reader_needs_does_not_end() -> None:
    clipped = Op("MINIMUM", (1, 4), (2,))
    assert cut(clipped, Op("ABS", (1,), (3,)), more=(LIMIT,)) == (-math.inf, math.inf)
    assert cut(Op("RESHAPE", (1,), (2,)), Op("ABS", (2,), (3,))) == (-math.inf, math.inf)
    assert cut(Op("MINIMUM", (1, 2), (3,)), Op("ABS", (0,), (2,))) == (-math.inf, math.inf)


def test_a_clipping_constant_of_the_same_grid_counts() -> None:
    """What is clipped has values of its own then, in the same group."""
    limit = constant(30, "int8", scale=(0.1,), zero_point=(3,), name="limit")
    made = [int8(1, 4), int8(1, 4, scale=0.1), int8(1, 4, scale=0.1), int8(1, 4, scale=0.2), limit]
    ops = [Op("RSQRT", (0,), (1,)), Op("MINIMUM", (1, 4), (2,)), Op("ABS", (2,), (3,))]
    content = make_bytes(made, ops, outputs=(3,))
    twin = Twin(read_model(content), read_model(content), ["a", "b", "c"])
    assert group_of(twin, 1) is group_of(twin, 2)
    assert group_of(twin, 1).limits == (-math.inf, 30.0)
