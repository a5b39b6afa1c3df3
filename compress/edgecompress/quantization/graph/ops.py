"""TFLite operators in torch: the float arithmetic of each, on tensors laid out as TFLite has them (NHWC).

Only the arithmetic is here; `twin.py` puts the fake quantization around it. Semantics follow the operators' reference
kernels (tensorflow/lite/kernels/internal/reference).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.layers import (
    activate,
    average_pool,
    conv,
    depthwise,
    fully_connected,
    max_pool,
    transpose_conv,
)
from edgecompress.quantization.graph.moves import COMPARISONS, MOVES
from edgecompress.training.layout import SAFE_CHANNELS

Tensors = list[torch.Tensor]


def _reduce(function: Callable[..., torch.Tensor]) -> Callable[[Node, Tensors], torch.Tensor]:
    def reduce(node: Node, args: Tensors) -> torch.Tensor:
        axes = [int(axis) for axis in args[1].reshape(-1)]
        return function(args[0], dim=axes, keepdim=bool(node.options.get("keepDims")))

    return reduce


def _binary(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[Node, Tensors], torch.Tensor]:
    return lambda node, args: activate(node, function(args[0], args[1]))


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Node, Tensors], torch.Tensor]:
    return lambda _node, args: function(args[0])


def _pad(node: Node, args: Tensors) -> torch.Tensor:
    sides = [int(side) for pair in reversed(args[1].tolist()) for side in pair]
    value = float(args[2]) if len(args) > 2 else 0.0  # noqa: PLR2004
    del node
    return F.pad(args[0], sides, value=value)


def _reshape(node: Node, args: Tensors) -> torch.Tensor:
    # The flatbuffer's shapes are those of one sample; N samples lie N times along the outermost axis.
    shape = node.output_shapes[0]
    samples = args[0].numel() // max(math.prod(node.input_shapes[0]), 1)
    return args[0].reshape((shape[0] * samples, *shape[1:])) if shape else args[0].reshape(samples)


def _broadcast(node: Node, args: Tensors) -> torch.Tensor:
    """Spreads each sample by itself: a constant's first axis is no batch, and may grow like any other."""
    shape, target = node.input_shapes[0], node.output_shapes[0]
    samples = args[0].numel() // max(math.prod(shape), 1)
    one = args[0].reshape(samples, *[1] * (len(target) - len(shape)), *shape).expand(samples, *target)
    return one.flatten(0, 1) if target else one


def _concatenation(node: Node, args: Tensors) -> torch.Tensor:
    return activate(node, torch.cat(args, dim=int(node.options["axis"])))


def _strided_slice(node: Node, args: Tensors) -> torch.Tensor:
    x, options = args[0], node.options
    begin, end, stride = ([int(v) for v in a.reshape(-1)] for a in args[1:4])
    index: list[Any] = []
    turned: list[int] = []
    for axis, (b, e, s) in enumerate(zip(begin, end, stride, strict=True)):
        size, shrinks = node.input_shapes[0][axis], bool((options.get("shrinkAxisMask") or 0) >> axis & 1)
        if shrinks:
            index.append(b if b >= 0 else b + size)
            continue
        places = range(size)[_bounds(b, e, s, options, axis)]
        if axis == 0 and len(places) == size and s > 0:
            index.append(slice(None))  # the batch axis
        elif s > 0:
            index.append(slice(places.start, places.stop, s))
        else:  # torch has no negative strides: the same places the other way round
            index.append(slice(places[-1], places[0] + 1, -s) if places else slice(0, 0))
            turned.append(axis - sum(isinstance(one, int) for one in index))
    x = x[tuple(index)]
    return torch.flip(x, turned) if turned else x


def _bounds(begin: int, end: int, stride: int, options: Mapping[str, Any], axis: int) -> slice:
    first = None if (options.get("beginMask") or 0) >> axis & 1 else begin
    last = None if (options.get("endMask") or 0) >> axis & 1 else end
    return slice(first, last, stride)


def _slice(node: Node, args: Tensors) -> torch.Tensor:
    begin = [int(v) for v in args[1].reshape(-1)]
    size = [int(v) for v in args[2].reshape(-1)]
    index = [slice(b, None if s < 0 else b + s) for b, s in zip(begin, size, strict=True)]
    if node.input_shapes[0][0] == node.output_shapes[0][0]:
        index[0] = slice(None)
    return args[0][tuple(index)]


