"""Reading TFLite's sparse encoding: the dense tensor, whatever its axes, their order and its blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.errors import ResourceError


def index_vectors(tensor: schema.TensorT) -> list[NDArray[Any]]:
    """Returns the vectors of indices that a tensor's encoding consists of beside its values; none if it is dense."""
    levels = (tensor.sparsity.dimMetadata or []) if tensor.sparsity is not None else []
    found = [vector for level in levels for vector in (level.arraySegments, level.arrayIndices)]
    return [vector.values for vector in found if vector is not None and vector.values is not None]


#: A dense tensor may take this much, and this many times what the file stores of it; of more zeros there is no use.
DENSE_BYTES, TIMES_STORED = 256 * 1024**2, 24


def expand(sparsity: schema.SparsityParametersT, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns the dense tensor of a sparse one, whatever its axes, their order and its blocks.

    Args:
        sparsity: As the file has it.
        values: (N,) the stored values.
        shape: Of the dense tensor.

    Raises:
        ResourceError: The encoding contradicts itself, the values or the shape.
    """
    size = math.prod(shape) * values.itemsize
    if size > max(DENSE_BYTES, TIMES_STORED * values.nbytes):
        raise ResourceError(f"it expands to {size:,} bytes from {values.nbytes:,}")
    try:
        dense = np.zeros(math.prod(shape), values.dtype)
        np.put(dense, _coordinates(sparsity, shape, len(values)), values)
    except (IndexError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise ResourceError(f"its sparse encoding is damaged: {error}") from error
    return dense.reshape(shape)


def _coordinates(sparsity: schema.SparsityParametersT, shape: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """Returns where in the flat dense tensor each stored value belongs."""
    order, levels = [int(axis) for axis in sparsity.traversalOrder], sparsity.dimMetadata
    block_map = [] if sparsity.blockMap is None else [int(axis) for axis in sparsity.blockMap]
    if sorted(order) != list(range(len(shape) + len(block_map))) or len(levels) != len(order):
        raise ValueError("its axes are not those of the tensor")
    # An axis that is cut into blocks has two levels: number of the block, place in the block.
    factors = dict.fromkeys(range(len(shape)), 1)
    for level, axis in zip(levels, order, strict=True):
        if axis >= len(shape):
            factors[block_map[axis - len(shape)]] = int(level.denseSize)
    # Before the last level there are as many entries as values at most, or as the segments of a level know.
    segments = [level.arraySegments.values for level in levels if level.arraySegments is not None]
    most = max([count, *(len(values) for values in segments if values is not None)])
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    where, found = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for level, axis in zip(levels, order, strict=True):
        parents, where, index = _descend(level, where, most)
        plain = axis < len(shape)
        whole = axis if plain else block_map[axis - len(shape)]
        step = strides[whole] * (factors[whole] if plain else 1)
        if index.size and (index.min() < 0 or (index * step).max() >= max(math.prod(shape), 1)):
            raise ValueError("an index is out of range")
        found = found[parents] + index * step
    if len(found) != count:
        raise ValueError(f"it has {len(found)} places for {count} values")
    return found


def _descend(
    level: schema.DimensionMetadataT, where: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns, for each entry of a level: its parent's number, its own place in the level, its index on the axis."""
    if level.format == schema.DimensionType.DENSE:
        size = int(level.denseSize)
        if not 0 <= size * len(where) <= limit:
            raise ValueError("it has more entries than the tensor")
        parents = np.repeat(np.arange(len(where)), size)
        index = np.tile(np.arange(size), len(where))
        return parents, where[parents] * size + index, index
    starts = np.asarray(level.arraySegments.values, np.int64)
    counts = starts[where + 1] - starts[where]
    if (counts < 0).any() or counts.sum() > limit:
        raise ValueError("its segments are out of order")
    parents = np.repeat(np.arange(len(where)), counts)
    ends = np.cumsum(counts)
    places = starts[where][parents] + np.arange(counts.sum()) - (ends - counts)[parents]
    return parents, places, np.asarray(level.arrayIndices.values, np.int64)[places]
