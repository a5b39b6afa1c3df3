"""Windows cut out of a tensor, and laid together again, in operators with an INT8 kernel."""

from __future__ import annotations

import math
from typing import Any

import torch

aten = torch.ops.aten


def unfold(x: torch.Tensor, dimension: int, size: int, step: int) -> torch.Tensor:
    """Cuts windows out by slices; those that lie side by side are there already.

    The converter's own way pads tensors to more axes than its operators have.
    """
    axis = dimension % max(x.ndim, 1)
    if not x.ndim:
        return x.reshape(1)
    count = (int(x.shape[axis]) - size) // step + 1
    if size == step or count == 1:
        parts = x.narrow(axis, 0, count * size).reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
        return torch.movedim(parts, axis + 1, -1)
    if size <= count:
        shifts = [aten.slice.Tensor(x, axis, k, k + (count - 1) * step + 1, step) for k in range(size)]
        return torch.stack(shifts, -1)
    windows = [x.narrow(axis, k * step, size) for k in range(count)]
    return torch.movedim(torch.stack(windows, axis), axis + 1, -1)


def tiles(x: torch.Tensor, kernel_size: list[int], dilation: list[int], padding: list[int], stride: list[int]) -> Any:
    """Moves windows that lie side by side, and nothing else; others are left to be looked up."""
    sizes = [int(side) for side in x.shape[-2:]]
    counts = [size // kernel for size, kernel in zip(sizes, kernel_size, strict=True)]
    whole = [count * kernel for count, kernel in zip(counts, kernel_size, strict=True)]
    if list(stride) != list(kernel_size) or {*dilation} != {1} or any(padding) or whole != sizes:
        return NotImplemented
    (rows, columns), (height, width), front = counts, kernel_size, x.shape[:-2]
    parts = x.reshape(math.prod(front), rows, height, columns, width).permute(0, 2, 4, 1, 3)
    return parts.reshape(*front[:-1], int(front[-1]) * height * width, rows * columns)


def fold(
    x: torch.Tensor,
    output_size: list[int],
    kernel_size: list[int],
    dilation: list[int],
    padding: list[int],
    stride: list[int],
) -> torch.Tensor:
    """Adds overlapping windows by a transposed convolution of ones, all sums in INT32; others are only moved.

    Each channel is a picture of its own there, so the weights are those of one: a window's places against a window.
    """
    sizes = list(zip(output_size, kernel_size, dilation, padding, stride, strict=True))
    reaches = [apart * (kernel - 1) + 1 for _, kernel, apart, _, _ in sizes]
    counts = [
        (size + 2 * edge - reach) // step + 1 for (size, _, _, edge, step), reach in zip(sizes, reaches, strict=True)
    ]
    places = math.prod(kernel_size)
    channels = int(x.shape[-2]) // places
    front = [int(side) for side in x.shape[:-2]]
    side_by_side = all(
        kernel == step and apart == 1 and edge == 0 and count * step == size
        for (size, kernel, apart, edge, step), count in zip(sizes, counts, strict=True)
    )
    if side_by_side:
        parts = x.reshape(math.prod(front) * channels, *kernel_size, *counts)
        return parts.permute(0, 3, 1, 4, 2).reshape(*front, channels, *output_size)
    numbers = torch.arange(places, dtype=torch.float32)
    # Ones where both are the same: exported programs take no new constants here, and the converter works this out.
    weight = torch.relu(1.0 - (numbers.unsqueeze(1) - numbers).abs()).reshape(places, 1, *kernel_size)
    behind = [
        size - ((count - 1) * step - 2 * edge + reach)
        for (size, _, _, edge, step), count, reach in zip(sizes, counts, reaches, strict=True)
    ]
    planes = x.reshape(math.prod(front) * channels, places, *counts)
    whole: torch.Tensor = aten.convolution.default(planes, weight, None, stride, padding, dilation, True, behind, 1)
    return whole.reshape(*front, channels, *output_size)


def bag_of_one(
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> Any:
    """Sums up all rows that are looked up, or takes their mean or the largest: a flatbuffer's one sample is one bag."""
    del scale_grad_by_freq, sparse
    if int(offsets.shape[0]) - include_last_offset != 1:
        return NotImplemented  # where bags begin is known only when it runs
    if padding_idx >= 0 and mode != 0:
        return NotImplemented  # how many rows count is known only then
    rows = aten.embedding.default(weight, indices)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if padding_idx >= 0:
        rows = rows * (indices != padding_idx).to(rows.dtype).unsqueeze(-1)
    found = (torch.sum, torch.mean, torch.amax)[mode](rows, 0, keepdim=True)
    none = torch.zeros_like(offsets)
    return found, none, none, none
