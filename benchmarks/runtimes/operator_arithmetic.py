"""What TFLite's operators compute, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]


def _erf(x: Array) -> Array:
    return torch.erf(torch.from_numpy(np.asarray(x))).numpy()


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _local_response(x: Array, radius: int = 2, bias: float = 1.0, alpha: float = 0.1, beta: float = 0.7) -> Array:
    squares = np.pad(x**2, [*[(0, 0)] * (x.ndim - 1), (radius, radius)])
    sums = sum(squares[..., n : n + x.shape[-1]] for n in range(2 * radius + 1))
    return x / (bias + alpha * sums) ** beta


UNARY: dict[str, Callable[[Array], Array]] = {
    "ABS": np.abs,
    "CEIL": np.ceil,
    "COS": np.cos,
    "ELU": lambda x: np.where(x > 0, x, np.expm1(x)),
    "EXP": np.exp,
    "FLOOR": np.floor,
    "GELU": lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "L2_NORMALIZATION": lambda x: x / np.sqrt((x**2).sum(-1, keepdims=True)),
    "LEAKY_RELU": lambda x: np.where(x > 0, x, np.float64(np.float32(0.1)) * x),
    "LOCAL_RESPONSE_NORMALIZATION": _local_response,
    "LOG": np.log,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "LOG_SOFTMAX": lambda x: np.log(_softmax(x)),
    "NEG": np.negative,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_0_TO_1": lambda x: np.clip(x, 0, 1),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "ROUND": np.rint,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "SIGN": np.sign,
    "SIN": np.sin,
    "SOFTMAX": _softmax,
    "SQRT": np.sqrt,
    "SQUARE": np.square,
    "TANH": np.tanh,
    "ZEROS_LIKE": np.zeros_like,
}
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add,
    "ATAN2": np.arctan2,
    "DIV": np.divide,
    "FLOOR_DIV": lambda x, y: np.floor(x / y),
    "FLOOR_MOD": np.mod,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": np.multiply,
    "POW": np.power,
    "PRELU": lambda x, y: np.where(x > 0, x, x * y),
    "SQUARED_DIFFERENCE": lambda x, y: (x - y) ** 2,
    "SUB": np.subtract,
}
COMPARING: dict[str, Callable[[Array, Array], Array]] = {
    "EQUAL": np.equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "NOT_EQUAL": np.not_equal,
}
REDUCING: dict[str, Callable[..., Array]] = {
    "MEAN": np.mean,
    "REDUCE_MAX": np.max,
    "REDUCE_MIN": np.min,
    "REDUCE_PROD": np.prod,
    "SUM": np.sum,
}


def padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Returns what padding `SAME` puts before and behind an axis."""
    reach = (kernel - 1) * dilation + 1
    whole = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return whole // 2, whole - whole // 2


def padded(x: Array, kernel: tuple[int, int], stride: int, dilation: int, *, same: bool, value: float) -> torch.Tensor:
    """Returns a map with its padding, channels first."""
    sides = [padding(x.shape[1 + n], kernel[n], stride, dilation) if same else (0, 0) for n in (0, 1)]
    whole = np.pad(x, [(0, 0), *sides, (0, 0)], constant_values=value)
    return torch.from_numpy(np.ascontiguousarray(whole.transpose(0, 3, 1, 2)))


def convolution(x: Array, w: Array, b: Array | None = None, *, stride: int, dilation: int, same: bool) -> Array:
    """Returns a convolution with weights (O, H, W, I); fewer input channels than the map's make groups."""
    y = torch.nn.functional.conv2d(
        padded(x, w.shape[1:3], stride, dilation, same=same, value=0.0),
        torch.from_numpy(np.ascontiguousarray(w.transpose(0, 3, 1, 2))),
        None if b is None else torch.from_numpy(b),
        stride=stride, dilation=dilation, groups=x.shape[3] // w.shape[3],
    )  # fmt: skip
    return y.numpy().transpose(0, 2, 3, 1)


def depthwise(x: Array, w: Array, b: Array, *, stride: int, dilation: int, same: bool) -> Array:
    """Returns a depthwise convolution with weights (1, H, W, O)."""
    return convolution(x, w.transpose(3, 1, 2, 0), b, stride=stride, dilation=dilation, same=same)


