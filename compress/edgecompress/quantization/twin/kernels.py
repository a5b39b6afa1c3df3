"""Integer kernels whose answer is not the rounded real one, so that the twin rounds as they do.

Most INT8 kernels round the real result once, to nearest: fake quantization computes the same. These do otherwise, and
in a deep network a step here and there grows into another answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.layers import activate
from edgecompress.quantization.grids.ranges import QMAX, QMIN, RangeGroup
from edgecompress.quantization.twin.resizing import resize_bilinear

#: What floating point may take off a tie, in steps.
TIE_MARGIN = 1e-4
#: Slopes that XNNPACK's LEAKY_RELU takes, and ratios of scales that its conversions take.
SMALLEST_SLOPE, LARGEST_SLOPE = 2.0**-8, 2.0**7
#: Bits of the multipliers of XNNPACK's ADD, and ratios of scales that it takes.
ADD_BITS, SMALLEST_RATIO, LARGEST_RATIO = 20, 2.0**-10, 2.0**8
#: Bits behind the point to which SQUARED_DIFFERENCE takes its inputs.
SQUARED_BITS = 7
#: Of one, in which INT8 comparisons count.
COMPARED_PARTS = 256.0
_INT16_MAX = 2**15 - 1
_INT32_MAX = 2**31 - 1

Inputs = Sequence[torch.Tensor]
Integers = TypeVar("Integers", NDArray[np.int64], torch.Tensor)


def xnnpack_multipliers(first: RangeGroup, second: RangeGroup, target: RangeGroup) -> tuple[int, int, int] | None:
    """Returns XNNPACK's multipliers for the two inputs of a sum and its shift, None where another kernel adds.

    Source: xnn_init_qs8_add_minmax_scalar_params in XNNPACK.
    """
    ratios = [np.float32(one.scale) / np.float32(target.scale) for one in (first, second)]
    if not all(SMALLEST_RATIO <= ratio < LARGEST_RATIO for ratio in ratios):
        return None
    shift = ADD_BITS - (math.frexp(float(max(ratios)))[1] - 1)
    one, other = (int(np.rint(float(ratio) * 2.0**shift)) for ratio in ratios)
    return one, other, shift


def xnnpack_sum(x: Integers, y: Integers, multipliers: tuple[int, int, int]) -> Integers:
    """Returns the sums of integers without zero points, in steps of the output; they fit 32 bits, as in qs8-vadd."""
    first, second, shift = multipliers
    return (x * first + y * second + (1 << (shift - 1))) >> shift


def _add(
    node: Node, y: torch.Tensor, inputs: Inputs, first: RangeGroup, second: RangeGroup, target: RangeGroup
) -> torch.Tensor:
    """Returns the sums as XNNPACK's 21 bits give them."""
    multipliers = xnnpack_multipliers(first, second, target)
    if multipliers is None:
        return y
    steps = [torch.round(x / group.scale).to(torch.int32) for x, group in zip(inputs, (first, second), strict=True)]
    return activate(node, (xnnpack_sum(steps[0], steps[1], multipliers).double() * target.scale).to(y.dtype))


def _mul(
    node: Node, y: torch.Tensor, inputs: Inputs, first: RangeGroup, second: RangeGroup, target: RangeGroup
) -> torch.Tensor:
    """Returns the products as XNNPACK's qs8-vmul gives them: of integers, scaled and rounded once in float32."""
    one, other = (torch.round(x / group.scale) for x, group in zip(inputs, (first, second), strict=True))
    factor = np.float32(first.scale) * np.float32(second.scale) / np.float32(target.scale)
    return activate(node, torch.round(one * other * float(factor)).to(y.dtype) * target.scale)


