"""Convolutions, linear layers and pools in torch, on tensors laid out as TFLite has them (NHWC).

Semantics follow the operators' reference kernels (tensorflow/lite/kernels/internal/reference).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name

from edgecompress.quantization.graph.graph import Node

Tensors = list[torch.Tensor]
#: Fused activation codes of the TFLite schema (ActivationFunctionType).
ACTIVATIONS: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {
    0: lambda x: x,
    1: torch.relu,
    2: lambda x: x.clamp(-1.0, 1.0),
    3: lambda x: x.clamp(0.0, 6.0),
    4: torch.tanh,
}
#: What those that only cut off leave, as the same codes.
LIMITS = {0: (-math.inf, math.inf), 1: (0.0, math.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
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


def conv(node: Node, args: Tensors) -> torch.Tensor:
    """Returns a convolution's output; weights lie as OHWI."""
    weight = args[1].permute(0, 3, 1, 2)  # OHWI -> OIHW
    groups = args[0].shape[3] // weight.shape[1]
    return _convolve(node, args[0], weight, args[2] if len(args) > 2 else None, groups)  # noqa: PLR2004


def depthwise(node: Node, args: Tensors) -> torch.Tensor:
    """Returns a depthwise convolution's output; weights lie as 1HWO."""
    weight = args[1].permute(3, 0, 1, 2)  # 1HWO -> O1HW
    return _convolve(node, args[0], weight, args[2] if len(args) > 2 else None, args[0].shape[3])  # noqa: PLR2004


def transpose_conv(node: Node, args: Tensors) -> torch.Tensor:
    """Returns a transposed convolution's output; inputs as `operands` orders them, weights lie as OHWI.

    Padding takes off the output what SAME would add to the input of a convolution of that size.
    """
    x, weight = args[0].permute(0, 3, 1, 2), args[1].permute(3, 0, 1, 2)  # OHWI -> IOHW
    stride = (int(node.options["strideH"]), int(node.options["strideW"]))
    height, width = node.output_shapes[0][1:3]
    y = F.conv_transpose2d(x, weight, None, stride)
    top = left = 0
    if int(node.options["padding"]) == SAME:
        top = max((x.shape[2] - 1) * stride[0] + weight.shape[2] - height, 0) // 2
        left = max((x.shape[3] - 1) * stride[1] + weight.shape[3] - width, 0) // 2
    below, right = max(top + height - y.shape[2], 0), max(left + width - y.shape[3], 0)
    y = F.pad(y, (0, right, 0, below))[:, :, top : top + height, left : left + width]
    y = y.permute(0, 2, 3, 1).float()
    return activate(node, y + args[2] if node.inputs[2] >= 0 else y)


def fully_connected(node: Node, args: Tensors) -> torch.Tensor:
    """Returns a linear layer's output; weights are (out, in)."""
    x, weight = args[0], args[1]
    if not node.options.get("keepNumDims"):
        x = x.reshape(-1, weight.shape[1])
    y = F.linear(x, weight).float()
    return activate(node, y + args[2] if len(args) > 2 else y)  # noqa: PLR2004


def max_pool(node: Node, args: Tensors) -> torch.Tensor:
    """Returns the largest value of each window; padded places do not count."""
    kernel = (node.options["filterHeight"], node.options["filterWidth"])
    x = _pad_same(node, args[0].permute(0, 3, 1, 2), kernel, value=-math.inf)
    y = F.max_pool2d(x, kernel, (node.options["strideH"], node.options["strideW"]))
    return activate(node, y.permute(0, 2, 3, 1))


def average_pool(node: Node, args: Tensors) -> torch.Tensor:
    """Returns the mean of each window; padded places do not count."""
    kernel = (node.options["filterHeight"], node.options["filterWidth"])
    stride = (node.options["strideH"], node.options["strideW"])
    x = args[0].permute(0, 3, 1, 2)
    y = F.avg_pool2d(_pad_same(node, x, kernel), kernel, stride)
    if int(node.options["padding"]) == SAME:  # padded places do not count
        ones = _pad_same(node, torch.ones_like(x[:1, :1]), kernel)
        y = y / F.avg_pool2d(ones, kernel, stride)
    return activate(node, y.permute(0, 2, 3, 1))