def _split(node: Node, args: Tensors) -> tuple[torch.Tensor, ...]:
    axis = int(args[0])
    return torch.chunk(args[1], int(node.options["numSplits"]), dim=axis)


def _split_v(_node: Node, args: Tensors) -> tuple[torch.Tensor, ...]:
    return torch.split(args[0], [int(v) for v in args[1].reshape(-1)], dim=int(args[2]))


def _gather(node: Node, args: Tensors) -> torch.Tensor:
    axis = int(node.options.get("axis") or 0)
    picked = torch.index_select(args[0], axis, args[1].reshape(-1).long())
    tail = args[0].shape[axis + 1 :]
    return picked.reshape(*args[0].shape[:axis], *args[1].shape, *tail)


def _softmax(node: Node, args: Tensors) -> torch.Tensor:
    return torch.softmax(args[0] * float(node.options.get("beta") or 1.0), dim=-1)


def _batch_matmul(node: Node, args: Tensors) -> torch.Tensor:
    a = args[0].transpose(-1, -2) if node.options.get("adjX") else args[0]
    b = args[1].transpose(-1, -2) if node.options.get("adjY") else args[1]
    return torch.matmul(a, b).float()


def _resize_bilinear(node: Node, args: Tensors) -> torch.Tensor:
    aligned = bool(node.options.get("alignCorners"))
    size = [int(v) for v in args[1].reshape(-1)]
    x = F.interpolate(args[0].permute(0, 3, 1, 2), size, mode="bilinear", align_corners=aligned)
    return x.permute(0, 2, 3, 1)


def _resize_nearest(node: Node, args: Tensors) -> torch.Tensor:
    size = [int(v) for v in args[1].reshape(-1)]
    mode = "nearest-exact" if node.options.get("halfPixelCenters") else "nearest"
    return F.interpolate(args[0].permute(0, 3, 1, 2), size, mode=mode).permute(0, 2, 3, 1)


def _hard_swish(x: torch.Tensor) -> torch.Tensor:
    return x * (x + 3.0).clamp(0.0, 6.0) / 6.0


def _gelu(node: Node, args: Tensors) -> torch.Tensor:
    return F.gelu(args[0], approximate="tanh" if node.options.get("approximate") else "none")


#: Operator name -> arithmetic; LiteRT computes what is not here (`foreign.py`).
OPS: dict[str, Callable[[Node, Tensors], torch.Tensor | tuple[torch.Tensor, ...]]] = {
    **MOVES,
    **COMPARISONS,
    "ABS": _unary(torch.abs),
    "ADD": _binary(torch.add),
    "AVERAGE_POOL_2D": average_pool,
    "BATCH_MATMUL": _batch_matmul,
    "BROADCAST_TO": _broadcast,
    "CONCATENATION": _concatenation,
    "CONV_2D": conv,
    "CEIL": _unary(torch.ceil),
    "COS": _unary(torch.cos),
    "DEPTHWISE_CONV_2D": depthwise,
    "DEQUANTIZE": _unary(lambda x: x),
    "DIV": _binary(torch.div),
    "ELU": _unary(F.elu),
    "EMBEDDING_LOOKUP": lambda _node, args: F.embedding(args[0].long(), args[1]),
    "EXP": _unary(torch.exp),
    "EXPAND_DIMS": _reshape,
    "FLOOR": _unary(torch.floor),
    "FLOOR_DIV": lambda _node, args: torch.div(args[0], args[1], rounding_mode="floor"),
    "FLOOR_MOD": lambda _node, args: torch.remainder(args[0], args[1]),
    "FULLY_CONNECTED": fully_connected,
    "GATHER": _gather,
    "GELU": _gelu,
    "HARD_SWISH": _unary(_hard_swish),
    "LEAKY_RELU": lambda node, args: F.leaky_relu(args[0], float(node.options["alpha"])),
    "LOG": _unary(torch.log),
    "LOGISTIC": _unary(torch.sigmoid),
    "LOG_SOFTMAX": lambda _node, args: torch.log_softmax(args[0], dim=-1),
    "MAXIMUM": lambda _node, args: torch.maximum(args[0], args[1]),
    "MAX_POOL_2D": max_pool,
    "MEAN": _reduce(torch.mean),
    "MINIMUM": lambda _node, args: torch.minimum(args[0], args[1]),
    "MUL": _binary(torch.mul),
    "NEG": _unary(torch.neg),
    "PACK": lambda node, args: torch.stack(args, dim=int(node.options["axis"])),
    "PAD": _pad,
    "PADV2": _pad,
    "POW": lambda _node, args: torch.pow(args[0], args[1]),
    "PRELU": lambda _node, args: torch.where(args[0] >= 0, args[0], args[0] * args[1]),
    "QUANTIZE": _unary(lambda x: x),
    "REDUCE_MAX": _reduce(torch.amax),
    "REDUCE_MIN": _reduce(torch.amin),
    "RELU": _unary(torch.relu),
    "RELU6": _unary(lambda x: x.clamp(0.0, 6.0)),
    "RELU_0_TO_1": _unary(lambda x: x.clamp(0.0, 1.0)),
    "RELU_N1_TO_1": _unary(lambda x: x.clamp(-1.0, 1.0)),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "ROUND": _unary(torch.round),
    "RSQRT": _unary(torch.rsqrt),
    "SIGN": _unary(torch.sign),
    "SIN": _unary(torch.sin),
    "SLICE": _slice,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQRT": _unary(torch.sqrt),
    "SQUARE": _unary(torch.square),
    "SQUARED_DIFFERENCE": lambda _node, args: torch.square(args[0] - args[1]),
    "SQUEEZE": _reshape,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _binary(torch.sub),
    "SUM": _reduce(torch.sum),
    "TANH": _unary(torch.tanh),
    "TRANSPOSE": lambda _node, args: args[0].permute(*[int(axis) for axis in args[1].reshape(-1)]),
    "TRANSPOSE_CONV": transpose_conv,
    "UNPACK": lambda node, args: torch.unbind(args[0], dim=int(node.options["axis"])),
}