def transposed_convolution(
    shape: Array, w: Array, x: Array, b: Array | None = None, *, stride: int, same: bool
) -> Array:
    """Returns a transposed convolution with weights (O, H, W, I), of the shape that is asked."""
    y = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))),
        torch.from_numpy(np.ascontiguousarray(w.transpose(3, 0, 1, 2))),
        stride=stride,
    ).numpy()  # fmt: skip
    full = np.zeros((shape[0], shape[3], max(y.shape[2], shape[1]) + 8, max(y.shape[3], shape[2]) + 8))
    full[:, :, : y.shape[2], : y.shape[3]] = y
    first = [padding(int(shape[1 + n]), w.shape[1 + n], stride)[0] if same else 0 for n in (0, 1)]
    cut = full[:, :, first[0] : first[0] + shape[1], first[1] : first[1] + shape[2]].transpose(0, 2, 3, 1)
    return cut if b is None else cut + b


def pool(x: Array, *, kernel: int, stride: int, same: bool, largest: bool) -> Array:
    """Returns the largest values or the means of windows; padding does not count."""
    size = (kernel, kernel)
    if largest:
        whole = padded(x, size, stride, 1, same=same, value=-np.inf)
        return torch.nn.functional.max_pool2d(whole, kernel, stride).numpy().transpose(0, 2, 3, 1)
    sums, counts = (
        torch.nn.functional.avg_pool2d(padded(values, size, stride, 1, same=same, value=0.0), kernel, stride)
        for values in (x, np.ones_like(x))
    )
    return (sums / counts).numpy().transpose(0, 2, 3, 1)


def resize(x: Array, size: Array, *, aligned: bool, half: bool, nearest: bool) -> Array:
    """Returns a map of another size."""
    for axis, new in ((1, int(size[0])), (2, int(size[1]))):
        old = x.shape[axis]
        step = (old - 1) / (new - 1) if aligned and new > 1 else old / new
        places = np.arange(new)
        if nearest:
            exact = (places + (0.5 if half else 0.0)) * step
            x = np.take(x, np.minimum(np.floor(exact + (0.5 if aligned else 0.0)).astype(int), old - 1), axis)
            continue
        exact = np.maximum((places + 0.5) * step - 0.5, 0.0) if half else places * step
        below = np.minimum(np.floor(exact).astype(int), old - 1)
        share = (exact - below).reshape([-1 if side == axis else 1 for side in range(x.ndim)])
        x = np.take(x, below, axis) * (1 - share) + np.take(x, np.minimum(below + 1, old - 1), axis) * share
    return x


def depth_to_space(x: Array, block: int) -> Array:
    """Returns blocks of channels as squares."""
    n, h, w, c = x.shape
    moved = x.reshape(n, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return moved.reshape(n, h * block, w * block, -1)


def space_to_depth(x: Array, block: int) -> Array:
    """Returns squares as blocks of channels."""
    n, h, w, c = x.shape
    return x.reshape(n, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5).reshape(
        n, h // block, w // block, -1
    )  # fmt: skip


def space_to_batch(x: Array, block: int) -> Array:
    """Returns squares as samples, without padding."""
    n, h, w, c = x.shape
    return x.reshape(n, h // block, block, w // block, block, c).transpose(2, 4, 0, 1, 3, 5).reshape(
        -1, h // block, w // block, c
    )  # fmt: skip


def batch_to_space(x: Array, block: int) -> Array:
    """Returns samples as squares, nothing cut off."""
    n, h, w, c = x.shape
    few = n // block**2
    return x.reshape(block, block, few, h, w, c).transpose(2, 3, 0, 4, 1, 5).reshape(few, h * block, w * block, c)


def cumulated(x: Array, *, exclusive: bool = False, reverse: bool = False) -> Array:
    """Returns sums along the first axis behind the samples."""
    turned = x[:, ::-1] if reverse else x
    sums = np.cumsum(turned, 1) - (turned if exclusive else 0)
    return sums[:, ::-1] if reverse else sums


def largest(x: Array, count: int) -> tuple[Array, Array]:
    """Returns the largest values of the last axis and their places, of equal ones the first first."""
    places = np.argsort(-x, -1, kind="stable")[..., :count]
    return np.take_along_axis(x, places, -1), places.astype(np.int32)


def updated(x: Array, update: Array, start: Array) -> Array:
    """Returns x with a part replaced."""
    whole = x.copy()
    whole[tuple(slice(int(a), int(a) + n) for a, n in zip(start, update.shape, strict=True))] = update
    return whole


def scattered(places: Array, updates: Array, shape: Array) -> Array:
    """Returns zeros with rows of updates in them."""
    whole = np.zeros(tuple(shape))
    whole[places[:, 0]] = updates
    return whole