def _average_pool(
    _node: Node, y: torch.Tensor, _inputs: Inputs, _source: RangeGroup, target: RangeGroup
) -> torch.Tensor:
    """Returns the means, ties rounded away from the integer 0 (which is not the real one).

    Source: AveragePool in tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h.
    """
    steps = y / target.scale + target.zero_point
    rounded = torch.sign(steps) * torch.floor(steps.abs() + 0.5 + TIE_MARGIN)
    return (rounded - target.zero_point) * target.scale


def _hard_swish(_node: Node, _y: torch.Tensor, inputs: Inputs, source: RangeGroup, target: RangeGroup) -> torch.Tensor:
    """Returns the kernel's output for values on the source's grid, from its table of 256 entries."""
    table = (hard_swish_table(source, target).astype(np.float32) - target.zero_point) * np.float32(target.scale)
    index = torch.round(inputs[0] / source.scale + (source.zero_point - QMIN)).clamp(0, QMAX - QMIN)
    return torch.from_numpy(table).to(index.device)[index.long()]


def _square_root(
    _node: Node, y: torch.Tensor, _inputs: Inputs, _source: RangeGroup, target: RangeGroup
) -> torch.Tensor:
    """Returns the roots, rounded down: LiteRT's kernel cuts off what is left of a step (measured on all inputs)."""
    return torch.floor(y / target.scale + TIE_MARGIN) * target.scale


def _leaky_relu(node: Node, y: torch.Tensor, inputs: Inputs, source: RangeGroup, target: RangeGroup) -> torch.Tensor:
    """Returns the outputs with both slopes rounded to 1/256, as XNNPACK multiplies.

    Source: qs8-vlrelu in XNNPACK, and its parameters. Slopes outside of what it takes go to another kernel.
    """
    slope = float(np.float32(source.scale) / np.float32(target.scale))
    below = slope * float(np.float32(node.options["alpha"]))
    if not (SMALLEST_SLOPE <= slope <= LARGEST_SLOPE and SMALLEST_SLOPE <= abs(below) <= LARGEST_SLOPE):
        return y
    steps = torch.round(inputs[0].double() / source.scale)
    factor = torch.where(steps >= 0, float(np.rint(256.0 * slope)), float(np.rint(256.0 * below)))
    return (torch.floor((steps * factor + 128.0) / 256.0) * target.scale).to(y.dtype)


def _convert(_node: Node, y: torch.Tensor, inputs: Inputs, source: RangeGroup, target: RangeGroup) -> torch.Tensor:
    """Returns values on another scale, the factor between both rounded to 1/256, as XNNPACK multiplies.

    Source: qs8-vcvt in XNNPACK, and its parameters. Factors outside of what it takes go to another kernel.
    """
    ratio = float(np.float32(source.scale) / np.float32(target.scale))
    if not SMALLEST_SLOPE <= ratio <= LARGEST_SLOPE:
        return y
    steps = torch.round(inputs[0].double() / source.scale)
    return (torch.floor((steps * float(np.rint(256.0 * ratio)) + 128.0) / 256.0) * target.scale).to(y.dtype)


def hard_swish_table(source: RangeGroup, target: RangeGroup) -> NDArray[np.int64]:
    """Returns the INT8 output of HARD_SWISH for every INT8 input, -128 first.

    Source: HardSwish in tensorflow/lite/kernels/internal/reference/hard_swish.h and its preparation in
    tensorflow/lite/kernels/activations.cc: 16-bit fixed point, the gate on a scale of 3/32768.
    """
    hires = np.float32(1.0 / 128.0) * np.float32(source.scale)
    multiplier, exponent = _multiplier16(float(hires / np.float32(target.scale)))
    gate_multiplier, gate_exponent = _multiplier16(float(hires / np.float32(3.0 / 32768.0)))
    value = (np.arange(QMIN, QMAX + 1, dtype=np.int64) - source.zero_point) * 128
    scaled = _high_mul(value, multiplier)
    gate = value
    if gate_exponent > 0:
        gate = _saturate(gate << (gate_exponent - 1))
    gate = _high_mul(gate, gate_multiplier)
    if gate_exponent > 0:
        gate = _saturate(gate << 1)
    elif gate_exponent < 0:
        gate = divide_by_power(gate, -gate_exponent)
    gate = (gate + 2**15) >> 1
    output = divide_by_power(_towards_zero(gate * scaled), -exponent) + target.zero_point
    table: NDArray[np.int64] = np.clip(output, QMIN, QMAX)
    return table


