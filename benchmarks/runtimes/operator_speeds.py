"""What every INT8 operator takes in LiteRT beside the float32 one.

    python -m benchmarks.runtimes.operator_speeds  # on a quiet machine; finished rows are skipped

One operator a file, one thread, maps of 1x56x56x32 where the operator has maps. The INT8 and the float32 file take
turns; medians of 101 runs, in microseconds. Operators without an INT8 kernel have no row.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.runtimes import operator_cases, operator_cases_maps
from benchmarks.runtimes.operator_arithmetic import UNARY
from benchmarks.runtimes.operator_cases import FIXED, bias, free, q8, weights
from benchmarks.runtimes.operator_files import Case, Made, make
from benchmarks.table import RESULTS, Table
from edgecompress.errors import ModelError
from edgecompress.machine import cpu_name

COLUMNS = ("op", "variant", "int8_us", "float_us", "ratio", "cpu")
SHAPE = (1, 56, 56, 32)
RUNS, BUDGET_S = 101, 4.0
#: Operator -> what the variant that is timed contains, where the first one is not what networks have.
TYPICAL = {
    "AVERAGE_POOL_2D": "2x2, stride 2, VALID",
    "CONV_2D": "3x3, stride 1, dilation 1, SAME",
    "DEPTHWISE_CONV_2D": "multiplier 1, 3x3, stride 1, dilation 1, SAME",
    "MAX_POOL_2D": "2x2, stride 2, VALID",
    "PRELU": "two scales, channels, constant",
    "QUANTIZE": "ratio 0.5",
    "RESIZE_BILINEAR": "to 112x112, half",
    "RESIZE_NEAREST_NEIGHBOR": "to 112x112",
    "TRANSPOSE": "channels first",
    "TRANSPOSE_CONV": "2x2, stride 2, SAME",
}


def large() -> Iterator[Case]:
    """Gives what has no maps, in the sizes of a small transformer: four heads, 128 tokens."""
    heads, width, hidden = 4, 128, 512
    scores = q8((1, heads, width, width), 0.1, 5)
    for op in ("SOFTMAX", "LOG_SOFTMAX"):
        yield Case(op, "4x128x128", (scores,), (q8(scores.shape, *FIXED[op]),), UNARY[op],
                   {"beta": 1.0} if op == "SOFTMAX" else {})  # fmt: skip
    yield Case("BATCH_MATMUL", "4x128x64 by 4x64x128", (q8((1, heads, width, 64)), q8((1, heads, 64, width), 0.03, 9)),
               (free(scores.shape),), np.matmul, {}, "BatchMatMulOptions")  # fmt: skip
    table = weights((hidden, hidden), 0)
    yield Case("FULLY_CONNECTED", "128x512 to 512", (q8((width, hidden)), table, bias(table, 0.05, hidden)),
               (free((width, hidden)),), lambda x, w, b: x @ w.T + b)  # fmt: skip


def timed_cases() -> Iterator[Case]:
    """Gives one allowed case an operator."""
    seen: set[str] = set()
    found = chain(
        large(), operator_cases.unary(SHAPE), operator_cases.more_unary(), operator_cases.binary(SHAPE),
        operator_cases.reducing(SHAPE), operator_cases_maps.weighted(SHAPE), operator_cases_maps.pools(SHAPE),
        operator_cases_maps.moving(SHAPE), operator_cases_maps.split(SHAPE),
    )  # fmt: skip
    for case in found:
        typical = TYPICAL.get(case.op, "")
        # Both files convert nothing: DEQUANTIZE has no float32 counterpart, and QUANTIZE none either.
        if case.op in seen or not case.allowed or typical not in case.variant or case.op in ("DEQUANTIZE", "QUANTIZE"):
            continue
        seen.add(case.op)
        yield case


def times(made: dict[str, Made]) -> dict[str, float]:
    """Returns the median microseconds of each file, all taking turns."""
    interpreters = {}
    for name, one in made.items():
        for content in one.content:
            try:
                interpreter = Interpreter(model_content=content, num_threads=1)
                interpreter.allocate_tensors()
                for details, values in zip(interpreter.get_input_details(), one.inputs, strict=True):
                    interpreter.set_tensor(details["index"], values)
                interpreter.invoke()
            except (RuntimeError, ValueError) as error:
                failed: Exception = error
            else:
                interpreters[name] = interpreter
                break
        else:
            raise ModelError(f"{name}: {failed}")
    taken: dict[str, list[float]] = {name: [] for name in made}
    begun = time.perf_counter()
    for _ in range(RUNS):
        for name, interpreter in interpreters.items():
            start = time.perf_counter()
            interpreter.invoke()
            taken[name].append(1e6 * (time.perf_counter() - start))
        if time.perf_counter() - begun > BUDGET_S:
            break
    return {name: median(values) for name, values in taken.items()}


def in_a_child(case: Case) -> dict[str, float]:
    """Returns the times of a case, measured in a process of its own; {} where there is no kernel."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "times.json")
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                found = times({"int8": make(case), "float32": make(case, floating=True)})
                answer.write_text(json.dumps(found))
            except (ModelError, RuntimeError, ValueError):
                pass
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        return json.loads(answer.read_text()) if answer.is_file() else {}


def main() -> None:
    """Measures what is missing and prints the table."""
    table = Table(RESULTS / "operator_speeds.csv", COLUMNS)
    for case in timed_cases():
        if table.done(case.op, 0):
            continue
        found = in_a_child(case)
        if not found:
            print(f"{case.name}: not in both types", file=sys.stderr)
            continue
        ratio = found["int8"] / found["float32"]
        table.append(
            case.op, 0, op=case.op, variant=case.variant, int8_us=f"{found['int8']:.1f}",
            float_us=f"{found['float32']:.1f}", ratio=f"{ratio:.2f}", cpu=cpu_name() or platform.machine(),
        )  # fmt: skip
    table.show("operator", COLUMNS[2:5])


if __name__ == "__main__":
    main()
