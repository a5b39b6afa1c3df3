"""Operators with weights, on maps, and those that only move values."""

# ruff: noqa: E501, PLW0108 - a case is a line, with functions of one shape

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.runtimes import operator_arithmetic as exact
from benchmarks.runtimes.operator_cases import RELU6, SAME, SHAPE, VALID, bias, clipped, free, i32, q8, weights
from benchmarks.runtimes.operator_files import Case

INPUTS = ((0.05, 3), (0.02, -128), (0.11, -40))


def weighted(shape: Sequence[int] = SHAPE) -> Iterator[Case]:
    """Gives convolutions and products of matrices."""
    n, h, w, c = shape
    for (scale, zero), kernel, stride, dilation, same, fit in itertools.product(
        INPUTS, (1, 3, 5), (1, 2), (1, 2), (True, False), (1.0, 0.5)
    ):
        if (dilation > 1 and (stride > 1 or kernel == 1)) or (kernel == 5 and fit != 1.0):
            continue
        reach = (kernel - 1) * dilation + 1
        size = tuple(-(-side // stride) if same else (side - reach) // stride + 1 for side in (h, w))
        if min(size) < 1:
            continue
        options = {"padding": SAME if same else VALID, "strideH": stride, "strideW": stride,
                   "dilationHFactor": dilation, "dilationWFactor": dilation}  # fmt: skip
        how = (f"{kernel}x{kernel}, stride {stride}, dilation {dilation}, {'SAME' if same else 'VALID'}, "
               f"scale {scale:g}, zero point {zero}{', saturates' if fit < 1 else ''}")  # fmt: skip
        x, more = q8(shape, scale, zero), {"stride": stride, "dilation": dilation, "same": same}
        table = weights((24, kernel, kernel, c), 0)
        yield Case("CONV_2D", how, (x, table, bias(table, scale, 24)), (free((n, *size, 24), fit),),
                   lambda *a, more=more: exact.convolution(*a, **more), options, "Conv2DOptions")  # fmt: skip
        for multiplier in (1, 2):
            if multiplier > 1 and kernel != 3:
                continue
            table = weights((1, kernel, kernel, c * multiplier), 3)
            yield Case("DEPTHWISE_CONV_2D", f"multiplier {multiplier}, {how}", (x, table, bias(table, scale, c * multiplier)),
                       (free((n, *size, c * multiplier), fit),), lambda *a, more=more: exact.depthwise(*a, **more),
                       {**options, "depthMultiplier": multiplier}, "DepthwiseConv2DOptions")  # fmt: skip
    plain = {"stride": 1, "dilation": 1, "same": True}
    options = {"padding": SAME, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    table = weights((24, 3, 3, c // 2), 0)
    yield Case("CONV_2D", "two groups", (q8(shape), table, bias(table, 0.05, 24)), (free((n, h, w, 24)),),
               lambda *a: exact.convolution(*a, **plain), options, "Conv2DOptions")  # fmt: skip
    table = weights((24, 3, 3, c), 0)
    yield Case("CONV_2D", "fused RELU6", (q8(shape), table, bias(table, 0.05, 24)), (free((n, h, w, 24)),),
               lambda *a: clipped(RELU6)(exact.convolution(*a, **plain)),
               {**options, "fusedActivationFunction": RELU6}, "Conv2DOptions")  # fmt: skip
    yield from transposed(shape)
    yield from matrices()


def transposed(shape: Sequence[int]) -> Iterator[Case]:
    """Gives transposed convolutions."""
    n, h, w, c = shape
    for (scale, zero), kernel, stride, same, biased in itertools.product(
        INPUTS, (2, 3, 4), (1, 2), (True, False), (True, False)
    ):
        size = tuple(side * stride if same else (side - 1) * stride + kernel for side in (h, w))
        table = weights((12, kernel, kernel, c), 0)
        extra = (bias(table, scale, 12),) if biased else ()
        yield Case(
            "TRANSPOSE_CONV", f"{kernel}x{kernel}, stride {stride}, {'SAME' if same else 'VALID'}, scale {scale:g}, "
            f"zero point {zero}{'' if biased else ', no bias'}",
            (i32((n, *size, 12)), table, q8(shape, scale, zero), *extra), (free((n, *size, 12)),),
            lambda *a, same=same, stride=stride: exact.transposed_convolution(*a, stride=stride, same=same),
            {"padding": SAME if same else VALID, "strideH": stride, "strideW": stride}, "TransposeConvOptions",
        )  # fmt: skip


def matrices() -> Iterator[Case]:
    """Gives products of matrices."""
    for (scale, zero), width, channels, biased in itertools.product(
        INPUTS, (7, 64, 1500), (True, False), (True, False)
    ):
        table = weights((10, width), 0, channels=channels)
        extra = (bias(table, scale, 10),) if biased else (None,)
        yield Case(
            "FULLY_CONNECTED", f"{width} to 10, {'a scale a channel' if channels else 'one scale'}, scale {scale:g}, "
            f"zero point {zero}{'' if biased else ', no bias'}", (q8((4, width), scale, zero), table, *extra),
            (free((4, 10)),), lambda x, w, b=0.0: x @ w.T + b, {},
        )  # fmt: skip
    for (scale, zero), width, turned in itertools.product(INPUTS, (5, 64, 700), (False, True)):
        other = (2, 12, width) if turned else (2, width, 12)
        yield Case(
            "BATCH_MATMUL", f"depth {width}, {'second turned, ' if turned else ''}scale {scale:g}, zero point {zero}",
            (q8((2, 9, width), scale, zero), q8(other, 0.03, 9)), (free((2, 9, 12)),),
            lambda x, y, turned=turned: x @ (y.transpose(0, 2, 1) if turned else y), {"adjY": turned},
            "BatchMatMulOptions",
        )  # fmt: skip


def pools(shape: Sequence[int] = SHAPE) -> Iterator[Case]:
    """Gives pools and resizing."""
    n, h, w, c = shape
    for op, (scale, zero), kernel, stride, same in itertools.product(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D"), INPUTS, (2, 3, 7), (1, 2), (True, False)
    ):
        size = tuple(-(-side // stride) if same else (side - kernel) // stride + 1 for side in (h, w))
        if min(size) < 1:
            continue
        yield Case(
            op, f"{kernel}x{kernel}, stride {stride}, {'SAME' if same else 'VALID'}, scale {scale:g}, zero point {zero}",
            (q8(shape, scale, zero),), (q8((n, *size, c), scale, zero),),
            lambda x, k=kernel, s=stride, same=same, op=op: exact.pool(
                x, kernel=k, stride=s, same=same, largest=op.startswith("MAX")
            ),
            {"padding": SAME if same else VALID, "strideH": stride, "strideW": stride, "filterHeight": kernel,
             "filterWidth": kernel}, "Pool2DOptions",
        )  # fmt: skip
    for nearest, (aligned, half), size in itertools.product(
        (False, True),
        ((False, False), (True, False), (False, True)),
        ((2 * h, 2 * w), (h + 3, w + 5), (h // 2, w // 2), (1, 1)),
    ):
        op = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
        yield Case(
            op, f"to {size[0]}x{size[1]}{', aligned' if aligned else ', half pixels' if half else ''}",
            (q8(shape), i32(size)), (q8((n, *size, c)),),
            lambda x, s, a=aligned, b=half, near=nearest: exact.resize(x, s, aligned=a, half=b, nearest=near),
            {"alignCorners": aligned, "halfPixelCenters": half},
            "ResizeNearestNeighborOptions" if nearest else "ResizeBilinearOptions",
        )  # fmt: skip


def moving(shape: Sequence[int] = SHAPE) -> Iterator[Case]:
    """Gives operators that only move values: one grid; then with two, which no specification allows."""
    for op, variant, more, out, function, options, table in _moves(shape):
        inputs = more if op in ("CONCATENATION", "PACK", "EMBEDDING_LOOKUP", "SCATTER_ND") else (q8(shape), *more)
        outs = out if isinstance(out, list) else [out]
        yield Case(op, variant, inputs, tuple(q8(one) for one in outs), function, options, table)
        yield Case(op, f"{variant}, output on another grid", inputs, tuple(q8(one, 0.1, -9) for one in outs), function,
                   options, table, allowed=False)  # fmt: skip
    c = shape[3]
    yield Case("SCATTER_ND", "rows, zero point 0", (i32([[1], [3]]), q8((2, c), zero=0), i32((4, c))),
               (q8((4, c), zero=0),), exact.scattered)  # fmt: skip
    other = (q8(shape), q8(shape, 0.1, -9))
    yield Case("CONCATENATION", "two grids", other, (q8((*shape[:3], 2 * shape[3]), 0.1, 0),),
               lambda *a: np.concatenate(a, 3), {"axis": 3}, allowed=False)  # fmt: skip
    yield Case("MAX_POOL_2D", "output on another grid", other[:1], (q8((shape[0], shape[1] // 2, shape[2] // 2, shape[3]), 0.1, -9),),
               lambda x: exact.pool(x, kernel=2, stride=2, same=False, largest=True),
               {"padding": VALID, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}, "Pool2DOptions",
               allowed=False)  # fmt: skip
    yield Case("AVERAGE_POOL_2D", "output on another grid", other[:1], (q8((shape[0], shape[1] // 2, shape[2] // 2, shape[3]), 0.1, -9),),
               lambda x: exact.pool(x, kernel=2, stride=2, same=False, largest=False),
               {"padding": VALID, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}, "Pool2DOptions",
               allowed=False)  # fmt: skip
    for op, function in (("REDUCE_MAX", np.max), ("REDUCE_MIN", np.min)):
        yield Case(op, "output on another grid", (q8(shape), i32((1, 2))), (q8((shape[0], shape[3]), 0.1, -9),),
                   lambda x, _axes, f=function: f(x, (1, 2)), {}, "ReducerOptions", allowed=False)  # fmt: skip


Move = tuple[str, str, tuple[Any, ...], Any, Callable[..., Any], dict[str, Any], str]


def _moves(shape: Sequence[int]) -> Iterator[Move]:
    n, h, w, c = shape
    whole, twice = tuple(shape), (q8(shape), q8(shape))
    pads = [[0, 0], [1, 2], [2, 1], [0, 0]]
    padded = (n, h + 3, w + 3, c)
    yield "CONCATENATION", "channels", twice, (n, h, w, 2 * c), lambda *a: np.concatenate(a, 3), {"axis": 3}, ""
    yield "CONCATENATION", "rows", twice, (n, 2 * h, w, c), lambda *a: np.concatenate(a, 1), {"axis": 1}, ""
    yield "PACK", "two", twice, (2, *whole), lambda *a: np.stack(a), {"valuesCount": 2, "axis": 0}, ""
    yield "UNPACK", "rows", (), [(n, w, c)] * h, lambda x: tuple(x[:, k] for k in range(h)), {"num": h, "axis": 1}, ""
    yield "RESHAPE", "flat", (i32((n, h * w * c)),), (n, h * w * c), lambda x, _s: x, {}, ""
    yield "EXPAND_DIMS", "first", (i32(0),), (1, *whole), lambda x, _a: x, {}, ""
    yield "SQUEEZE", "first", (), whole[1:], lambda x: x, {"squeezeDims": [0]}, ""
    yield "TRANSPOSE", "channels first", (i32((0, 3, 1, 2)),), (n, c, h, w), lambda x, p: x.transpose(p), {}, ""
    yield "REVERSE_V2", "rows", (i32([1]),), whole, lambda x, _a: x[:, ::-1], {}, "ReverseV2Options"
    yield "REVERSE_V2", "channels", (i32([3]),), whole, lambda x, _a: x[..., ::-1], {}, "ReverseV2Options"
    yield "REVERSE_SEQUENCE", "columns", (i32([w // 2]),), whole, (
        lambda x, k: np.concatenate([x[:, :, : k[0]][:, :, ::-1], x[:, :, k[0] :]], 2)
    ), {"seqDim": 2, "batchDim": 0}, ""  # fmt: skip
    yield "TILE", "rows", (i32((1, 2, 1, 1)),), (n, 2 * h, w, c), lambda x, r: np.tile(x, r), {}, ""
    yield "TILE", "all", (i32((1, 2, 3, 2)),), (n, 2 * h, 3 * w, 2 * c), lambda x, r: np.tile(x, r), {}, ""
    yield "BROADCAST_TO", "samples", (i32((3, h, w, c)),), (3, h, w, c), np.broadcast_to, {}, ""
    yield (
        "DEPTH_TO_SPACE",
        "2",
        (),
        (n, 2 * h, 2 * w, c // 4),
        lambda x: exact.depth_to_space(x, 2),
        {"blockSize": 2},
        "",
    )
    yield (
        "SPACE_TO_DEPTH",
        "2",
        (),
        (n, h // 2, w // 2, c * 4),
        lambda x: exact.space_to_depth(x, 2),
        {"blockSize": 2},
        "",
    )
    none = i32([[0, 0], [0, 0]])
    yield "SPACE_TO_BATCH_ND", "2x2", (i32((2, 2)), none), (4 * n, h // 2, w // 2, c), (
        lambda x, _b, _p: exact.space_to_batch(x, 2)
    ), {}, "SpaceToBatchNDOptions"  # fmt: skip
    yield "PAD", "maps", (i32(pads),), padded, lambda x, p: np.pad(x, p), {}, ""
    value = q8((1,), values=np.array([77], np.int8))
    yield "PADV2", "maps", (i32(pads), value), padded, (
        lambda x, p, v: np.pad(x, p, constant_values=float(v[0]))
    ), {}, "PadV2Options"  # fmt: skip
    for mode, name in ((0, "reflect"), (1, "symmetric")):
        yield "MIRROR_PAD", name, (i32(pads),), padded, lambda x, p, name=name: np.pad(x, p, name), {"mode": mode}, ""
    yield "SLICE", "a part", (i32((0, 1, 2, 3)), i32((1, 4, 5, 6))), (1, 4, 5, 6), (
        lambda x, a, s: x[tuple(slice(i, i + k) for i, k in zip(a, s, strict=True))]
    ), {}, ""  # fmt: skip
    rows = len(range(1, h, 2))
    yield "STRIDED_SLICE", "every second", (i32((0, 1, 0, 0)), i32(whole), i32((1, 2, 1, 1))), (n, rows, w, c), (
        lambda x, *_a: x[:, 1::2]
    ), {}, ""  # fmt: skip
    yield "STRIDED_SLICE", "backwards", (i32((0, -1, 0, 0)), i32((n, -h - 1, w, c)), i32((1, -1, 1, 1))), whole, (
        lambda x, *_a: x[:, ::-1]
    ), {}, ""  # fmt: skip
    half = (n, h, w, c // 2)
    yield "SPLIT_V", "channels", (i32((c // 2, c // 2)), i32(3)), [half] * 2, (
        lambda x, *_a: (x[..., : c // 2], x[..., c // 2 :])
    ), {"numSplits": 2}, "SplitVOptions"  # fmt: skip
    yield "GATHER", "channels", (i32((3, 0, 3)),), (n, h, w, 3), lambda x, i: np.take(x, i, 3), {"axis": 3}, ""
    yield "GATHER_ND", "rows", (i32([[0, 1], [0, 3]]),), (2, w, c), lambda x, i: x[i[:, 0], i[:, 1]], {}, ""
    yield "EMBEDDING_LOOKUP", "rows", (i32((2, 0, 5)), q8((8, c), values=np.arange(8 * c).reshape(8, c).astype(np.int8))), (
        3, c), lambda i, t: t[i], {}, ""  # fmt: skip
    yield (
        "SCATTER_ND",
        "rows, zero point 3",
        (i32([[1], [3]]), q8((2, c)), i32((4, c))),
        (4, c),
        exact.scattered,
        {},
        "",
    )
    yield "DYNAMIC_UPDATE_SLICE", "rows", (q8((n, 2, w, c)), i32((0, 1, 0, 0))), whole, exact.updated, {}, ""


def split(shape: Sequence[int] = SHAPE) -> Iterator[Case]:
    """Gives SPLIT, whose axis comes first, and BATCH_TO_SPACE_ND, which needs samples."""
    n, h, w, c = shape
    yield Case("SPLIT", "channels", (i32(3), q8(shape)), (q8((n, h, w, c // 2)),) * 2,
               lambda _a, x: (x[..., : c // 2], x[..., c // 2 :]), {"numSplits": 2})  # fmt: skip
    yield Case("BATCH_TO_SPACE_ND", "2x2", (q8((4, h, w, c)), i32((2, 2)), i32([[0, 0], [0, 0]])),
               (q8((1, 2 * h, 2 * w, c)),), lambda x, *_a: exact.batch_to_space(x, 2), {},
               "BatchToSpaceNDOptions")  # fmt: skip
