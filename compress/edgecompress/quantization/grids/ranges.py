"""Activation ranges: which tensors share one, and the scale and zero point each gives.

Scale and zero point follow Jacob et al. 2018 (arXiv 1712.05877): asymmetric INT8 that represents zero exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DivergedError, ModelError
from edgecompress.quantization.graph.graph import Graph, Node, TensorSpec
from edgecompress.quantization.graph.ops import COMPARING, FIXED_OUTPUT, PASS_THROUGH, WEIGHTED

INT8, INT16 = np.dtype(np.int8), np.dtype(np.int16)
QMIN, QMAX = -128, 127
#: Operators whose output holds all of their inputs, constant ones too (a class token before the patches, a table).
_JOINING = frozenset({"CONCATENATION", "EMBEDDING_LOOKUP", "PACK"})
#: Operators that give one of their inputs where the other does not hold.
_CHOOSING = frozenset({"MAXIMUM", "MINIMUM", "SELECT", "SELECT_V2"})
#: Fused activations (RELU_N1_TO_1, RELU6) with a limit that the kernels express in steps of the output, as INT32.
_LIMITS = {2: 1.0, 3: 6.0}
LARGEST_STEPS = 2.0**30
#: A range whose shorter side is less than this share of the longer one is never made symmetric: half of its steps would
#: hold next to nothing.
SKEWED = 0.25
#: The kernels of comparisons take scales below this one.
LARGEST_COMPARED = 1.0
#: Operators that add up products.
_SUMS = frozenset({"BATCH_MATMUL", *WEIGHTED})
#: XNNPACK refuses sums of products whose steps are 256 times the output's, or more; training may still double them.
LARGEST_RATIO = 128.0


def scale_and_zero_point(low: float, high: float, dtype: np.dtype[Any] = INT8) -> tuple[float, int]:
    """Returns the scale (rounded to float32, as the flatbuffer stores it) and zero point for a range.

    The range is widened to hold zero, so that padding is exact. INT16 is symmetric: its kernels know no zero point.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype == INT16:
        return float(np.float32(max(-low, high, 1e-8) / np.iinfo(INT16).max)), 0
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
        least_scale: A range that would give a smaller scale is widened to give this one.
        limits: A range that reaches beyond is cut off there, for nothing that reads the values tells them apart.
        symmetric: Whether zero is to lie in the middle, where that costs little (see SKEWED).
        two_sided: Whether it has to reach as far below zero as above, whatever that costs.
        dtype: INT8 or INT16.
    """

    tensors: tuple[int, ...]
    observed: tuple[int, ...]
    fixed: bool
    scale: float
    zero_point: int
    low: float = 0.0
    high: float = 0.0
    least_scale: float = 0.0
    limits: tuple[float, float] = (-math.inf, math.inf)
    symmetric: bool = False
    two_sided: bool = False
    dtype: np.dtype[Any] = INT8

    @property
    def qmin(self) -> int:
        """Least integer: with INT16, too, it is the type's own, although scales are made for the largest both ways."""
        return int(np.iinfo(self.dtype).min)

    @property
    def qmax(self) -> int:
        """Largest integer."""
        return int(np.iinfo(self.dtype).max)

    def set_range(self, low: float, high: float) -> None:
        """Takes a new range and works out scale and zero point from it.

        Raises:
            DivergedError: It is not finite, which happens when training diverges.
        """
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DivergedError(
                "the activations are not finite any more: training has diverged. "
                "Try a smaller quantize.train.learning_rate or clip_norm."
            )
        self.low, self.high = self.cut(low, high)
        if self.fixed:
            return
        self.scale, self.zero_point = self.grid(self.low, self.high)
        self.scale = max(self.scale, self.least_scale)  # zero lies at the same share of a range widened on both sides

    def cut(self, low: float, high: float) -> tuple[float, float]:
        """Returns a range without what lies beyond the limits."""
        least, most = self.limits
        return float(min(max(low, least), most)), float(max(min(high, most), least))

    def grid(self, low: float, high: float) -> tuple[float, int]:
        """Returns scale and zero point for a range."""
        narrow, wide = sorted((-low, high))
        if self.dtype == INT8 and (self.two_sided or (self.symmetric and narrow >= SKEWED * wide)):
            return float(np.float32(max(wide, 1e-8) / QMAX)), 0
        return scale_and_zero_point(low, high, self.dtype)

    def set_scale(self, scale: float) -> None:
        """Takes a scale with the zero point as it is; the range follows."""
        self.scale = float(np.float32(max(scale, self.least_scale, 1e-10)))
        self.low, self.high = (self.qmin - self.zero_point) * self.scale, (self.qmax - self.zero_point) * self.scale

    def follow(self, low: float, high: float, momentum: float) -> None:
        """Moves the range towards what a batch held, by a moving average."""
        self.set_range(self.low + momentum * (low - self.low), self.high + momentum * (high - self.high))

    def integers(self, values: NDArray[np.floating[Any]]) -> NDArray[np.integer[Any]]:
        """Returns the integers that stand for real values, clipped to what the type holds."""
        steps = np.rint(values.astype(np.float64) / self.scale) + self.zero_point
        integers: NDArray[np.integer[Any]] = np.clip(steps, self.qmin, self.qmax).astype(self.dtype)
        return integers

    def name(self, graph: Graph) -> str:
        """Returns the name of the first tensor, which stands for all."""
        return graph.tensors[self.tensors[0]].name

    def as_dict(self) -> dict[str, Any]:
        """Returns the range and what it gave, as plain JSON values."""
        limits = [limit if math.isfinite(limit) else None for limit in self.limits]
        found = {"low": self.low, "high": self.high, "scale": self.scale, "zero_point": self.zero_point}
        return {**found, "limits": limits} if limits != [None, None] else found

    def restore(self, entry: Mapping[str, Any]) -> None:
        """Takes what `as_dict` gave."""
        self.low, self.high = float(entry["low"]), float(entry["high"])
        self.scale, self.zero_point = float(entry["scale"]), int(entry["zero_point"])
        low, high = entry.get("limits", (None, None))
        self.limits = (-math.inf if low is None else float(low), math.inf if high is None else float(high))