#: Operators that only move or select values: input and output carry one scale where the kernels need it so.
PASS_THROUGH = frozenset(
    {
        "AVERAGE_POOL_2D",
        "BROADCAST_TO",
        "CONCATENATION",
        "DEPTH_TO_SPACE",
        "DYNAMIC_UPDATE_SLICE",
        "EMBEDDING_LOOKUP",
        "EXPAND_DIMS",
        "GATHER",
        "GATHER_ND",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MINIMUM",
        "MIRROR_PAD",
        "PACK",
        "PAD",
        "PADV2",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "REVERSE_V2",
        "SELECT",
        "SELECT_V2",
        "SLICE",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TILE",
        "TOPK_V2",
        "TRANSPOSE",
        "UNPACK",
    }
)
#: Operators that compare values of two scales, and answer with truth values.
COMPARING = frozenset({"EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"})
#: Operators whose INT8 output scale the kernels fix.
FIXED_OUTPUT = frozenset({"LOGISTIC", "LOG_SOFTMAX", "SOFTMAX", "TANH"})
#: Operators with a weight (input 1) and a bias (input 2) of their own.
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
#: Operators whose arithmetic is here but for some options.
FOREIGN_OPTIONS: dict[str, Callable[[Node], bool]] = {
    "GATHER": lambda node: bool(node.options.get("batchDims")),
    "RESIZE_BILINEAR": lambda node: (
        bool(node.options.get("alignCorners")) == bool(node.options.get("halfPixelCenters"))
    ),
    "RESIZE_NEAREST_NEIGHBOR": lambda node: bool(node.options.get("alignCorners")),
    "STRIDED_SLICE": lambda node: bool(node.options.get("ellipsisMask") or node.options.get("newAxisMask")),
}


def is_native(node: Node) -> bool:
    """Returns whether the arithmetic of a node is here, for its options too."""
    return node.op in OPS and not (node.op in FOREIGN_OPTIONS and FOREIGN_OPTIONS[node.op](node))


def narrow_stride(node: Node) -> tuple[int, ...] | None:
    """Returns channels and strides of a strided 1x1 convolution of few channels; None for other nodes."""
    if node.op != "CONV_2D":
        return None
    filters, height, width, channels = node.input_shapes[1]
    strides = (int(node.options["strideH"]), int(node.options["strideW"]))
    return (channels, filters, *strides) if height == width == 1 < max(strides) and channels < SAFE_CHANNELS else None
