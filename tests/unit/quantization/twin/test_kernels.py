"""The twin rounds where the interpreter's INT8 kernels round, held against the interpreter itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.quantization.graph.batches import compute
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.grids.ranges import RangeGroup
from edgecompress.quantization.twin.kernels import KERNELS, SMALLEST_SLOPE, as_the_kernel, compared, hard_swish_table
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.converted_net import Converted, images, run_flatbuffer, shipped
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes, run_bytes

EVERY_VALUE = np.arange(-128, 128, dtype=np.int8)


def grid(scale: float, zero_point: int) -> RangeGroup:
    return RangeGroup(tensors=(0,), observed=(0,), fixed=False, scale=float(np.float32(scale)), zero_point=zero_point)


def node(op: str, **options: float) -> Node:
    return Node(0, op, "layer", (0,), (1,), options, ((1, 256),), ((1, 256),))


def rounded_once(x: np.ndarray, target: RangeGroup) -> np.ndarray:
    return np.clip(np.rint(x / target.scale) + target.zero_point, -128, 127)


@settings(max_examples=40, deadline=None)
@given(
    exponent=st.floats(-2.8, -0.3),
    zero_point=st.integers(-128, 100),
    share=st.floats(0.5, 1.0),
    low=st.integers(-128, -40),
)
def test_hard_swish_is_the_kernels_for_every_value(exponent: float, zero_point: int, share: float, low: int) -> None:
    source = grid(10**exponent, zero_point)
    target = grid(max((127 - zero_point) * source.scale, 0.375) * share / 200, low)
    made = [
        int8(1, 256, scale=source.scale, zero_point=source.zero_point),
        int8(1, 256, scale=target.scale, zero_point=target.zero_point),
    ]
    found = run_bytes(make_bytes(made, [Op("HARD_SWISH", (0,), (1,))]), EVERY_VALUE[None])
    np.testing.assert_array_equal(hard_swish_table(source, target), found[0])


def test_hard_swish_is_not_the_rounded_real_one() -> None:
    """Else the table would be of no use."""
    source, target = grid(0.007100865, -10), grid(0.006582304, -60)
    x = (np.arange(-128, 128) + 10) * source.scale
    plain = rounded_once(x * np.clip(x + 3, 0, 6) / 6, target)
    assert 0 < (hard_swish_table(source, target) != plain).sum() <= 8


@settings(max_examples=40, deadline=None)
@given(
    scale=st.floats(0.002, 0.5),
    ratio=st.floats(0.3, 3.0),
    alpha=st.floats(0.01, 0.9),
    zero_point=st.integers(-128, 100),
    target_zero=st.integers(-128, 0),
)
def test_leaky_relu_is_the_kernels_for_every_value(
    scale: float, ratio: float, alpha: float, zero_point: int, target_zero: int
) -> None:
    source, target = grid(scale, zero_point), grid(scale * ratio, target_zero)
    made = [
        int8(1, 256, scale=source.scale, zero_point=source.zero_point),
        int8(1, 256, scale=target.scale, zero_point=target.zero_point),
    ]
    content = make_bytes(made, [Op("LEAKY_RELU", (0,), (1,), {"alpha": alpha})])
    found = run_bytes(content, EVERY_VALUE[None])[0]
    x = torch.from_numpy((EVERY_VALUE.astype(np.float64) - zero_point) * source.scale).float()
    plain = torch.where(x >= 0, x, x * alpha)
    y = as_the_kernel(node("LEAKY_RELU", alpha=alpha), plain, [x], [source, target])
    steps = np.clip(np.rint(y.double().numpy() / target.scale) + target_zero, -128, 127)
    exact = ratio >= 2 * SMALLEST_SLOPE and alpha / ratio >= 2 * SMALLEST_SLOPE
    assert np.abs(steps - found).max() <= (0 if exact else 1)


@pytest.mark.parametrize("op", ["ADD", "MAXIMUM", "QUANTIZE", "RELU"])
def test_int16_values_are_clipped_where_the_kernels_clip_them(op: str) -> None:
    """The least INT16 is a value like others, at the input and where an output is clipped."""
    raw = np.array([[-32768, -32767, -20000, -16384, -1, 0, 20000, 32767]], np.int16)
    scales = [float(np.float32(1e-3)), float(np.float32(1e-3 if op == "MAXIMUM" else 1e-3 / 1.5))]
    made = [Made(raw.shape, "int16", scale=(scale,), zero_point=(0,)) for scale in scales]
    content = make_bytes(made, [Op(op, (0, 0) if op in ("ADD", "MAXIMUM") else (0,), (1,))])
    found = run_bytes(content, raw)[0]
    twin = Twin(read_model(content), read_model(content), ["layer"]).eval()
    with torch.no_grad():
        values = twin(torch.from_numpy(raw.astype(np.float32) * np.float32(scales[0])))
    np.testing.assert_array_equal(np.rint(values.double().numpy()[0] / scales[1]), found)
    assert found.min() == (0 if op == "RELU" else -32768)


@pytest.mark.parametrize("scale", [0.01, 0.0823, 0.4])
def test_log_softmax_is_rounded_once_and_clipped_at_the_least_that_its_grid_holds(scale: float) -> None:
    """So the twin needs no kernel for it."""
    made = [int8(200, 10, scale=scale, zero_point=-7), int8(200, 10, scale=1 / 16, zero_point=127)]
    raw = np.random.default_rng(0).integers(-128, 128, (200, 10)).astype(np.int8)
    found = run_bytes(make_bytes(made, [Op("LOG_SOFTMAX", (0,), (1,))]), raw)
    assert "LOG_SOFTMAX" not in KERNELS
    target = RangeGroup(tensors=(0,), observed=(0,), fixed=True, scale=1 / 16, zero_point=127)
    x = torch.from_numpy((raw.astype(np.float32) + 7) * np.float32(scale))
    steps = target.integers(torch.log_softmax(x, -1).numpy())
    off = np.abs(steps.astype(int) - found)
    assert off.max() <= 1  # the last bit of a float decides a tie
    assert (off > 0).mean() < 0.005
    assert ((found == -128).mean() > 0.3) == (scale == 0.4)


@pytest.mark.parametrize("target", [(0.02, -100), (0.013, -128), (0.037, 5)])
def test_roots_are_rounded_down(target: tuple[float, int]) -> None:
    before, after = grid(0.05, -128), grid(*target)
    made = [int8(1, 256, scale=0.05, zero_point=-128), int8(1, 256, scale=target[0], zero_point=target[1])]
    found = run_bytes(make_bytes(made, [Op("SQRT", (0,), (1,))]), EVERY_VALUE[None])[0]
    x = torch.from_numpy((EVERY_VALUE.astype(np.float32) + 128) * np.float32(before.scale))
    y = as_the_kernel(node("SQRT"), x.sqrt(), [x], [before, after]).double().numpy()
    np.testing.assert_array_equal(np.clip(np.rint(y / after.scale) + after.zero_point, -128, 127), found)
    assert (rounded_once(x.sqrt().numpy(), after) != found).mean() > 0.1


@pytest.mark.parametrize("op", ["EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"])
@pytest.mark.parametrize("scale", [0.001, 0.02, 0.9])
def test_comparisons_count_in_256ths(op: str, scale: float) -> None:
    """All pairs of integers on two grids; scales of 1 and more end the process."""
    made = [int8(256, 1, scale=scale, zero_point=3), int8(1, 256, scale=scale * 1.1, zero_point=-9)]
    content = make_bytes([*made, Made((256, 256), "bool")], [Op(op, (0, 1), (2,))], inputs=(0, 1))
    found = run_bytes(content, EVERY_VALUE[:, None], EVERY_VALUE[None])
    values = [
        (EVERY_VALUE.astype(np.float64) - offset) * float(np.float32(one))
        for one, offset in ((scale, 3), (scale * 1.1, -9))
    ]
    x, y = compared(torch.from_numpy(values[0])[:, None]), compared(torch.from_numpy(values[1])[None])
    expected = compute(node(op), [x, y])[0].numpy()
    assert (expected != found).mean() < 0.002  # products of 31 bits decide ties


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 40])
def test_means_of_ties_are_the_kernels(zero_point: int) -> None:
    made = [int8(1, 2, 256, 1, scale=0.1, zero_point=zero_point), int8(1, 1, 256, 1, scale=0.1, zero_point=zero_point)]
    options = {"filterHeight": 2, "filterWidth": 1, "strideH": 1, "strideW": 1, "padding": 1}
    raw = np.stack([EVERY_VALUE, np.roll(EVERY_VALUE, 1)])[None, :, :, None]  # neighbours: every mean is a tie
    content = make_bytes(made, [Op("AVERAGE_POOL_2D", (0,), (1,), options)])
    found = run_bytes(content, raw).ravel()
    group = grid(0.1, zero_point)
    x = torch.from_numpy((raw.astype(np.float32) - zero_point) * np.float32(group.scale))
    y = as_the_kernel(node("AVERAGE_POOL_2D"), x.mean(1), [x], [group, group]).numpy().ravel()
    np.testing.assert_array_equal(np.rint(y / group.scale) + zero_point, found)
    to_even = np.rint(raw.astype(np.float64).mean(1)).ravel()
    assert (to_even != found).mean() > 0.4


@pytest.mark.parametrize(
    ("source", "target"),
    [((0.05, 3), (0.071, -7)), ((0.031, -128), (0.034, -128)), ((0.1, 10), (0.013, -20)), ((9.0, 0), (0.01, 4))],
)
def test_conversions_multiply_by_whole_256ths(source: tuple[float, int], target: tuple[float, int]) -> None:
    before, after = grid(*source), grid(*target)
    made = [int8(1, 256, scale=scale, zero_point=zero_point) for scale, zero_point in (source, target)]
    found = run_bytes(make_bytes(made, [Op("QUANTIZE", (0,), (1,))]), EVERY_VALUE[None])[0]
    x = torch.from_numpy((EVERY_VALUE.astype(np.float32) - before.zero_point) * np.float32(before.scale))
    y = as_the_kernel(node("QUANTIZE"), x, [x], [before, after]).double().numpy()
    np.testing.assert_array_equal(np.clip(np.rint(y / after.scale) + after.zero_point, -128, 127), found)


@pytest.mark.parametrize("scale", [0.02, 0.11, 0.9])
def test_products_of_two_activations_are_rounded_twice(scale: float) -> None:
    rng = np.random.default_rng(0)
    made = [
        int8(1, 64, 8, scale=0.05, zero_point=3), int8(1, 8, 64, scale=0.03, zero_point=-7),
        int8(1, 64, 64, scale=scale, zero_point=11),
    ]  # fmt: skip
    first, second = (rng.integers(-128, 128, (1, *shape)).astype(np.int8) for shape in ((64, 8), (8, 64)))
    content = make_bytes(made, [Op("BATCH_MATMUL", (0, 1), (2,))], inputs=(0, 1))
    found = run_bytes(content, first, second)
    ranges = [grid(0.05, 3), grid(0.03, -7), grid(scale, 11)]
    a, b = (
        torch.from_numpy((raw.astype(np.float32) - group.zero_point) * np.float32(group.scale))
        for raw, group in zip((first, second), ranges, strict=False)
    )
    y = as_the_kernel(node("BATCH_MATMUL"), a @ b, [a, b], ranges).double().numpy()
    np.testing.assert_array_equal(np.clip(np.rint(y / ranges[2].scale) + 11, -128, 127), found)


@pytest.mark.parametrize("zero_point", [0, -7])
@pytest.mark.parametrize("scale", [0.0047, 0.37, 1.3])
def test_linear_layers_with_weights_that_are_computed_are_the_kernels_to_the_bit(scale: float, zero_point: int) -> None:
    raw = np.random.default_rng(0).integers(-128, 128, (64, 8)).astype(np.int8)
    made = [int8(64, 8, scale=0.047, zero_point=zero_point), int8(64, 64, scale=scale, zero_point=11)]
    content = make_bytes(made, [Op("FULLY_CONNECTED", (0, 0, -1), (1,), version=4)])
    twin = Twin(read_model(content), read_model(content), ["product"]).eval()
    real = torch.from_numpy((raw.astype(np.float32) - zero_point) * np.float32(0.047))
    with torch.no_grad():
        y = twin.run_node(twin.graph.nodes[0], [real, real])[0].double().numpy()
    np.testing.assert_array_equal(np.rint(y / np.float32(scale)) + 11, run_bytes(content, raw))


@pytest.mark.parametrize("sources", [((0.05, 3), (0.05, -9)), ((0.011, 20), (0.0015, 70)), ((0.002, -128), (0.4, 0))])
@pytest.mark.parametrize("target", [(0.02, -128), (0.0007, -128), (0.9, -100)])
def test_squared_differences_are_rounded_as_the_kernel_does(
    sources: tuple[tuple[float, int], tuple[float, int]], target: tuple[float, int]
) -> None:
    rng = np.random.default_rng(1)
    (one, other), sink = [grid(*source) for source in sources], grid(*target)
    made = [
        int8(1, 4096, scale=group.scale, zero_point=group.zero_point) for group in (one, other, sink)
    ]  # fmt: skip
    raw = [rng.integers(-128, 128, (1, 4096)).astype(np.int8) for _ in range(2)]
    found = run_bytes(make_bytes(made, [Op("SQUARED_DIFFERENCE", (0, 1), (2,))], inputs=(0, 1)), *raw)
    a, b = (
        torch.from_numpy((x.astype(np.float32) - group.zero_point) * np.float32(group.scale))
        for x, group in zip(raw, (one, other), strict=True)
    )
    y = as_the_kernel(node("SQUARED_DIFFERENCE"), (a - b) ** 2, [a, b], [one, other, sink]).double().numpy()
    np.testing.assert_array_equal(np.clip(np.rint(y / sink.scale) + sink.zero_point, -128, 127), found)


def test_rounding_lets_gradients_through() -> None:
    group = grid(0.1, 0)
    for op in KERNELS:
        x = torch.linspace(-1, 1, 9).reshape((1, 3, 3, 1) if op == "RESIZE_BILINEAR" else 9).requires_grad_()
        inputs = [x, 2 * x] if op in ("ADD", "MUL", "BATCH_MATMUL", "FULLY_CONNECTED", "SQUARED_DIFFERENCE") else [x]
        made = node(op, alpha=0.1, fusedActivationFunction=0)
        as_the_kernel(made, 3 * x, inputs, [group] * (len(inputs) + 1)).sum().backward()
        torch.testing.assert_close(x.grad, torch.full_like(x, 3.0))


def test_a_whole_flatbuffer_is_the_twin_to_the_bit(converted: Converted, twin: Twin) -> None:
    """Convolutions, hard swish, a gate, pools and means in a row: no value is off by a step."""
    x = images(500, seed=11)
    content, _ = shipped(converted, twin)
    with torch.no_grad():
        expected = twin(x).numpy()
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    off = np.rint(np.abs(run_flatbuffer(content, x) - expected) / step)
    assert off.max() == 0
    assert np.unique(expected).size > 50


def test_the_twin_rounds_biases_as_the_file_does(twin: Twin) -> None:
    n = next(iter(twin.biases))
    exact, used = twin.weights[str(n)].detach(), twin.fake_weight(n).detach()
    integers, scale = twin.quantized_constants()[n]
    np.testing.assert_allclose(used.numpy(), integers * scale.astype(np.float64), rtol=1e-6)
    assert not torch.equal(used, exact)


SIZES = [
    ((5, 7), (10, 14)), ((16, 16), (24, 20)), ((16, 16), (8, 8)), ((9, 6), (4, 13)), ((3, 3), (1, 1)), ((1, 1), (4, 3)),
    ((1, 8), (1, 5)), ((7, 2), (100, 3)), ((33, 17), (11, 34)), ((12, 12), (12, 12)),
]  # fmt: skip


@pytest.mark.parametrize("flags", [{"alignCorners": True}, {"halfPixelCenters": True}, {}], ids=["aligned", "half", ""])
@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_resizing_is_the_kernels(size: tuple[int, int], wanted: tuple[int, int], flags: dict[str, bool]) -> None:
    """Through the whole twin, with two samples: a side is no number of samples."""
    raw = np.random.default_rng(0).integers(-128, 128, (2, *size, 5)).astype(np.int8)
    made = [int8(1, *size, 5, scale=0.04, zero_point=-9), int8(1, *wanted, 5, scale=0.04, zero_point=-9)]
    tensors = [made[0], constant(wanted, "int32"), made[1]]
    content = make_bytes(tensors, [Op("RESIZE_BILINEAR", (0, 1), (2,), flags)])
    found = np.concatenate([run_bytes(content, one[None]) for one in raw])
    twin = Twin(read_model(content), read_model(content), ["layer"]).eval()
    scale = float(np.float32(0.04))
    with torch.no_grad():
        y = twin(torch.from_numpy((raw.astype(np.float32) + 9) * np.float32(scale)), flatbuffer_layout=True)
    np.testing.assert_array_equal(np.rint(y.double().numpy() / scale).reshape(found.shape) - 9, found)