def find_groups(graph: Graph) -> list[RangeGroup]:
    """Returns the range groups of a quantized graph, in the order of their first tensor.

    Tensors joined by an operator that only passes values on share a group where the quantizer gave them the same
    scale, as the kernels of those operators require.
    """
    members, passed_on = _join(graph)
    fixed = {n for node in graph.nodes if node.op in FIXED_OUTPUT for n in node.outputs}
    groups = []
    for tensors in members:
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
                dtype=first.dtype,
            )
        )
    return groups


def ranges_as_json(graph: Graph, groups: list[RangeGroup]) -> list[dict[str, Any]]:
    """Returns the ranges as plain JSON values, one per group, named by their first tensor."""
    return [{"tensor": group.name(graph), **group.as_dict()} for group in groups]


def restore_ranges(graph: Graph, groups: list[RangeGroup], entries: list[dict[str, Any]]) -> None:
    """Takes ranges that `ranges_as_json` gave, matched by tensor name.

    Raises:
        ModelError: They are of another flatbuffer.
    """
    by_name = {entry["tensor"]: entry for entry in entries}
    for group in groups:
        entry = by_name.get(group.name(graph))
        if entry is None:
            raise ModelError(f"no range for tensor {group.name(graph)}")
        group.restore(entry)


def floor_scales(
    graph: Graph,
    groups: list[RangeGroup],
    group_of: Mapping[int, int],
    weight_step: Callable[[int], float | None],
) -> None:
    """Widens the ranges of means, products and sums of products that are finer than what their inputs can make.

    The mean of n steps is a multiple of 1/n step and a product one of the product of both steps: a finer scale holds
    nothing but rounding, and its ratio to theirs overflows the kernels' arithmetic. It comes up where a layer norm
    follows another one: the mean is zero but for the last bits of floating point. Sums of products that are all but
    zero come up where a layer reads what never changes: LARGEST_RATIO holds for them. Outputs of a fused RELU6 are
    widened where 6 would not fit INT32 (`no_integer_overflow_from_quantization`): all channels are dead.

    Args:
        graph: The graph.
        groups: Its range groups; changed in place.
        group_of: Activation -> number of its group.
        weight_step: Returns the largest scale of a tensor's, if it is a weight.
    """
    floors: dict[int, float] = {}
    for node in graph.nodes:
        k = group_of.get(node.outputs[0])
        least = _least_step(node, groups, group_of, weight_step) if k is not None else None
        if k is not None and least is not None:
            floors[k] = max(floors.get(k, 0.0), least)
            groups[k].least_scale = float(np.float32(floors[k]))
            groups[k].set_range(groups[k].low, groups[k].high)


def cut_logarithms(graph: Graph, groups: list[RangeGroup], group_of: Mapping[int, int]) -> None:
    """Ends the range of a logarithm where its input's first step ends: what lies below is the logarithm of zero.

    Args:
        graph: The graph.
        groups: Its range groups; changed in place.
        group_of: Activation -> number of its group.
    """
    for node in graph.nodes:
        source, sink = group_of.get(node.inputs[0]) if node.inputs else None, group_of.get(node.outputs[0])
        if node.op == "LOG" and source is not None and sink is not None and not groups[sink].fixed:
            least = math.log(groups[source].scale / 2)
            groups[sink].limits = (max(least, groups[sink].limits[0]), groups[sink].limits[1])
            groups[sink].set_range(groups[sink].low, groups[sink].high)


