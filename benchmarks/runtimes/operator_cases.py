"""The operators of TFLite that may have an INT8 kernel, each on some shapes, scales and zero points.

Left out: recurrent cells, SVDF and control flow, which are no single function of their inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.runtimes import operator_arithmetic as exact
from benchmarks.runtimes.operator_files import Case, Spec

RNG = np.random.default_rng(0)
SHAPE = (1, 8, 8, 16)
#: Scales and zero points of inputs.
GRIDS = ((0.05, 3), (0.1, -20), (0.02, -128), (0.3, 11))
#: The step of fitted outputs: just covering, saturating, coarse.
FITS = {"fits": 1.0, "saturates": 0.5, "coarse": 3.0}
#: Operators whose kernels demand one grid for their output.
FIXED = {
    "L2_NORMALIZATION": (1 / 128, 0), "LOGISTIC": (1 / 256, -128), "LOG_SOFTMAX": (16 / 256, 127),
    "SOFTMAX": (1 / 256, -128), "TANH": (1 / 128, 0),
}  # fmt: skip
#: Not all real numbers have a logarithm or a root.
POSITIVE = {"LOG", "RSQRT", "SQRT"}
SAME, VALID = 0, 1
RELU, RELU6 = 1, 3


def q8(shape: Sequence[int], scale: float = 0.05, zero: int = 3, **more: Any) -> Spec:
    """Returns an INT8 tensor."""
    return Spec(tuple(shape), scale=(scale,), zero=zero, **more)


def free(shape: Sequence[int], fits: float = 1.0) -> Spec:
    """Returns an INT8 output whose grid is fitted to what is computed."""
    return Spec(tuple(shape), scale=None, fits=fits)


def i32(values: Any) -> Spec:
    """Returns an INT32 constant."""
    array = np.array(values, np.int32)
    return Spec(array.shape, "int32", values=array)


def weights(shape: Sequence[int], axis: int, scale: float = 0.01, *, channels: bool = True) -> Spec:
    """Returns symmetric weights with a scale for each channel, or one."""
    count = shape[axis] if channels else 1
    scales = scale * RNG.uniform(0.3, 1.5, count)
    return Spec(tuple(shape), scale=tuple(scales), values=RNG.integers(-127, 128, shape).astype(np.int8), axis=axis)


def bias(w: Spec, scale: float, count: int) -> Spec:
    """Returns a bias on the scale that its weights and the input give it."""
    assert w.scale
    both = np.asarray(w.scale, np.float32) * np.float32(scale)
    values = RNG.integers(-3000, 3000, count).astype(np.int32)
    return Spec((count,), "int32", scale=tuple(both.tolist()), values=values)


def clipped(activation: int) -> Any:
    """Returns a fused activation."""
    limits = {0: (-np.inf, np.inf), RELU: (0, np.inf), RELU6: (0, 6)}[activation]
    return lambda y: np.clip(y, *limits)


def unary(shape: Sequence[int] = SHAPE, grids: Sequence[tuple[float, int]] = GRIDS) -> Iterator[Case]:
    """Gives the operators with one input and no parameters but an option."""
    options: dict[str, dict[str, Any]] = {
        "GELU": {"approximate": False}, "LEAKY_RELU": {"alpha": 0.1}, "SOFTMAX": {"beta": 1.0},
        "LOCAL_RESPONSE_NORMALIZATION": {"radius": 2, "bias": 1.0, "alpha": 0.1, "beta": 0.7},
    }  # fmt: skip
    tables = {"L2_NORMALIZATION": "L2NormOptions"}
    for op, function in exact.UNARY.items():
        for (scale, zero), (fit, factor) in itertools.product(grids, FITS.items()):
            if op == "EXP" and scale > 0.1:
                continue  # e^38: not one step that is not saturated or zero
            start = -128 if op in POSITIVE else zero
            source = q8(shape, scale, start, low=-127 if op in POSITIVE else -128)
            target = q8(shape, *FIXED[op]) if op in FIXED else free(shape, factor)
            variant = f"scale {scale:g}, zero point {start}, output {fit}"
            if op in FIXED:
                if fit != "fits":
                    continue
                variant = f"scale {scale:g}, zero point {start}"
            elif fit == "fits":
                yield Case(op, f"scale {scale:g}, zero point {start}, one grid", (source,), (q8(shape, scale, start),),
                           function, options.get(op, {}), tables.get(op, ""))  # fmt: skip
                if op == "NEG":
                    yield Case(op, f"scale {scale:g}, zero point {start}, mirrored grid", (replace(source, low=-127),),
                               (q8(shape, scale, -start if start > -128 else 127),), function)  # fmt: skip
            yield Case(op, variant, (source,), (target,), function, options.get(op, {}), tables.get(op, ""))


def more_unary() -> Iterator[Case]:
    """Gives options that the others do not have."""
    tanh = np.sqrt(2 / np.pi)
    for scale, zero in GRIDS:
        source, variant = q8(SHAPE, scale, zero), f"scale {scale:g}, zero point {zero}"
        yield Case("GELU", f"tanh, {variant}", (source,), (free(SHAPE),),
                   lambda x: 0.5 * x * (1 + np.tanh(tanh * (x + 0.044715 * x**3))), {"approximate": True})  # fmt: skip
        for alpha in (0.01, 0.3, 1.5):
            yield Case("LEAKY_RELU", f"alpha {alpha:g}, {variant}", (source,), (free(SHAPE),),
                       lambda x, alpha=alpha: np.where(x > 0, x, x * alpha), {"alpha": alpha})  # fmt: skip
        for ratio in (0.004, 0.5, 1.0, 1.7, 100.0):
            yield Case("QUANTIZE", f"ratio {ratio:g}, {variant}", (source,),
                       (q8(SHAPE, scale * ratio, 7),), lambda x: x, {})  # fmt: skip
        yield Case("DEQUANTIZE", variant, (source,), (Spec(SHAPE, "float32"),), lambda x: x, {})
    for width in (2, 10, 1000):
        yield Case("SOFTMAX", f"{width} values", (q8((2, width), 0.1, 5),), (q8((2, width), *FIXED["SOFTMAX"]),),
                   exact.UNARY["SOFTMAX"], {"beta": 1.0})  # fmt: skip
        yield Case("LOG_SOFTMAX", f"{width} values", (q8((2, width), 0.1, 5),),
                   (q8((2, width), *FIXED["LOG_SOFTMAX"]),), exact.UNARY["LOG_SOFTMAX"])  # fmt: skip


def binary(shape: Sequence[int] = SHAPE) -> Iterator[Case]:
    """Gives the operators with two inputs: two grids, broadcasting, a constant, fused activations."""
    positive = {"DIV", "FLOOR_DIV", "FLOOR_MOD", "POW"}
    one_grid = {"MAXIMUM", "MINIMUM"}
    channels = shape[-1]
    others = {"alike": tuple(shape), "channels": (channels,), "scalar": (1, 1, 1, 1), "row": (1, 1, shape[2], channels)}
    for op, function in exact.BINARY.items():
        for (how, other), (name, second, fit) in itertools.product(
            others.items(),
            (
                ("two scales", (0.04, -5), 1.0),
                ("far apart", (0.002, 40), 1.0),
                ("saturates", (0.04, -5), 0.4),
                ("coarse", (0.04, -5), 3.0),
            ),
        ):
            if op == "PRELU" and how == "alike":
                continue
            first = q8(shape, 0.05, -128, low=-120) if op == "POW" else q8(shape)
            grid = (second[0], -128) if op in positive else second
            two = q8(other, *grid, low=-100 if op in positive else -128)
            for constant in (False, True):
                if constant and (how == "alike" or name != "two scales"):
                    continue
                held = (
                    replace(two, values=np.resize(np.array([55, -7, 100, -90, 20], np.int8), other))
                    if constant
                    else two
                )
                variant = f"{name}, {how}{', constant' if constant else ''}"
                if op in one_grid:
                    if name != "two scales":
                        continue
                    pair = (first, replace(held, scale=first.scale, zero=first.zero))
                    yield Case(op, f"one grid, {how}{', constant' if constant else ''}", pair,
                               (q8(shape),), function, {}, "MaximumMinimumOptions")  # fmt: skip
                    yield Case(op, variant, (first, held), (q8(shape),), function, {}, "MaximumMinimumOptions",
                               allowed=False)  # fmt: skip
                    continue
                yield Case(op, variant, (first, held), (free(shape, fit),), function)
    yield from fused(shape)
    yield from comparing(shape)
    yield from selecting(shape)


def fused(shape: Sequence[int]) -> Iterator[Case]:
    """Gives arithmetic with fused activations."""
    for op, function in exact.BINARY.items():
        if op in ("ADD", "SUB", "MUL", "DIV"):
            grid = (0.04, -128) if op == "DIV" else (0.04, -5)
            two = q8(shape, *grid, low=-100 if op == "DIV" else -128)
            for activation in (RELU, RELU6):
                yield Case(op, f"fused {'RELU' if activation == RELU else 'RELU6'}", (q8(shape), two), (free(shape),),
                           lambda x, y, f=function, a=activation: clipped(a)(f(x, y)),
                           {"fusedActivationFunction": activation})  # fmt: skip


def comparing(shape: Sequence[int]) -> Iterator[Case]:
    """Gives comparisons."""
    others = {
        "alike": tuple(shape),
        "channels": (shape[-1],),
        "scalar": (1, 1, 1, 1),
        "row": (1, 1, shape[2], shape[-1]),
    }
    for op, compare in exact.COMPARING.items():
        for (how, other), (name, second) in itertools.product(
            others.items(), (("one grid", (0.05, 3)), ("two scales", (0.04, -5)), ("far apart", (0.002, 40)))
        ):
            yield Case(op, f"{name}, {how}", (q8(shape), q8(other, *second)), (Spec(tuple(shape), "bool"),), compare)


def selecting(shape: Sequence[int]) -> Iterator[Case]:
    """Gives what picks or adds up tensors of one grid."""
    for op in ("SELECT", "SELECT_V2"):
        pick = (Spec(tuple(shape), "bool"), q8(shape), q8(shape))
        yield Case(op, "one grid", pick, (q8(shape),), np.where)
        yield Case(op, "two scales", (*pick[:2], q8(shape, 0.1, 0)), (q8(shape),), np.where, allowed=False)
    for zero in (0, 3):
        three = tuple(q8(shape, zero=zero, low=n) for n in (-128, -127, -126))  # not the same integers
        yield Case("ADD_N", f"one grid, zero point {zero}", three, (q8(shape, zero=zero),), lambda x, y, z: x + y + z)
        yield Case("ADD_N", f"fits, zero point {zero}", three, (free(shape),), lambda x, y, z: x + y + z)


def reducing(shape: Sequence[int] = SHAPE) -> Iterator[Case]:
    """Gives sums and their like over axes."""
    for op, function in exact.REDUCING.items():
        for axes, (scale, zero), (fit, factor) in itertools.product(
            ((1, 2), (3,), (1,), (2, 3), (1, 2, 3)), GRIDS, FITS.items()
        ):
            for keep in (False, True):
                kept = tuple(1 if n in axes else side for n, side in enumerate(shape))
                out = kept if keep else tuple(side for n, side in enumerate(shape) if n not in axes)
                same = op in ("REDUCE_MAX", "REDUCE_MIN")
                if (same and fit != "fits") or (keep and (fit != "fits" or axes != (1, 2))):
                    continue
                # A product of many numbers has no use: those of a few near 1.
                source = q8(shape, scale, zero)
                target = q8(out, scale, zero) if same else free(out, factor)
                if op == "REDUCE_PROD":
                    if axes != (3,):
                        continue
                    source = replace(q8((*shape[:3], 3), scale, zero))
                yield Case(
                    op, f"axes {axes}, scale {scale:g}, zero point {zero}{'' if same else ', output ' + fit}"
                    f"{', kept' if keep else ''}", (source, i32(axes)), (target,),
                    lambda x, a, f=function: f(x, axis=tuple(a.tolist())), {"keepDims": keep}, "ReducerOptions",
                )  # fmt: skip
        big = (1, 56, 56, 8)
        if op != "REDUCE_PROD":
            target = q8((1, 8)) if op.startswith("REDUCE") else free((1, 8))
            yield Case(op, "56x56", (q8(big), i32((1, 2))), (target,),
                       lambda x, a, f=function: f(x, axis=tuple(a.tolist())), {}, "ReducerOptions")  # fmt: skip
    for options in ({}, {"exclusive": True}, {"reverse": True}, {"exclusive": True, "reverse": True}):
        yield Case("CUMSUM", " ".join(options) or "plain", (q8(shape), i32(1)), (free(shape),),
                   lambda x, _axis, o=options: exact.cumulated(x, **o), options)  # fmt: skip
    for op, find in (("ARG_MAX", np.argmax), ("ARG_MIN", np.argmin)):
        yield Case(op, "channels", (q8(shape), i32(3)), (Spec(tuple(shape[:3]), "int32"),),
                   lambda x, a, find=find: find(x, int(a)).astype(np.int32),
                   {"outputType": 2})  # fmt: skip
    places = Spec((*shape[:3], 3), "int32")
    yield Case("TOPK_V2", "of the channels", (q8(shape), i32(3)), (q8((*shape[:3], 3)), places),
               lambda x, k: exact.largest(x, int(k)))  # fmt: skip