def _multiplier16(real: float) -> tuple[int, int]:
    """Returns a positive factor as a 16-bit mantissa (of 15 bits behind the point) and an exponent of 2."""
    mantissa, exponent = math.frexp(real)
    fixed = round(mantissa * 2**31)
    if fixed == 2**31:
        fixed, exponent = fixed // 2, exponent + 1
    if fixed >= _INT32_MAX - 2**15:
        return _INT16_MAX, exponent
    return (fixed + 2**15) >> 16, exponent


def _saturate(values: NDArray[np.int64]) -> NDArray[np.int64]:
    clipped: NDArray[np.int64] = np.clip(values, -(2**15), _INT16_MAX)
    return clipped


def _high_mul(values: NDArray[np.int64], factor: int) -> NDArray[np.int64]:
    """Returns the rounded upper half of twice the product, gemmlowp's SaturatingRoundingDoublingHighMul for 16 bits."""
    product = values * factor
    nudge = np.where(product >= 0, 2**14, 1 - 2**14)
    return _saturate(_towards_zero(product + nudge))


def _towards_zero(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the values / 2^15 as C++ divides."""
    divided: NDArray[np.int64] = np.sign(values) * (np.abs(values) >> 15)
    return divided


def divide_by_power(values: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    """Returns the values / 2^exponent, ties away from zero, gemmlowp's RoundingDivideByPOT."""
    mask = (1 << exponent) - 1
    remainder = values & mask
    threshold = (mask >> 1) + (values < 0)
    return (values >> exponent) + (remainder > threshold)


def _batch_matmul(
    _node: Node, y: torch.Tensor, _inputs: Inputs, first: RangeGroup, second: RangeGroup, target: RangeGroup
) -> torch.Tensor:
    """Returns the products' sums as XNNPACK scales them where it takes them, else as fixed-point arithmetic does.

    XNNPACK takes those whose second factor has the zero point 0, and rounds once, in float32. The others are left to
    MultiplyByQuantizedMultiplier in tensorflow/lite/kernels/internal/common.cc, as BatchMatMul in
    optimized/integer_ops and reference/batch_matmul.h calls it, which rounds twice.
    """
    product = np.float32(first.scale) * np.float32(second.scale)
    if second.zero_point == 0:
        scale = float(product / np.float32(target.scale))
        steps = torch.round(torch.round(y.double() / (first.scale * second.scale)).float() * scale)
        return (steps.double() * target.scale).to(y.dtype)
    sums = torch.round(y.double() / (first.scale * second.scale)).to(torch.int64)
    return (fixed_point(sums, float(product) / target.scale) * target.scale).to(y.dtype)


def _linear(
    _node: Node, y: torch.Tensor, _inputs: Inputs, first: RangeGroup, second: RangeGroup, target: RangeGroup
) -> torch.Tensor:
    """Returns a linear layer whose weights are computed, which XNNPACK does not take (measured).

    LiteRT's own kernel scales the sums by Ruy's fixed point, whose second rounding takes ties up.
    """
    product = np.float32(first.scale) * np.float32(second.scale)
    sums = torch.round(y.double() / (first.scale * second.scale)).to(torch.int64)
    return (fixed_point(sums, float(product) / target.scale, ties_up=True) * target.scale).to(y.dtype)


def _squared_difference(
    _node: Node, y: torch.Tensor, inputs: Inputs, first: RangeGroup, second: RangeGroup, target: RangeGroup
) -> torch.Tensor:
    """Returns the squares as LiteRT's kernel gives them: of inputs rounded to 1/128 of twice the larger step.

    Source: tensorflow/lite/kernels/squared_difference.cc.
    """
    largest = 2.0 * max(float(np.float32(group.scale)) for group in (first, second))
    one, other = (
        fixed_point(
            torch.round(x.double() / group.scale).to(torch.int64) << SQUARED_BITS,
            float(np.float32(group.scale)) / largest,
        )
        for x, group in zip(inputs, (first, second), strict=True)
    )
    real = largest**2 / (2.0 ** (2 * SQUARED_BITS) * float(np.float32(target.scale)))
    return (fixed_point((one - other) ** 2, real) * target.scale).to(y.dtype)


def fixed_point(values: torch.Tensor, real: float, *, ties_up: bool = False) -> torch.Tensor:
    """Returns integers times a positive factor, rounded twice, ties away from zero or up, as plain kernels do.

    Source: MultiplyByQuantizedMultiplier in tensorflow/lite/kernels/internal/common.cc.
    """
    factor, shift = multiplier32(real)
    doubled = (values << max(shift, 0)) * factor
    if ties_up:
        half = (1 << max(-shift, 0)) >> 1
        return (((doubled + (1 << 30)) >> 31) + half) >> max(-shift, 0)
    nudge = torch.where(doubled >= 0, 1 << 30, 1 - (1 << 30))
    high = torch.div(doubled + nudge, 1 << 31, rounding_mode="trunc")
    right = max(-shift, 0)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0).to(torch.int64)).to(torch.int64)