def check_comparisons(graph: Graph, groups: list[RangeGroup], group_of: Mapping[int, int]) -> None:
    """Lets scales pass that the kernels of comparisons take: LiteRT ends the process at others.

    Raises:
        ModelError: One is too large; the layer is named.
    """
    for node in graph.nodes if any(node.op in COMPARING for node in graph.nodes) else ():
        for n in node.inputs if node.op in COMPARING else ():
            low, high = _held(graph.tensors[n], groups[group_of[n]] if n in group_of else None)
            if high - low >= LARGEST_COMPARED * (QMAX - QMIN):
                raise ModelError(
                    f"{node.op} (layer {node.label}) compares values from {low:.4g} to {high:.4g}; its INT8 kernel "
                    "takes a range of 255 at most. Scale the values down in front of it."
                )


def _held(spec: TensorSpec, group: RangeGroup | None) -> tuple[float, float]:
    """Returns what the grid of an activation or a constant holds, from where to where; floats and integers: nothing."""
    if group is None and not spec.quantized:
        return 0.0, 0.0
    scale, zero_point = (group.scale, group.zero_point) if group is not None else (spec.scale[0], spec.zero_point[0])
    return (QMIN - int(zero_point)) * float(scale), (QMAX - int(zero_point)) * float(scale)


def _least_step(
    node: Node, groups: list[RangeGroup], group_of: Mapping[int, int], weight_step: Callable[[int], float | None]
) -> float | None:
    """Returns the least scale of a node's output that means anything, None where any does."""
    found = [_LIMITS[code] / LARGEST_STEPS] if (code := node.options.get("fusedActivationFunction")) in _LIMITS else []
    inputs = [n for n in node.inputs if n >= 0]
    steps = [groups[group_of[n]].scale if n in group_of else None for n in inputs]
    if node.op in _SUMS and groups[group_of[node.outputs[0]]].dtype == INT8:
        steps = [weight_step(n) if step is None else step for n, step in zip(inputs[:2], steps, strict=False)]
    known = [step for step in steps if step is not None]
    if node.op == "MEAN" and known:
        found.append(known[0] * math.prod(node.output_shapes[0]) / max(math.prod(node.input_shapes[0]), 1))
    elif node.op == "MUL" and len(known) == len(steps):
        found.append(math.prod(known))
    elif node.op in _SUMS and len(known) == len(steps) == 2:  # noqa: PLR2004 - values and weights, or both values
        found.append(math.prod(known) / LARGEST_RATIO)
    return max(found, default=None)


def _join(graph: Graph) -> tuple[list[list[int]], set[int]]:
    """Returns the tensors that carry one scale, group by group, and those that bring no values of their own."""
    # A constant that is only passed on (the value a PADV2 fills in, say) must carry the scale of its group too.
    passed = {n for node in graph.nodes if node.op in PASS_THROUGH for n in node.inputs if n >= 0}
    # Those that become part of the output have to fit its range; a fill value may as well be minus infinity.
    joined = {n for node in graph.nodes if node.op in _JOINING for n in node.inputs}
    parent = {
        n: n
        for n, t in enumerate(graph.tensors)
        if t.dtype in (INT8, INT16) and len(t.scale) == 1 and (t.constant is None or n in passed)
    }

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    def same(a: int, b: int) -> bool:
        x, y = graph.tensors[a], graph.tensors[b]
        return x.dtype == y.dtype and bool(x.scale[0] == y.scale[0]) and bool(x.zero_point[0] == y.zero_point[0])

    # What is put in place of a value may lie beyond all values, and may never be chosen.
    chosen = {n for node in graph.nodes if node.op in _CHOOSING and _has_constant(graph, node) for n in node.outputs}
    passed_on = {n for n in parent if graph.tensors[n].constant is not None and n not in joined}
    pairs = ((a, b) for node in graph.nodes if node.op in PASS_THROUGH for a in node.inputs for b in node.outputs)
    for a, b in pairs:
        if a in parent and b in parent and same(a, b):
            parent[root(b)] = root(a)
            if b not in chosen:
                passed_on.add(b)
    members: dict[int, list[int]] = {}
    for n in parent:
        members.setdefault(root(n), []).append(n)
    return sorted(sorted(tensors) for tensors in members.values()), passed_on


def _has_constant(graph: Graph, node: Node) -> bool:
    return any(n >= 0 and graph.tensors[n].constant is not None and graph.tensors[n].quantized for n in node.inputs)
