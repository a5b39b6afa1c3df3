"""Operators whose INT8 kernel in LiteRT is slower than the float32 one.

Measured by benchmarks/runtimes/operator_speeds.py (docs/kernels.md).
"""

from __future__ import annotations

from collections.abc import Iterable

#: Below this ratio the difference is that of two runs.
LEAST_RATIO = 1.1
#: Operator -> how many times as long its INT8 kernel takes as its float32 one: one thread on x86-64 with AVX512, maps
#: of 56x56 with 32 channels where the operator has maps, 4 heads of 128 tokens for BATCH_MATMUL and SOFTMAX.
SLOWER_IN_INT8: dict[str, float] = {
    "ABS": 25.1,
    "ADD": 1.3,
    "ARG_MIN": 1.9,
    "AVERAGE_POOL_2D": 10.6,
    "BATCH_MATMUL": 16.9,
    "DEPTHWISE_CONV_2D": 2.1,
    "DIV": 85.4,
    "EQUAL": 15.3,
    "GELU": 1.1,
    "GREATER": 13.9,
    "GREATER_EQUAL": 12.3,
    "HARD_SWISH": 17.6,
    "L2_NORMALIZATION": 12.1,
    "LESS": 11.5,
    "LESS_EQUAL": 10.7,
    "MIRROR_PAD": 1.2,
    "MUL": 2.0,
    "NOT_EQUAL": 11.0,
    "PADV2": 2.8,
    "PRELU": 55.0,
    "REDUCE_PROD": 2.8,
    "RELU": 78.4,
    "RELU6": 85.3,
    "RELU_0_TO_1": 67.4,
    "RELU_N1_TO_1": 83.9,
    "RESIZE_BILINEAR": 1.5,
    "RSQRT": 165.0,
    "SELECT": 7.0,
    "SELECT_V2": 7.2,
    "SOFTMAX": 6.4,
    "SQRT": 10.6,
    "SQUARED_DIFFERENCE": 55.6,
    "SUB": 1.3,
    "TRANSPOSE_CONV": 5.0,
}


def slower_in_int8(ops: Iterable[str]) -> dict[str, float]:
    """Returns which of some operators are slower in INT8 than in float32, and how many times, the slowest first.

    Args:
        ops: Names of the schema, in any order; the others of them are as fast or faster, or were not measured.
    """
    found = {op: SLOWER_IN_INT8[op] for op in ops if op in SLOWER_IN_INT8}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
