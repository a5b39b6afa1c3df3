"""What goes by the order of values: sorting, running products and extremes, sums up to each place, places written to.

LiteRT has one operator that sorts, TOPK_V2, which moves values; what runs along an axis is a product with a triangle of
ones, or a few steps of doubled reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

aten = torch.ops.aten
#: A running sum is a product with so many rows and columns at most: more weigh more than they are worth.
LONGEST_SUM = 128
#: Values written to places that are known only when it runs are laid in one by one, up to so many.
MOST_PLACES = 64


def topk(x: torch.Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002
    """Returns the k largest or smallest values along an axis, in order, and their places."""
    del sorted  # they always are
    axis = dim % max(x.ndim, 1)
    size = int(x.shape[axis])
    values, places = torch.ops.tfl.topk_v2(torch.movedim(x, axis, -1), k if largest else size)
    if not largest:  # all of them, from the end: a negated tensor would have another scale
        values, places = values.flip(-1).narrow(-1, 0, k), places.flip(-1).narrow(-1, 0, k)
    return torch.movedim(values, -1, axis), torch.movedim(places.to(torch.int64), -1, axis)


def sort(x: torch.Tensor, dim: int = -1, descending: bool = False) -> Any:
    """Returns all values along an axis in order, and their places."""
    return topk(x, int(x.shape[dim]), dim, descending)


def stable_sort(x: torch.Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Returns the same, of equal values the first one first: what ascends is negated for that."""
    if not stable or descending:
        return sort(x, dim, descending)
    values, places = topk(-x, int(x.shape[dim]), dim)
    return -values, places


