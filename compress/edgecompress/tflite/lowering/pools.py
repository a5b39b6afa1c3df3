"""Pools as the converter and INT8 kernels take them; each computes what torch does."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten


def _overhang(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Returns by how much the last window of a pool in ceil mode reaches beyond the padded input, 0 or less for none.

    A window that would begin in the padding behind the input is left out, as torch does.
    """
    reach = dilation * (kernel - 1) + 1
    windows = math.ceil((size + 2 * padding - reach) / stride) + 1
    if (windows - 1) * stride >= size + padding:
        windows -= 1
    return (windows - 1) * stride + reach - size - 2 * padding


def _pair(values: Sequence[int] | int, default: Sequence[int] = ()) -> list[int]:
    found = [values] if isinstance(values, int) else list(values) or list(default)
    return found * 2 if len(found) == 1 else found


def _margins(
    x: torch.Tensor, kernel: list[int], stride: list[int], padding: list[int], dilation: list[int], *, ceil: bool
) -> list[int]:
    """Returns what to pad for all windows to lie within the input: left, right, top, bottom."""
    found = []
    for axis in (1, 0):
        beyond = _overhang(x.shape[axis - 2], kernel[axis], stride[axis], padding[axis], dilation[axis]) if ceil else 0
        found += [padding[axis], padding[axis] + max(beyond, 0)]
    return found


def max_pool(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006 - torch's own signature
    padding: list[int] | int = 0,
    dilation: list[int] | int = 1,
    ceil_mode: bool = False,
) -> Any:
    """Pads explicitly where the last window hangs over, which the converter forgets; spells dilation out."""
    kernel = _pair(kernel_size)
    steps, apart = _pair(stride, kernel), _pair(dilation)
    if not ceil_mode and apart == [1, 1]:
        return NotImplemented
    margins = _margins(x, kernel, steps, _pair(padding), apart, ceil=ceil_mode)
    padded = aten.constant_pad_nd.default(x, margins, float("-inf")) if any(margins) else x
    if apart == [1, 1]:
        return aten.max_pool2d_with_indices.default(padded, kernel, steps, [0, 0], apart, False)
    for axis in (0, 1):  # no operator leaves out places: the largest of all shifts, axis by axis
        reach = apart[axis] * (kernel[axis] - 1) + 1
        last = (int(padded.shape[axis - 2]) - reach) // steps[axis] * steps[axis] + 1
        starts = (apart[axis] * k for k in range(kernel[axis]))
        shifts = [aten.slice.Tensor(padded, axis - 2, start, start + last, steps[axis]) for start in starts]
        padded = functools.reduce(torch.maximum, shifts)
    return padded, torch.zeros_like(padded, dtype=torch.int64)


def average_pool(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006
    padding: list[int] | int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Divides by what torch counts where that is not the same for all windows, or not what the converter counts."""
    kernel = _pair(kernel_size)
    steps, padding = _pair(stride, kernel), _pair(padding)
    margins = _margins(x, kernel, steps, padding, [1, 1], ceil=ceil_mode)
    hangs = margins[1] > padding[1] or margins[3] > padding[0]
    same = all(_is_same(int(x.shape[a - 2]), kernel[a], steps[a], padding[a]) for a in (0, 1))
    plain = divisor_override is None and not hangs and (count_include_pad or not any(padding) or same)
    if plain and not ceil_mode:
        return NotImplemented
    padded = aten.constant_pad_nd.default(x, margins, 0.0) if any(margins) else x
    means = aten.avg_pool2d.default(padded, kernel, steps)
    whole = float(math.prod(kernel))
    if divisor_override:
        return means * (whole / divisor_override) if divisor_override != whole else means
    ends = [padding[axis] if count_include_pad else 0 for axis in (0, 1)]
    for axis in (0, 1):
        windows = int(means.shape[axis - 2])
        counts = _counts(int(x.shape[axis - 2]), kernel[axis], steps[axis], padding[axis], ends[axis], windows)
        if {*counts} == {kernel[axis]}:
            continue
        shape = [-1, 1] if axis == 0 else [1, -1]
        means = means * _constant([kernel[axis] / count for count in counts], x).reshape(shape)
    return means


def _is_same(size: int, kernel: int, stride: int, padding: int) -> bool:
    """Returns whether padding is that of TensorFlow's SAME, of which averages do not count the padded places."""
    return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) == 2 * padding


def _constant(values: list[float], like: torch.Tensor) -> torch.Tensor:
    """Returns a vector as operators make it: exported programs take no new constants here."""
    runs = [(value, len(list(same))) for value, same in itertools.groupby(values)]
    parts = [aten.full.default([count], value, dtype=like.dtype, device=like.device) for value, count in runs]
    found: torch.Tensor = aten.cat.default(parts)
    return found


