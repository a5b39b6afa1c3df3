"""A flatbuffer against its twin, layer by layer and answer by answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.quantization.graph.graph import Node, operands, tensor_values
from edgecompress.quantization.grids.ranges import INT8
from edgecompress.quantization.twin.twin import Twin
from edgecompress.quantization.twin.writing import float_constants
from edgecompress.tflite.format.sparse import densified
from edgecompress.tflite.format.tidy import BEYOND
from edgecompress.tflite.runtime.plain import Keeper, kept_tensors

#: An operator computes what the twin computes when its outputs are within this many steps ...
TOLERANCE_STEPS = 1.01
#: ... for all but this share of them. Fixed-point kernels round otherwise than floating point in rare ties.
OUTLIER_SHARE = 0.01
#: Differences are told up to here: between infinity and a number there is no telling.
MOST_STEPS = 1e6
#: An answer is clear where the reference's two largest outputs differ by more than one step (and what float32 blurs).
CLEAR_STEPS = 1.01
#: Numbers are the same answer within this many steps (and what float32 blurs).
SAME_STEPS = 2.01
ANSWERS_AT_A_TIME, MOST_RANKED = 4096, 8_000_000
#: Units of difference: of the largest float output, the same where inputs are quantized on the fly; in INT16 steps.
FLOAT_SHARE, DYNAMIC_SHARE, WIDE_STEPS = 1e-3, 1.0 / 127.0, 32.0


@dataclass(frozen=True)
class LayerDifference:
    """How far one operator of the flatbuffer is from the twin, both given the flatbuffer's own inputs.

    Attributes:
        index: Position of the operator in the twin's graph.
        layer: Layer name.
        op: Operator name.
        max_steps: Largest difference, in steps of the output's scale.
        mean_steps: Mean difference.
        outlier_share: Share of values further off than the tolerance.
        weights_differ: Whether the stored weights or biases are not the twin's.
    """

    index: int
    layer: str
    op: str
    max_steps: float
    mean_steps: float
    outlier_share: float
    weights_differ: bool

    @property
    def differs(self) -> bool:
        """Whether the operator does not compute what the twin computes."""
        return self.weights_differ or self.outlier_share > OUTLIER_SHARE


def first_difference(layers: list[LayerDifference]) -> LayerDifference | None:
    """Returns the first operator that differs, in execution order."""
    return next((layer for layer in layers if layer.differs), None)


def compare_layers(
    twin: Twin, shipped: schema.ModelT, content: bytes, samples: NDArray[Any], keeper: Keeper = kept_tensors
) -> list[LayerDifference]:
    """Returns one difference per operator of the twin, in execution order.

    Every operator is judged alone: the twin computes it from the inputs that the flatbuffer itself had, so a fault
    shows where it is and not in the layers behind it.

    Args:
        twin: The reference.
        shipped: The flatbuffer, unpacked. Operators that only convert the input or output type, or
            expand sparse weights, are passed over.
        content: The flatbuffer's bytes.
        samples: (N, ...) inputs in the flatbuffer's layout, not quantized.
        keeper: What runs the flatbuffer.

    Raises:
        ValueError: The flatbuffer has other operators than the twin, or ones that cannot be run.
    """
    shipped = densified(shipped)
    numbers = match_tensors(twin, shipped)
    wanted = sorted({numbers[n] for n in _activations(twin, numbers)})
    differ = _constants_differ(twin, shipped, numbers)
    totals = {node.index: [0.0, 0.0, 0, 0] for node in twin.graph.nodes}
    delegated = twin.dynamic
    # Only XNNPACK quantizes the input of a convolution row by row, and it is not asked here.
    twin.dynamic = {index: twin.graph.nodes[index].op == "FULLY_CONNECTED" for index in delegated}
    try:
        with torch.no_grad(), twin.settled():
            for kept in keeper(content, samples, wanted):
                values = _real(twin, numbers, kept)
                for node in twin.graph.nodes:
                    _judge(twin, node, values, totals[node.index])
    finally:
        twin.dynamic = delegated
    return [
        LayerDifference(
            node.index,
            node.label,
            node.op,
            max_steps=totals[node.index][0],
            mean_steps=totals[node.index][1] / max(totals[node.index][3], 1),
            outlier_share=totals[node.index][2] / max(totals[node.index][3], 1),
            weights_differ=node.index in differ,
        )
        for node in twin.graph.nodes
    ]


def match_tensors(twin: Twin, shipped: schema.ModelT) -> dict[int, int]:
    """Returns the shipped flatbuffer's tensor number for each of the twin's.

    Raises:
        ValueError: The operators are not the same.
    """
    graph = shipped.subgraphs[0]
    operators = list(graph.operators)
    nodes = twin.graph.nodes
    if (
        len(operators) > len(nodes)
        and len(operators[0].inputs) == 1
        and int(operators[0].inputs[0]) == int(graph.inputs[0])
    ):
        operators = operators[1:]  # QUANTIZE of the input
    operators = operators[: len(nodes)]
    numbers: dict[int, int] = {}
    for node, operator in zip(nodes, operators, strict=True):
        mine = (*node.inputs, *node.outputs)
        theirs = (*operands(node.op, operator.inputs), *operator.outputs)
        if len(mine) != len(theirs):
            raise ValueError(f"operator {node.index} ({node.label}) has other tensors than the twin's")
        for a, b in zip(mine, theirs, strict=True):
            if a >= 0 and numbers.setdefault(a, int(b)) != int(b):
                raise ValueError(f"operator {node.index} ({node.label}) is wired otherwise than the twin's")
    return numbers


def _real(twin: Twin, numbers: dict[int, int], kept: dict[int, NDArray[Any]]) -> dict[int, torch.Tensor]:
    """Returns the twin's activations as the flatbuffer has them, from its raw values."""
    values = {}
    for n in _activations(twin, numbers):
        raw = kept[numbers[n]]
        if n in twin.group_of:
            group = twin.groups[twin.group_of[n]]
            raw = ((raw.astype(np.float64) - group.zero_point) * group.scale).astype(np.float32)
        values[n] = torch.from_numpy(np.array(raw))
    return values


