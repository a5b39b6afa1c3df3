"""Warnings of INT8 kernels that compute something else than the operator they are for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ai_edge_litert import schema_py_generated as schema

from edgecompress.stages.base import Workbench
from edgecompress.tflite.facts.kernels import WrongOperator, wrong_operators
from edgecompress.tflite.runtime.proof import REFERENCE
from edgecompress.wording import counted

#: Layers that a warning names, of those that have one fault.
NAMED_LAYERS = 3


def warn_of_wrong_kernels(
    bench: Workbench, model: schema.ModelT, labels: Sequence[str], runtimes: Iterable[str]
) -> None:
    """Warns of operators that a runtime is known to compute wrongly.

    Args:
        bench: The run.
        model: The shipped flatbuffer.
        labels: Layer name of each operator of its first graph.
        runtimes: Names of `RUNTIMES`.
    """
    for runtime in dict.fromkeys(runtimes):
        found: dict[str, list[WrongOperator]] = {}
        for one in wrong_operators(model, runtime):
            found.setdefault(one.kernel.op, []).append(one)
        for op, ones in found.items():
            layers = [labels[one.index] for one in ones if one.subgraph == 0]
            named = ", ".join(layers[:NAMED_LAYERS]) + (", ..." if len(layers) > NAMED_LAYERS else "")
            kernel, times = ones[0].kernel, counted(len(ones), "time")
            other = "" if runtime == REFERENCE else f", or do not use the flatbuffer on {runtime}"
            bench.ctx.warn(
                f"The INT8 kernel of {op} on {runtime} is wrong by up to {kernel.max_steps} of 255 steps: "
                f"{kernel.fault}. The flatbuffer has {op} {times}{f' ({named})' if named else ''}: build it from "
                f"other operators{other}."
            )