def _counts(size: int, kernel: int, stride: int, padding: int, counted: int, windows: int) -> list[int]:
    """Returns how many places each window counts along one axis: the input's own and `counted` ones on both sides."""
    starts = (window * stride - padding for window in range(windows))
    return [min(start + kernel, size + counted) - max(start, -counted) for start in starts]


def _pool3d(
    pool: Callable[..., torch.Tensor], x: torch.Tensor, kernel: list[int], stride: list[int], pad: list[int]
) -> torch.Tensor:
    """Pools over height and width, then over depth: the converter makes an operator of its own for windows of three."""
    *front, depth, height, width = x.shape
    flat = x.reshape(1, -1, height, width)
    flat = pool(flat, kernel[1:], stride[1:], pad[1:])
    rows, columns = flat.shape[-2:]
    flat = flat.reshape(1, -1, depth, rows * columns)
    flat = pool(flat, [kernel[0], 1], [stride[0], 1], [pad[0], 0])
    return flat.reshape(*front, -1, rows, columns)


def _triple(values: Sequence[int] | int, default: Sequence[int] = ()) -> list[int]:
    found = [values] if isinstance(values, int) else list(values) or list(default)
    return found * 3 if len(found) == 1 else found


def max_pool3d(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006
    padding: list[int] | int = 0,
    dilation: list[int] | int = 1,
    ceil_mode: bool = False,
) -> Any:
    """Pools over two axes and then over the third."""
    kernel = _triple(kernel_size)
    if {*_triple(dilation)} != {1}:
        return NotImplemented

    def pool(flat: torch.Tensor, size: list[int], steps: list[int], pad: list[int]) -> torch.Tensor:
        found: torch.Tensor = aten.max_pool2d_with_indices.default(flat, size, steps, pad, [1, 1], ceil_mode)[0]
        return found

    found = _pool3d(pool, x, kernel, _triple(stride, kernel), _triple(padding))
    return found, torch.zeros_like(found, dtype=torch.int64)  # nothing that is converted reads the places


def average_pool3d(
    x: torch.Tensor,
    kernel_size: list[int],
    stride: list[int] = [],  # noqa: B006
    padding: list[int] | int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Averages over two axes and then over the third."""
    kernel = _triple(kernel_size)

    def pool(flat: torch.Tensor, size: list[int], steps: list[int], pad: list[int]) -> torch.Tensor:
        found: torch.Tensor = aten.avg_pool2d.default(flat, size, steps, pad, ceil_mode, count_include_pad)
        return found

    found = _pool3d(pool, x, kernel, _triple(stride, kernel), _triple(padding))
    return found * (math.prod(kernel) / divisor_override) if divisor_override else found


def _adaptive(reduce: Callable[..., torch.Tensor], x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Pools axis by axis: window i of n over s places reaches from i * s / n, rounded down, to (i + 1) * s / n, up."""
    for axis, wanted in zip(range(-len(sizes), 0), sizes, strict=True):
        size = int(x.shape[axis])
        if wanted == size:
            continue
        windows = [(k * size // wanted, -(-(k + 1) * size // wanted)) for k in range(wanted)]
        parts = [reduce(x.narrow(axis, start, end - start), [axis], True) for start, end in windows]
        x = torch.cat(parts, axis) if len(parts) > 1 else parts[0]
    return x


def _even_windows(x: torch.Tensor, output_size: list[int]) -> list[int] | None:
    """Returns the windows' size where all are alike and do not overlap, of a pool over two axes; None otherwise."""
    sizes = [int(side) for side in x.shape[-len(output_size) :]]
    if len(sizes) != 2 or any(size % wanted for size, wanted in zip(sizes, output_size, strict=True)):  # noqa: PLR2004
        return None
    return [size // wanted for size, wanted in zip(sizes, output_size, strict=True)]


def adaptive_max_pool(x: torch.Tensor, output_size: list[int]) -> Any:
    """Takes the largest values of windows that may be of unequal sizes."""
    kernel = _even_windows(x, output_size)
    if kernel is None:
        found = _adaptive(torch.amax, x, output_size)
    else:
        found = aten.max_pool2d_with_indices.default(x, kernel, kernel)[0]
    return found, torch.zeros_like(found, dtype=torch.int64)  # nothing that is converted reads the places


def adaptive_average_pool(x: torch.Tensor, output_size: list[int]) -> Any:
    """Takes the means of windows that may be of unequal sizes."""
    kernel = _even_windows(x, output_size)
    return _adaptive(torch.mean, x, output_size) if kernel is None else aten.avg_pool2d.default(x, kernel, kernel)
