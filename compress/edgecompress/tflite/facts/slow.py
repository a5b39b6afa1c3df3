"""Operators whose INT8 kernel in LiteRT is slower than the float32 one.

Measured by benchmarks/runtimes/operator_speeds.py (docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Iterable

#: Below this ratio the difference is that of two runs.
LEAST_RATIO = 1.1
#: Operator -> how many times as long its INT8 kernel takes as its float32 one: one thread on x86-64 with AVX512, maps
#: of 56x56 with 32 channels where the operator has maps.
SLOWER_IN_INT8: dict[str, float] = {}


def slower_in_int8(ops: Iterable[str]) -> dict[str, float]:
    """Returns which of some operators are slower in INT8 than in float32, and how many times, the slowest first.

    Args:
        ops: Names of the schema, in any order; the others of them are as fast or faster, or were not measured.
    """
    found = {op: SLOWER_IN_INT8[op] for op in ops if op in SLOWER_IN_INT8}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
