"""TFLite operators in torch: the float arithmetic of each, on tensors laid out as TFLite has them (NHWC).

Only the arithmetic is here; `twin.py` puts the fake quantization around it. Semantics follow the operators' reference
kernels (tensorflow/lite/kernels/internal/reference).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name

from edgecompress.errors import ModelError, VerificationError
from edgecompress.quantization.graph.graph import Node
from edgecompress.training.layout import SAFE_CHANNELS

Tensors = list[torch.Tensor]
#: Fused activation codes of the TFLite schema (ActivationFunctionType).
ACTIVATIONS: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {
    0: lambda x: x,
    1: torch.relu,
    2: lambda x: x.clamp(-1.0, 1.0),
    3: lambda x: x.clamp(0.0, 6.0),
    4: torch.tanh,
}
SAME = 0  # Padding.SAME in the schema; VALID is 1


def activate(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Returns the values after the node's fused activation."""
    return ACTIVATIONS[int(node.options.get("fusedActivationFunction") or 0)](x)


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Returns the zeros before and after, as TensorFlow's SAME places them (the extra one after)."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _pad_same(node: Node, x: torch.Tensor, kernel: tuple[int, int], value: float = 0.0) -> torch.Tensor:
    """Pads an NCHW tensor where the node asks for SAME."""
    if int(node.options["padding"]) != SAME:
        return x
    top, bottom = same_padding(x.shape[2], kernel[0], node.options["strideH"], node.options.get("dilationHFactor", 1))
    left, right = same_padding(x.shape[3], kernel[1], node.options["strideW"], node.options.get("dilationWFactor", 1))
    return F.pad(x, (left, right, top, bottom), value=value) if top or bottom or left or right else x


def symmetric_same(node: Node, x: torch.Tensor, kernel: tuple[int, int]) -> tuple[torch.Tensor, tuple[int, int]]:
    """Gives padding to the convolution itself where it is the same on both sides: no copy of the input."""
    if int(node.options["padding"]) != SAME:
        return x, (0, 0)
    rows = same_padding(x.shape[2], kernel[0], node.options["strideH"], node.options["dilationHFactor"])
    columns = same_padding(x.shape[3], kernel[1], node.options["strideW"], node.options["dilationWFactor"])
    if rows[0] == rows[1] and columns[0] == columns[1]:
        return x, (rows[0], columns[0])
    return _pad_same(node, x, kernel), (0, 0)


def _convolve(
    node: Node, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, groups: int
) -> torch.Tensor:
    stride = (node.options["strideH"], node.options["strideW"])
    dilation = (node.options["dilationHFactor"], node.options["dilationWFactor"])
    x, padding = symmetric_same(node, x.permute(0, 3, 1, 2), (weight.shape[2], weight.shape[3]))
    y = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    y = y.permute(0, 2, 3, 1).float()
    return activate(node, y if bias is None else y + bias)


def _conv(node: Node, args: Tensors) -> torch.Tensor:
    weight = args[1].permute(0, 3, 1, 2)  # OHWI -> OIHW
    groups = args[0].shape[3] // weight.shape[1]
    return _convolve(node, args[0], weight, args[2] if len(args) > 2 else None, groups)  # noqa: PLR2004


def _depthwise(node: Node, args: Tensors) -> torch.Tensor:
    weight = args[1].permute(3, 0, 1, 2)  # 1HWO -> O1HW
    return _convolve(node, args[0], weight, args[2] if len(args) > 2 else None, args[0].shape[3])  # noqa: PLR2004


def _fully_connected(node: Node, args: Tensors) -> torch.Tensor:
    x, weight = args[0], args[1]
    if not node.options.get("keepNumDims"):
        x = x.reshape(-1, weight.shape[1])
    y = F.linear(x, weight).float()
    return activate(node, y + args[2] if len(args) > 2 else y)  # noqa: PLR2004


def _max_pool(node: Node, args: Tensors) -> torch.Tensor:
    kernel = (node.options["filterHeight"], node.options["filterWidth"])
    x = _pad_same(node, args[0].permute(0, 3, 1, 2), kernel, value=-math.inf)
    y = F.max_pool2d(x, kernel, (node.options["strideH"], node.options["strideW"]))
    return activate(node, y.permute(0, 2, 3, 1))


def _average_pool(node: Node, args: Tensors) -> torch.Tensor:
    kernel = (node.options["filterHeight"], node.options["filterWidth"])
    stride = (node.options["strideH"], node.options["strideW"])
    x = args[0].permute(0, 3, 1, 2)
    y = F.avg_pool2d(_pad_same(node, x, kernel), kernel, stride)
    if int(node.options["padding"]) == SAME:  # padded places do not count
        ones = _pad_same(node, torch.ones_like(x[:1, :1]), kernel)
        y = y / F.avg_pool2d(ones, kernel, stride)
    return activate(node, y.permute(0, 2, 3, 1))


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


def _concatenation(node: Node, args: Tensors) -> torch.Tensor:
    return activate(node, torch.cat(args, dim=int(node.options["axis"])))


