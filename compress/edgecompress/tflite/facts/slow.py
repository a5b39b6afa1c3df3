"""Operators whose INT8 kernel takes longer than their float32 one."""

from __future__ import annotations

from collections.abc import Iterable

#: Operator -> how many times as long, in LiteRT 2.3 on one thread (docs/kernels.md); those up to 1.1 are left out.
SLOWER: dict[str, float] = {}


def slower_in_int8(ops: Iterable[str]) -> dict[str, float]:
    """Returns those of some operators that are slower in INT8 than in float32, and how many times."""
    return {op: SLOWER[op] for op in ops if op in SLOWER}
