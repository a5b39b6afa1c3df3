"""Which operators become integers: what the quantizer has a rule for, and what is brought back from float."""

from __future__ import annotations

import functools
from typing import Literal

from edgecompress.quantization.structure.islands import EMBEDDING, FIXED_GRID, OWN_SCALE, SAME_SCALE

#: The quantizer's name of an operator -> the schema's, where it has another one there.
_IN_SCHEMA = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV"}


def becomes_integer(op: str, activations: Literal["int8", "int16"]) -> bool:
    """Returns whether an operator of a float model can have such activations in its quantized one."""
    return op in integer_operators(activations)


@functools.cache
def integer_operators(activations: Literal["int8", "int16"]) -> frozenset[str]:
    """Returns the operators that can have such activations, by the schema's names."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.default_policy import DEFAULT_CONFIG_CHECK_POLICY

    bits = {"int8": 8, "int16": 16}[activations]
    known = {
        _IN_SCHEMA.get(op.value, op.value)
        for op, configs in DEFAULT_CONFIG_CHECK_POLICY.items()
        for config in configs
        if config.compute_precision == qtyping.ComputePrecision.INTEGER
        and config.activation_tensor_config is not None
        and config.activation_tensor_config.num_bits == bits
    }
    brought_back = {*OWN_SCALE, *SAME_SCALE, *FIXED_GRID} if activations == "int8" else set[str]()
    return frozenset(known | brought_back | {EMBEDDING})
