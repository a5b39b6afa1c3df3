"""Operators that move, select and compare values: their arithmetic in torch, on tensors laid out as TFLite has them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from edgecompress.quantization.graph.graph import DTYPES, Node

Tensors = list[torch.Tensor]
Arithmetic = Callable[[Node, Tensors], "torch.Tensor | tuple[torch.Tensor, ...]"]
REFLECT = 0  # MirrorPadMode.REFLECT in the schema; SYMMETRIC repeats the edge


def _mirror_pad(node: Node, args: Tensors) -> torch.Tensor:
    x, edge = args[0], 1 if int(node.options.get("mode") or 0) == REFLECT else 0
    for axis, (before, after) in enumerate(args[1].tolist()):
        if before or after:
            size = x.shape[axis]
            places = [
                *range(before - 1 + edge, edge - 1, -1),
                *range(size),
                *range(size - 1 - edge, size - 1 - edge - after, -1),
            ]
            x = x.index_select(axis, torch.tensor(places, device=x.device))
    return x


def _space_to_depth(node: Node, args: Tensors) -> torch.Tensor:
    block = int(node.options["blockSize"])
    n, height, width, channels = args[0].shape
    x = args[0].reshape(n, height // block, block, width // block, block, channels).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // block, width // block, block * block * channels)


def _depth_to_space(node: Node, args: Tensors) -> torch.Tensor:
    block = int(node.options["blockSize"])
    n, height, width, channels = args[0].shape
    x = args[0].reshape(n, height, width, block, block, channels // block**2).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height * block, width * block, channels // block**2)


def _gather_nd(_node: Node, args: Tensors) -> torch.Tensor:
    return args[0][tuple(args[1].long().unbind(-1))]


def _dynamic_update_slice(_node: Node, args: Tensors) -> torch.Tensor:
    """Writes a part into the middle of a tensor; slice by slice, since writing in place does not go with vmap."""
    x, part, starts = args[0], args[1], [int(v) for v in args[2].reshape(-1)]
    starts = [
        0 if axis == 0 and part.shape[0] == x.shape[0] else min(max(start, 0), x.shape[axis] - part.shape[axis])
        for axis, start in enumerate(starts)
    ]

    def write(whole: torch.Tensor, axis: int) -> torch.Tensor:
        if axis == len(starts):
            return part
        end = starts[axis] + part.shape[axis]
        inner = write(whole.narrow(axis, starts[axis], part.shape[axis]), axis + 1)
        return torch.slice_scatter(whole, inner, axis, starts[axis], end)

    return write(x, 0)


def _select(_node: Node, args: Tensors) -> torch.Tensor:
    condition = args[0].bool()
    if condition.ndim == 1 and args[1].ndim > 1 and condition.shape[0] == args[1].shape[0]:  # SELECT picks whole rows
        condition = condition.reshape(-1, *[1] * (args[1].ndim - 1))
    return torch.where(condition, args[1], args[2])


def _cast(node: Node, args: Tensors) -> torch.Tensor:
    return args[0].to(torch.from_numpy(np.zeros(0, DTYPES[int(node.options["outDataType"])])).dtype)


def _tile(_node: Node, args: Tensors) -> torch.Tensor:
    return args[0].repeat([int(times) for times in args[1].reshape(-1)])


def _reduce_each(function: Callable[..., torch.Tensor]) -> Arithmetic:
    """Returns a reduction over several axes by one that takes a single axis."""

    def reduce(node: Node, args: Tensors) -> torch.Tensor:
        x = args[0]
        for axis in sorted((int(axis) % x.ndim for axis in args[1].reshape(-1)), reverse=True):
            x = function(x, dim=axis, keepdim=bool(node.options.get("keepDims")))
        return x

    return reduce


def _arg(function: Callable[..., torch.Tensor]) -> Arithmetic:
    return lambda _node, args: function(args[0], dim=int(args[1])).to(torch.int32)


def _topk(_node: Node, args: Tensors) -> tuple[torch.Tensor, ...]:
    """Returns the largest values along the last axis, in order, and their places, of equal ones the first."""
    values, places = torch.sort(args[0], dim=-1, descending=True, stable=True)
    return values[..., : int(args[1])], places[..., : int(args[1])].to(torch.int32)


def _cumsum(node: Node, args: Tensors) -> torch.Tensor:
    axis, x = int(args[1]), args[0]
    x = x.flip(axis) if node.options.get("reverse") else x
    y = torch.cumsum(x, axis) - (x if node.options.get("exclusive") else 0)
    return y.flip(axis) if node.options.get("reverse") else y


def _compare(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Arithmetic:
    return lambda _node, args: function(args[0], args[1])


#: Operator name -> arithmetic.
MOVES: dict[str, Arithmetic] = {
    "ARG_MAX": _arg(torch.argmax),
    "ARG_MIN": _arg(torch.argmin),
    "CAST": _cast,
    "CUMSUM": _cumsum,
    "DEPTH_TO_SPACE": _depth_to_space,
    "DYNAMIC_UPDATE_SLICE": _dynamic_update_slice,
    "GATHER_ND": _gather_nd,
    "MIRROR_PAD": _mirror_pad,
    "REDUCE_ALL": _reduce_each(torch.all),
    "REDUCE_ANY": _reduce_each(torch.any),
    "REDUCE_PROD": _reduce_each(torch.prod),
    "REVERSE_V2": lambda _node, args: torch.flip(args[0], [int(axis) for axis in args[1].reshape(-1)]),
    "SELECT": _select,
    "SELECT_V2": _select,
    "SPACE_TO_DEPTH": _space_to_depth,
    "TILE": _tile,
    "TOPK_V2": _topk,
}
#: Operators that answer with a truth value, and those that combine truth values.
COMPARISONS: dict[str, Arithmetic] = {
    "EQUAL": _compare(torch.eq),
    "GREATER": _compare(torch.gt),
    "GREATER_EQUAL": _compare(torch.ge),
    "LESS": _compare(torch.lt),
    "LESS_EQUAL": _compare(torch.le),
    "LOGICAL_AND": _compare(torch.logical_and),
    "LOGICAL_NOT": lambda _node, args: torch.logical_not(args[0]),
    "LOGICAL_OR": _compare(torch.logical_or),
    "NOT_EQUAL": _compare(torch.ne),
}