def _strided_slice(node: Node, args: Tensors) -> torch.Tensor:
    x, options = args[0], node.options
    begin, end, stride = ([int(v) for v in a.reshape(-1)] for a in args[1:4])
    if options.get("ellipsisMask") or options.get("newAxisMask") or any(s <= 0 for s in stride):
        raise ModelError(
            f"{node.op} with ellipsis, new axes or a negative stride cannot be simulated (layer {node.label})"
        )
    index: list[Any] = []
    for axis, (b, e, s) in enumerate(zip(begin, end, stride, strict=True)):
        whole = (
            node.input_shapes[0][axis] == node.output_shapes[0][axis] if axis < len(node.output_shapes[0]) else False
        )
        if axis == 0 and whole and not options.get("shrinkAxisMask"):
            index.append(slice(None))  # the batch axis
        elif (options.get("shrinkAxisMask") or 0) >> axis & 1:
            index.append(b)
        else:
            first = None if (options.get("beginMask") or 0) >> axis & 1 else b
            last = None if (options.get("endMask") or 0) >> axis & 1 else e
            index.append(slice(first, last, s))
    return x[tuple(index)]


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
    aligned, centered = bool(node.options.get("alignCorners")), bool(node.options.get("halfPixelCenters"))
    if aligned == centered:
        raise ModelError(
            f"{node.op} with neither aligned corners nor half pixel centers cannot be simulated (layer {node.label})"
        )
    size = [int(v) for v in args[1].reshape(-1)]
    x = F.interpolate(args[0].permute(0, 3, 1, 2), size, mode="bilinear", align_corners=aligned)
    return x.permute(0, 2, 3, 1)


def _resize_nearest(node: Node, args: Tensors) -> torch.Tensor:
    if node.options.get("alignCorners"):
        raise ModelError(f"{node.op} with aligned corners cannot be simulated (layer {node.label})")
    size = [int(v) for v in args[1].reshape(-1)]
    mode = "nearest-exact" if node.options.get("halfPixelCenters") else "nearest"
    return F.interpolate(args[0].permute(0, 3, 1, 2), size, mode=mode).permute(0, 2, 3, 1)


def _hard_swish(x: torch.Tensor) -> torch.Tensor:
    return x * (x + 3.0).clamp(0.0, 6.0) / 6.0


def _gelu(node: Node, args: Tensors) -> torch.Tensor:
    return F.gelu(args[0], approximate="tanh" if node.options.get("approximate") else "none")


#: Operator name -> arithmetic. What is not here cannot be simulated, and is said so.
OPS: dict[str, Callable[[Node, Tensors], torch.Tensor | tuple[torch.Tensor, ...]]] = {
    "ABS": _unary(torch.abs),
    "ADD": _binary(torch.add),
    "AVERAGE_POOL_2D": _average_pool,
    "BATCH_MATMUL": _batch_matmul,
    "BROADCAST_TO": lambda node, args: args[0].expand(args[0].shape[0], *node.output_shapes[0][1:]),
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv,
    "COS": _unary(torch.cos),
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _unary(lambda x: x),
    "DIV": _binary(torch.div),
    "ELU": _unary(F.elu),
    "EMBEDDING_LOOKUP": lambda _node, args: F.embedding(args[0].long(), args[1]),
    "EXP": _unary(torch.exp),
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GELU": _gelu,
    "HARD_SWISH": _unary(_hard_swish),
    "LEAKY_RELU": lambda node, args: F.leaky_relu(args[0], float(node.options["alpha"])),
    "LOG": _unary(torch.log),
    "LOGISTIC": _unary(torch.sigmoid),
    "LOG_SOFTMAX": lambda _node, args: torch.log_softmax(args[0], dim=-1),
    "MAXIMUM": lambda _node, args: torch.maximum(args[0], args[1]),
    "MAX_POOL_2D": _max_pool,
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
    "RELU_N1_TO_1": _unary(lambda x: x.clamp(-1.0, 1.0)),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "RSQRT": _unary(torch.rsqrt),
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
    "UNPACK": lambda node, args: torch.unbind(args[0], dim=int(node.options["axis"])),
}

#: Operators that only move or select values: input and output carry one scale where the kernels need it so.
PASS_THROUGH = frozenset(
    {
        "AVERAGE_POOL_2D",
        "BROADCAST_TO",
        "CONCATENATION",
        "EMBEDDING_LOOKUP",
        "EXPAND_DIMS",
        "GATHER",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MINIMUM",
        "PACK",
        "PAD",
        "PADV2",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SLICE",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
        "UNPACK",
    }
)
#: Operators whose INT8 output scale the kernels fix.
FIXED_OUTPUT = frozenset({"LOGISTIC", "LOG_SOFTMAX", "SOFTMAX", "TANH"})
#: Operators with a weight (input 1) and a bias (input 2) of their own.
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})


def require_known(nodes: Iterable[Node]) -> None:
    """Raises for operators without arithmetic here.

    Raises:
        VerificationError: There are some; all are named.
    """
    unknown = sorted({f"{node.op} (layer {node.label})" for node in nodes if node.op not in OPS})
    if unknown:
        raise VerificationError(
            "the INT8 graph holds operators that cannot be simulated, so nothing would vouch for the flatbuffer: "
            f"{', '.join(unknown)}. Build these layers from convolutions, linear layers, sums, products, pools and "
            "common activations, or leave the quantize block out."
        )


def narrow_stride(node: Node) -> tuple[int, ...] | None:
    """Returns channels and strides of a strided 1x1 convolution of few channels; None for other nodes."""
    if node.op != "CONV_2D":
        return None
    filters, height, width, channels = node.input_shapes[1]
    strides = (int(node.options["strideH"]), int(node.options["strideW"]))
    return (channels, filters, *strides) if height == width == 1 < max(strides) and channels < SAFE_CHANNELS else None
