"""INT8 kernels that compute something else than their operator: more than one step off exact arithmetic.

Measured by benchmarks/runtimes/operators.py, on random integers over the whole range (docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from edgecompress.tflite.format.views import GraphView, OpInfo, graph_views


def _grid(graph: GraphView, number: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    return graph.tensors[number].scale, graph.tensors[number].zero_point


def _always(_graph: GraphView, _op: OpInfo) -> bool:
    return True


def _other_grid(graph: GraphView, op: OpInfo) -> bool:
    """Whether input and output have different scales or zero points."""
    return _grid(graph, op.inputs[0]) != _grid(graph, op.outputs[0])


def _zero_point(graph: GraphView, op: OpInfo) -> bool:
    """Whether the integer 0 is not the number 0."""
    return any(graph.tensors[op.outputs[0]].zero_point)


@dataclass(frozen=True)
class WrongKernel:
    """A kernel that computes wrongly.

    Attributes:
        op: The operator.
        runtimes: Names of `RUNTIMES` whose kernel it is.
        max_steps: The largest difference that was measured, of 255 steps.
        fault: What it does, in words.
        hits: Whether it concerns an operator of a graph.
    """

    op: str
    runtimes: tuple[str, ...]
    max_steps: int
    fault: str
    hits: Callable[[GraphView, OpInfo], bool] = _always


@dataclass(frozen=True)
class WrongOperator:
    """An operator of a file that a runtime computes wrongly.

    Attributes:
        subgraph: Where it is; 0 is the model's own graph.
        index: Its place in the order of execution.
        kernel: What is known of its kernel.
    """

    subgraph: int
    index: int
    kernel: WrongKernel


_RAW = "it works on the integers as they are, whatever their scales and zero points"
_ZERO = "it fills with the integer 0"
#: The measured faults. Runtimes that refuse an operator are not named.
WRONG_KERNELS = (
    WrongKernel("ADD_N", ("tflite-micro",), 3, "its sums are off by the zero point", _zero_point),
    WrongKernel(
        "DIV", ("litert", "tensorflow", "tflite-micro"), 143,
        "quotients below half a step, most below a quarter, come out as the least or the largest integer",
    ),
    WrongKernel("FLOOR_DIV", ("litert", "tensorflow", "tflite-runtime"), 129, _RAW),
    WrongKernel("FLOOR_MOD", ("litert", "tensorflow", "tflite-runtime"), 226, _RAW),
    WrongKernel("NEG", ("litert", "tensorflow"), 255, f"{_RAW}, and leaves -128 as it is"),
    WrongKernel("RELU6", ("tflite-micro",), 170, "it takes the output's scale for the input's", _other_grid),
    WrongKernel("SCATTER_ND", ("litert", "tensorflow", "tflite-runtime"), 3, _ZERO, _zero_point),
    WrongKernel("SIGN", ("tflite-runtime",), 255, _RAW),
    WrongKernel("SUM", ("tensorflow",), 255, "its sums are scaled wrongly"),
    WrongKernel("ZEROS_LIKE", ("tflite-micro",), 128, _ZERO, _zero_point),
)  # fmt: skip


def wrong_operators(model: schema.ModelT, runtime: str) -> list[WrongOperator]:
    """Returns the INT8 operators of a file that a runtime is known to compute wrongly.

    Args:
        model: As `read_model` gave it.
        runtime: A name of `RUNTIMES`.
    """
    known: dict[str, WrongKernel] = {kernel.op: kernel for kernel in WRONG_KERNELS if runtime in kernel.runtimes}
    return [
        WrongOperator(number, op.index, known[op.op])
        for number, graph in enumerate(graph_views(model))
        for op in graph.ops
        if op.op in known and graph.tensors[op.outputs[0]].dtype == "int8" and known[op.op].hits(graph, op)
    ]