def multiplier32(real: float) -> tuple[int, int]:
    """Returns a positive factor as a 32-bit mantissa (of 31 bits behind the point) and an exponent of 2."""
    mantissa, exponent = math.frexp(real)
    fixed = round(mantissa * 2**31)
    return (fixed // 2, exponent + 1) if fixed == 2**31 else (fixed, exponent)


def compared(x: torch.Tensor) -> torch.Tensor:
    """Returns values as INT8 comparisons see them: in 256ths, rounded, ties away from zero.

    Source: left_shift and QuantizeMultiplierSmallerThanOneExp in tensorflow/lite/kernels/comparisons.cc.
    """
    return torch.sign(x) * torch.floor(x.abs() * COMPARED_PARTS + 0.5)


#: Those whose kernels differ from real numbers, rounded, in so few values that training need not care.
RARE = frozenset({"ADD", "MUL", "SQUARED_DIFFERENCE"})
#: Operator -> its output on its grid, from the real output, the inputs, and the ranges of inputs and output.
KERNELS: dict[str, Callable[..., torch.Tensor]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _average_pool,
    "BATCH_MATMUL": _batch_matmul,
    "FULLY_CONNECTED": _linear,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "MUL": _mul,
    "QUANTIZE": _convert,
    "RESIZE_BILINEAR": resize_bilinear,
    "SQRT": _square_root,
    "SQUARED_DIFFERENCE": _squared_difference,
}


def ends(node: Node) -> tuple[int, ...]:
    """Returns the tensors of an operator whose grids its kernel goes by: a new size has none, a bias that of a sum."""
    count = {"FULLY_CONNECTED": 2, "RESIZE_BILINEAR": 1}.get(node.op)
    return (*node.inputs[:count], node.outputs[0])


def as_the_kernel(node: Node, y: torch.Tensor, inputs: Inputs, ranges: Sequence[RangeGroup]) -> torch.Tensor:
    """Returns `y` as the integer kernel of an operator gives it; gradients pass as if nothing had been rounded.

    Args:
        node: An operator of KERNELS.
        y: The real output.
        inputs: What it was computed from, on their grids.
        ranges: Of the inputs and the output.
    """
    with torch.no_grad():
        rounded = KERNELS[node.op](node, y.detach(), [x.detach() for x in inputs], *ranges)
    return y + (rounded - y.detach()) if y.requires_grad else rounded
