"""One range for all steps of a recurrent layer: each computes with the same integers as the others.

The whole sequence then gives what one step gives that is repeated, its state handed on as raw integers; and the file
is smaller, since the steps share their biases and scales.
"""

from __future__ import annotations

import re

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from compress.quantization.graph import Graph
from compress.quantization.ops import WEIGHTED
from compress.quantization.ranges import RangeGroup, find_groups
from compress.quantization.readers import mark_readers
from compress.tflite.views import op_name

#: A layer's name with such a part is called once for each step.
_STEP = re.compile(r"(^|\.)step(_[a-z]+)?\.")
#: What labels have behind the path of a module: the operator, and which one of several.
_NUMBER = re.compile(r"#\d+$")
#: Operators that hand on what they got: their outputs belong to whoever made it.
_MOVING = frozenset({"DEQUANTIZE", "QUANTIZE", "RESHAPE", "SLICE", "STRIDED_SLICE"})


def step_key(label: str, op: str) -> str | None:
    """Returns what an operator of a step has in common with the same one of other steps, None outside of steps.

    It is the module: the operator's name may differ at the start, where a state of zeros is made.
    """
    label = _NUMBER.sub("", label)
    return label.removesuffix(f".{op.lower()}") if _STEP.search(label) is not None else None


def share_biases(model: schema.ModelT, labels: list[str]) -> int:
    """Lets the steps of a quantized flatbuffer share one bias where they share their weights; returns how many did.

    The quantizer makes a copy for each scale that the input has; with one scale for all steps there is one bias, which
    training then moves for all of them.
    """
    first: dict[tuple[str, int], int] = {}
    shared = 0
    for operator, label in zip(model.subgraphs[0].operators, labels, strict=True):
        key = step_key(label, op_name(model, operator))
        if key is None or op_name(model, operator) not in WEIGHTED or len(operator.inputs) < 3:  # noqa: PLR2004
            continue
        _, weight, bias = map(int, operator.inputs)
        one = first.setdefault((key, weight), bias)
        if bias not in (one, -1):
            operator.inputs = np.array([operator.inputs[0], weight, one], np.int32)
            shared += 1
    return shared


def tied_groups(graph: Graph) -> list[RangeGroup]:
    """Returns the range groups of a quantized graph, those of the same operator in all steps as one."""
    groups = find_groups(graph)
    of_tensor = {n: k for k, group in enumerate(groups) for n in group.tensors}
    first: dict[str, int] = {}
    into = list(range(len(groups)))

    def root(k: int) -> int:
        while into[k] != k:
            k = into[k]
        return k

    for node in graph.nodes:
        key = step_key(node.label, node.op)
        if key is None or node.op in _MOVING:
            continue
        for place, n in enumerate(node.outputs):
            if n in of_tensor:
                mine, shared = root(of_tensor[n]), root(first.setdefault(f"{key}:{place}", of_tensor[n]))
                if groups[mine].dtype == groups[shared].dtype:
                    into[max(mine, shared)] = min(mine, shared)
    members: dict[int, list[RangeGroup]] = {}
    for k, group in enumerate(groups):
        members.setdefault(root(k), []).append(group)
    found = [_together(some) for _, some in sorted(members.items())]
    mark_readers(graph, found)
    return found


def _together(groups: list[RangeGroup]) -> RangeGroup:
    first = groups[0]
    if len(groups) == 1:
        return first
    return RangeGroup(
        tensors=tuple(sorted(n for group in groups for n in group.tensors)),
        observed=tuple(sorted(n for group in groups for n in group.observed)),
        fixed=any(group.fixed for group in groups),
        scale=first.scale,
        zero_point=first.zero_point,
        low=first.low,
        high=first.high,
        dtype=first.dtype,
    )
