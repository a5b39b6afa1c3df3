"""Activation ranges: which tensors share one, and the scale and zero point each gives.

Scale and zero point follow Jacob et al. 2018 (arXiv 1712.05877): asymmetric INT8 that represents zero exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.quantization.graph import Graph
from compress.quantization.ops import FIXED_OUTPUT, PASS_THROUGH

QMIN, QMAX = -128, 127


def scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    """Returns the INT8 scale (rounded to float32, as the flatbuffer stores it) and zero point for a range.

    The range is widened to hold zero, so that padding is exact.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max(high - low, 1e-8) / (QMAX - QMIN)))
    zero_point = int(np.clip(np.rint(QMIN - low / scale), QMIN, QMAX))
    return scale, zero_point


@dataclass
class RangeGroup:
    """Tensors that carry one scale and zero point.

    Attributes:
        tensors: Their numbers.
        observed: Those whose values are new (the others only pass values on).
        fixed: Whether the kernels fix the scale.
        scale: In use.
        zero_point: In use.
        low: Least value seen; used for `scale` unless fixed.
        high: Largest value seen.
    """

    tensors: tuple[int, ...]
    observed: tuple[int, ...]
    fixed: bool
    scale: float
    zero_point: int
    low: float = 0.0
    high: float = 0.0

    def set_range(self, low: float, high: float) -> None:
        """Takes a new range and works out scale and zero point from it."""
        self.low, self.high = float(low), float(high)
        if not self.fixed:
            self.scale, self.zero_point = scale_and_zero_point(self.low, self.high)


def find_groups(graph: Graph) -> list[RangeGroup]:
    """Returns the range groups of a quantized graph, in the order of their first tensor.

    Tensors joined by an operator that only passes values on share a group where the quantizer gave them the same
    scale, as the kernels of those operators require.
    """
    # A constant that is only passed on (the value a PADV2 fills in, say) must carry the scale of its group too.
    passed_constants = {n for node in graph.nodes if node.op in PASS_THROUGH for n in node.inputs if n >= 0}
    parent = {
        n: n
        for n, t in enumerate(graph.tensors)
        if t.dtype == np.int8 and len(t.scale) == 1 and (t.constant is None or n in passed_constants)
    }

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    def same(a: int, b: int) -> bool:
        x, y = graph.tensors[a], graph.tensors[b]
        return x.dtype == y.dtype and bool(x.scale[0] == y.scale[0]) and bool(x.zero_point[0] == y.zero_point[0])

    passed_on: set[int] = {n for n in parent if graph.tensors[n].constant is not None}
    fixed: set[int] = set()
    for node in graph.nodes:
        outputs = [n for n in node.outputs if n in parent]
        if node.op in FIXED_OUTPUT:
            fixed.update(outputs)
        if node.op in PASS_THROUGH:
            for a in node.inputs:
                for b in outputs:
                    if a in parent and same(a, b):
                        parent[root(b)] = root(a)
                        passed_on.add(b)
    members: dict[int, list[int]] = {}
    for n in parent:
        members.setdefault(root(n), []).append(n)
    groups = []
    for tensors in sorted(sorted(group) for group in members.values()):
        first = graph.tensors[tensors[0]]
        scale, zero_point = float(first.scale[0]), int(first.zero_point[0])
        if all(graph.tensors[n].constant is not None for n in tensors):
            continue  # shares its scale with nothing: it keeps the quantizer's
        groups.append(
            RangeGroup(
                tensors=tuple(tensors),
                observed=tuple(n for n in tensors if n not in passed_on),
                fixed=any(n in fixed for n in tensors),
                scale=scale,
                zero_point=zero_point,
                low=(QMIN - zero_point) * scale,
                high=(QMAX - zero_point) * scale,
            )
        )
    return groups