def _activations(twin: Twin, numbers: dict[int, int]) -> list[int]:
    return [n for n, spec in enumerate(twin.graph.tensors) if spec.constant is None and n in numbers]


def _judge(twin: Twin, node: Node, values: dict[int, torch.Tensor], total: list[float]) -> None:
    outputs = twin.run_node(node, twin.arguments(node, values, torch.device("cpu")))
    for n, expected in zip(node.outputs, outputs, strict=True):
        # Masks may be infinite, and what divides zero by zero is undefined in both.
        one, other = (x.double().clamp(-BEYOND, BEYOND).nan_to_num(2 * BEYOND) for x in (expected, values[n]))
        step = _step(twin, node, n, one[one.abs() < BEYOND])
        steps = ((one - other).abs() / step).clamp(max=MOST_STEPS)
        total[0] = max(total[0], float(steps.max()))
        total[1] += float(steps.sum())
        total[2] += int((steps > TOLERANCE_STEPS).sum())
        total[3] += steps.numel()


def _step(twin: Twin, node: Node, n: int, expected: torch.Tensor) -> float:
    """Returns the unit that differences of an output are counted in."""
    if n not in twin.group_of:
        # Float arithmetic differs by little, inputs that were quantized on the fly by a step of theirs. Where weights
        # have four bits, the kernels asked here (not XNNPACK's) quantize inputs without a zero point.
        four_bits = node.index in twin.dynamic and twin.graph.tensors[node.inputs[1]].bits < 8  # noqa: PLR2004
        share = DYNAMIC_SHARE * (3.0 if four_bits else 1.0) if node.index in twin.dynamic else FLOAT_SHARE
        return share * ((float(expected.abs().max()) if expected.numel() else 0.0) + 1e-12)
    group = twin.groups[twin.group_of[n]]
    # Tables with linear interpolation, multipliers of 15 bits: what INT16 kernels lose is far below a step of INT8.
    return group.scale * (WIDE_STEPS if group.dtype != INT8 else 1.0)


