"""One range for all steps of a recurrent layer: each computes with the same integers as the others.

The whole sequence then gives what one step gives that is repeated, its state handed on as raw integers; and the file
is smaller, since the steps share their biases and scales.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.graph.graph import Graph, Node
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.grids.ranges import INT8, RangeGroup, find_groups
from edgecompress.quantization.grids.readers import mark_readers
from edgecompress.tflite.format.views import CONVERSIONS, op_name

#: A layer's name with such a part is called once for each step.
_STEP = re.compile(r"(^|\.)step(_[a-z]+)?\.")
#: What labels have behind the path of a module: the operator, and which one of several.
_NUMBER = re.compile(r"#\d+$")
#: Operators that hand on what they got: their outputs belong to whoever made it.
_MOVING = frozenset({"RESHAPE", "SLICE", "STRIDED_SLICE", *CONVERSIONS})


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


def tied_groups(graph: Graph, constants: Mapping[int, torch.Tensor] | None = None) -> list[RangeGroup]:
    """Returns the range groups of a quantized graph, those of the same operator in all steps as one.

    Args:
        graph: The graph.
        constants: Tensor number -> real values, as far as they are known.
    """
    groups = find_groups(graph)
    of_tensor = {n: k for k, group in enumerate(groups) for n in group.tensors}
    maker = {n: node for node in graph.nodes for n in node.outputs}
    first: dict[str, int] = {}
    into = list(range(len(groups)))

    def root(k: int) -> int:
        while into[k] != k:
            k = into[k]
        return k

    for node in graph.nodes:
        # What is rounded of a float32 value has a range of its own, which belongs to whoever made the value.
        made = maker.get(node.inputs[0]) if node.op == "QUANTIZE" and node.inputs[0] not in of_tensor else node
        key = step_key(made.label, made.op) if made is not None else None
        if made is None or key is None or made.op in _MOVING:
            continue
        for place, n in enumerate(node.outputs):
            if n in of_tensor:
                mine, shared = root(of_tensor[n]), root(first.setdefault(f"{key}:{place}", of_tensor[n]))
                if groups[mine].dtype == groups[shared].dtype:
                    into[max(mine, shared)] = min(mine, shared)
    members: dict[int, list[RangeGroup]] = {}
    for k, group in enumerate(groups):
        members.setdefault(root(k), []).append(group)
    found = _with_increments(graph, [_together(some) for _, some in sorted(members.items())])
    mark_readers(graph, found, constants)
    return found


def _with_increments(graph: Graph, groups: list[RangeGroup]) -> list[RangeGroup]:
    """Returns the groups with what a gate adds to a state, h + u * (n - h), in the group of that state.

    On one grid the sum is exact. On two it is rounded twice, and the same way in every step: on half the state's step
    all odd numbers are ties. The state's values decide on the range; what goes further in one step gets there in two.
    """
    group_of = {n: k for k, group in enumerate(groups) for n in group.tensors}
    makers = [node for node in graph.nodes if node.op not in _MOVING]
    maker = {group_of[n]: node for node in makers for n in node.outputs if n in group_of}
    added_to: dict[int, set[int | None]] = {}
    for node in graph.nodes:
        read, state = {group_of[n] for n in node.inputs if n in group_of}, group_of.get(node.outputs[0])
        grows = node.op == "ADD" and state in read and len(read) == 2  # noqa: PLR2004 - a state and what is added
        for k in read - {state}:
            added_to.setdefault(k, set()).add(state if grows else None)
    joined: set[int] = set()
    for k, states in added_to.items():
        state = states.pop()
        if state is None or states or not _is_share(k, state, maker, group_of, groups):
            continue
        tensors = tuple(sorted((*groups[state].tensors, *groups[k].tensors)))
        groups[state] = replace(groups[state], tensors=tensors, two_sided=True)
        joined.add(k)
    return [group for k, group in enumerate(groups) if k not in joined]


def _is_share(
    k: int, state: int, maker: Mapping[int, Node], group_of: Mapping[int, int], groups: list[RangeGroup]
) -> bool:
    """Returns whether values of group `k` are a gate's share of the way from a state: u * (n - h), u from 0 to 1."""
    product = maker.get(k)
    if product is None or product.op != "MUL" or groups[k].dtype != INT8 or groups[state].dtype != INT8:
        return False
    factors = [group_of.get(n, -1) for n in product.inputs]
    ops = [maker[n].op if n in maker else "" for n in factors]
    if sorted(ops) != ["LOGISTIC", "SUB"]:
        return False
    way = maker[factors[ops.index("SUB")]]
    return group_of.get(way.inputs[1]) == state


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