def kth(x: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """Returns the k-th smallest value along an axis, and its place."""
    found = [one.narrow(dim, k - 1, 1) for one in topk(x, k, dim, largest=False)]
    return tuple(found if keepdim else (one.squeeze(dim) for one in found))


def median(x: torch.Tensor, dim: int, keepdim: bool = False) -> Any:
    """Returns the median along an axis, of an even number the lower one, as torch does."""
    return kth(x, (int(x.shape[dim]) + 1) // 2, dim, keepdim)


def median_of_all(x: torch.Tensor) -> torch.Tensor:
    """Returns the median of all values."""
    found: torch.Tensor = median(x.flatten(), 0)[0]
    return found


def running_sum(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """Returns the sums up to each place, by a product with a triangle of ones: all in INT32, rounded once."""
    size = int(x.shape[dim]) if x.ndim else 1
    if not x.ndim or not x.is_floating_point() or dtype not in (None, x.dtype) or size > LONGEST_SUM:
        return NotImplemented
    numbers = torch.arange(size, dtype=torch.float32)
    # One where the row is no later than the column; the converter works constants out.
    upper = torch.clamp(numbers.unsqueeze(0) - numbers.unsqueeze(1) + 1.0, 0.0, 1.0)
    return torch.movedim(torch.matmul(torch.movedim(x, dim, -1), upper), -1, dim)


def running(combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, dim: int) -> torch.Tensor:
    """Combines all values up to each place: each step doubles how far back they reach."""
    size, reach = int(x.shape[dim]), 1
    while reach < size:
        later = combine(x.narrow(dim, reach, size - reach), x.narrow(dim, 0, size - reach))
        x = torch.cat([x.narrow(dim, 0, reach), later], dim)
        reach *= 2
    return x


def running_product(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """Returns the products up to each place."""
    if not x.ndim or not x.is_floating_point() or dtype not in (None, x.dtype):
        return NotImplemented
    return running(torch.mul, x, dim)


def running_logsumexp(x: torch.Tensor, dim: int) -> Any:
    """Returns the logarithms of the exponentials' sums up to each place: exponentials lie between 0 and 1."""

    def added(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.maximum(a, b) + torch.log(torch.exp(-torch.abs(a - b)) + 1.0)

    return running(added, x, dim) if x.ndim else NotImplemented


def running_extreme(combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """Returns the operator that gives the extreme up to each place, and where its last one is."""

    def found(x: torch.Tensor, dim: int) -> Any:
        if not x.ndim:
            return NotImplemented
        values = running(combine, x, dim)
        shape = [1] * x.ndim
        shape[dim] = int(x.shape[dim])
        places = torch.arange(shape[dim], dtype=torch.int32).reshape(shape).expand(x.shape)
        reached = torch.where(x == values, places, torch.zeros_like(places))
        return values, running(torch.maximum, reached, dim).to(torch.int64)

    return found


def bucketize(
    x: torch.Tensor, boundaries: torch.Tensor, *, out_int32: bool = False, right: bool = False
) -> torch.Tensor:
    """Counts the boundaries below each value."""
    spread = x.unsqueeze(-1)
    beyond = spread >= boundaries if right else spread > boundaries
    one, none = torch.ones((), dtype=torch.float32), torch.zeros((), dtype=torch.float32)
    return torch.where(beyond, one, none).sum(-1).to(torch.int32 if out_int32 else torch.int64)


def searchsorted(
    boundaries: torch.Tensor,
    x: torch.Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: torch.Tensor | None = None,
) -> Any:
    """Does the same for one row of boundaries."""
    if boundaries.ndim != 1 or sorter is not None:
        return NotImplemented
    return bucketize(x, boundaries, out_int32=out_int32, right=right or side == "right")


def _hits(x: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """Returns size along the axis x places, with ones where a place is written to."""
    size, places = int(x.shape[dim]), index.to(torch.int32)
    places = torch.where(places < 0, places + size, places)  # counted from the end
    return (torch.arange(size, dtype=torch.int32).unsqueeze(1) == places.unsqueeze(0)).to(x.dtype)


def _carried(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Returns what comes to each place along an axis: a product with ones."""
    laid = torch.matmul(torch.movedim(source, dim, -1), _hits(x, dim, index).transpose(0, 1))
    return torch.movedim(laid, -1, dim)


def index_add(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, *, alpha: float = 1) -> Any:
    """Adds parts of a tensor to the places that an index names."""
    if not x.is_floating_point():
        return NotImplemented
    return x + _carried(x, dim, index, source if alpha == 1 else source * alpha)


def index_copy(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor) -> Any:
    """Writes parts of a tensor to the places that an index names, each once."""
    if not x.is_floating_point():
        return NotImplemented
    return torch.where(_written(x, dim, index), _carried(x, dim, index, source), x)


def index_fill(x: torch.Tensor, dim: int, index: torch.Tensor, value: float) -> Any:
    """Writes one value to the places that an index names."""
    if not x.is_floating_point():
        return NotImplemented
    return torch.where(_written(x, dim, index), torch.full((), float(value), dtype=x.dtype), x)


def _written(x: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """Returns which places along an axis an index names, as that axis alone."""
    shape = [1] * x.ndim
    shape[dim] = int(x.shape[dim])
    return _hits(x, dim, index).sum(1).reshape(shape) > 0


def _scatter(
    x: torch.Tensor,
    dim: int,
    index: torch.Tensor,
    part: Callable[[int], torch.Tensor | float],
    write: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | float], torch.Tensor],
) -> Any:
    """Writes one part after another where the number of a place is that of the index."""
    axis = dim % max(x.ndim, 1)
    sides = [int(side) for side in index.shape]
    whole = all(side == int(own) for n, (side, own) in enumerate(zip(sides, x.shape, strict=True)) if n != axis)
    if not x.ndim or not x.is_floating_point() or not whole or sides[axis] > MOST_PLACES:
        return NotImplemented
    shape = [1] * x.ndim
    shape[axis] = int(x.shape[axis])
    numbers = torch.arange(shape[axis], dtype=torch.int32).reshape(shape)
    for k in range(sides[axis]):
        x = write(x, numbers == index.narrow(axis, k, 1).to(torch.int32), part(k))
    return x


def _put(x: torch.Tensor, where: torch.Tensor, value: torch.Tensor | float) -> torch.Tensor:
    return torch.where(where, value, x)


def _add(x: torch.Tensor, where: torch.Tensor, value: torch.Tensor | float) -> torch.Tensor:
    return x + torch.where(where, value, torch.zeros((), dtype=x.dtype))


def scatter(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> Any:
    """Writes values to the places that an index of their shape names."""
    return _scatter(x, dim, index, lambda k: src.narrow(dim, k, 1), _put)


def scatter_value(x: torch.Tensor, dim: int, index: torch.Tensor, value: float) -> Any:
    """Writes one value to the places that an index names."""
    return _scatter(x, dim, index, lambda _k: torch.full((), float(value), dtype=x.dtype), _put)


def scatter_add(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> Any:
    """Adds values to the places that an index of their shape names."""
    return _scatter(x, dim, index, lambda k: src.narrow(dim, k, 1), _add)