def _constants_differ(twin: Twin, shipped: schema.ModelT, numbers: dict[int, int]) -> set[int]:
    """Returns the operators whose stored weights, biases or scales are not what the twin holds."""
    expected, floats = twin.quantized_constants(), float_constants(twin)
    tensors = shipped.subgraphs[0].tensors
    bad: set[int] = set()
    for node in twin.graph.nodes:
        for n in node.inputs:
            if n in expected and n in numbers:
                integers, scale = expected[n]
                stored = tensor_values(shipped, tensors[numbers[n]])
                same_scale = np.array_equal(np.asarray(tensors[numbers[n]].quantization.scale, np.float32), scale)
                if stored is None or not np.array_equal(stored, integers) or not same_scale:
                    bad.add(node.index)
            elif n in floats and n in numbers:
                stored = tensor_values(shipped, tensors[numbers[n]])
                if stored is None or not np.array_equal(stored, floats[n]):
                    bad.add(node.index)
        for n in node.outputs:
            if n in twin.group_of and n in numbers:
                q = tensors[numbers[n]].quantization
                group = twin.groups[twin.group_of[n]]
                if (
                    q is None
                    or q.scale is None
                    or np.float32(q.scale[0]) != np.float32(group.scale)
                    or int(q.zeroPoint[0]) != group.zero_point
                ):
                    bad.add(node.index)
    return bad


@dataclass(frozen=True)
class Agreement:
    """How often two sets of outputs give the same answer.

    Attributes:
        samples: How many answers were compared: samples, or the tokens of all of them.
        same: Share of answers with the same arg-max, in percent; of outputs that are numbers, the share of those that
            differ by two steps at most.
        clear: Share of answers whose two largest outputs in the reference differ by more than one output step, in
            percent; 100 for numbers.
        clear_same: Share of these with the same arg-max, in percent; 100 where there is none; `same` for numbers.
        max_steps: Largest difference of an output, in steps.
        mean_steps: Mean difference.
        p999_steps: 99.9th percentile of the difference.
    """

    samples: int
    same: float
    clear: float
    clear_same: float
    max_steps: float
    mean_steps: float
    p999_steps: float


def compare_answers(
    outputs: NDArray[np.float32], reference: NDArray[np.float32], step: float, *, chooses: bool = True
) -> Agreement:
    """Returns how often `outputs` give the reference's answer.

    Args:
        outputs: (N, classes) of the flatbuffer, (N, length, vocabulary) of a language model, or (N, ...) numbers.
        reference: The same of the twin.
        step: The output's scale.
        chooses: Whether an answer is the arg-max along the last axis; else each output is a number of its own.
    """
    if not chooses:
        return _compare_numbers(outputs, reference, step)
    given, expected = (one.reshape(-1, one.shape[-1]) for one in (outputs, reference))
    equal, clear, differences = [], [], _Differences(given.size)
    for start in range(0, len(given), ANSWERS_AT_A_TIME):  # in float64 the outputs of a language model are large
        a, b = (one[start : start + ANSWERS_AT_A_TIME] for one in (given, expected))
        equal.append(a.argmax(1) == b.argmax(1))
        best = np.partition(b.astype(np.float64), -2, axis=1)[:, -2:] if b.shape[1] > 1 else None
        clear.append(np.ones(len(b), bool) if best is None else best[:, 1] - best[:, 0] > CLEAR_STEPS * step)
        differences.add(np.abs(a.astype(np.float64) - b) / step)
    same, sure = np.concatenate(equal), np.concatenate(clear)
    return Agreement(
        samples=len(same),
        same=100.0 * float(same.mean()),
        clear=100.0 * float(sure.mean()),
        clear_same=100.0 * float(same[sure].mean()) if sure.any() else 100.0,
        **differences.figures(),
    )


def _compare_numbers(outputs: NDArray[np.float32], reference: NDArray[np.float32], step: float) -> Agreement:
    steps = np.abs(outputs.astype(np.float64) - reference) / step
    same = 100.0 * float((steps <= SAME_STEPS).mean())
    differences = _Differences(steps.size)
    differences.add(steps)
    return Agreement(len(outputs), same, 100.0, same, **differences.figures())


class _Differences:
    """Largest, mean and 99.9th percentile of differences; of very many, the percentile of some."""

    def __init__(self, count: int) -> None:
        self._count, self._every = count, max(count // MOST_RANKED, 1)
        self._largest, self._sum, self._ranked = 0.0, 0.0, list[NDArray[np.float64]]()

    def add(self, steps: NDArray[np.float64]) -> None:
        self._largest, self._sum = max(self._largest, float(steps.max())), self._sum + float(steps.sum())
        self._ranked.append(steps.ravel()[:: self._every].copy())

    def figures(self) -> dict[str, float]:
        return {
            "max_steps": self._largest,
            "mean_steps": self._sum / self._count,
            "p999_steps": float(np.quantile(np.concatenate(self._ranked), 0.999)),
        }
