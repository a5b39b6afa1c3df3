"""Bilinear resizing as INT8 kernels do it: in integers, with shares of 11 bits.

Source: xnn_indirection_init_resize_bilinear2d_hwc_q11 and s8-ibilinear in XNNPACK, which takes every INT8 picture
whose new size is a constant.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.grids.ranges import RangeGroup

#: Bits of a neighbour's share, along one side.
SHARE_BITS = 11


def resize_bilinear(
    node: Node, y: torch.Tensor, inputs: list[torch.Tensor], source: RangeGroup, _target: RangeGroup
) -> torch.Tensor:
    """Returns the mixtures of four neighbours, ties rounded up; the output has the input's grid."""
    x = torch.round(inputs[0] / source.scale).to(torch.int32)  # without the zero point, since shares sum up to one
    for axis in (2, 1):
        first, second, shares = (
            torch.from_numpy(one).to(x.device) for one in _neighbours(node, int(x.shape[axis]), int(y.shape[axis]))
        )
        one, other = x.index_select(axis, first), x.index_select(axis, second)
        x = (one << SHARE_BITS) + (other - one) * shares.reshape(-1, *[1] * (x.ndim - 1 - axis))
    steps = (x + (1 << (2 * SHARE_BITS - 1))) >> (2 * SHARE_BITS)
    return (steps.double() * source.scale).to(y.dtype)


def _neighbours(node: Node, size: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Returns, for each place along a side, the two that it lies between and the share of the second one."""
    aligned = bool(node.options.get("alignCorners"))
    less = int(aligned and wanted != 1)
    scale = np.float32(size - less) / np.float32(wanted - less)
    places = np.arange(wanted, dtype=np.float32) * scale
    if not aligned and node.options.get("halfPixelCenters"):
        places = places + (np.float32(0.5) * scale - np.float32(0.5))
    places = np.clip(places, np.float32(0), np.float32(size - 1))
    first = places.astype(np.int64)
    shares = np.rint((places - first.astype(np.float32)) * np.float32(1 << SHARE_BITS)).astype(np.int32)
    return first, np.minimum(first + 1, size - 1), shares
