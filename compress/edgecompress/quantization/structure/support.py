"""Which operators become integers: what the quantizer has a rule for, and what is brought back from float."""

from __future__ import annotations

import functools
from typing import Literal

from edgecompress.quantization.graph.ops import COMPARING
from edgecompress.quantization.structure.islands import EMBEDDING, FIXED_GRID, OWN_SCALE, SAME_SCALE
from edgecompress.quantization.structure.quantizer import known_operators


def becomes_integer(op: str, activations: Literal["int8", "int16"]) -> bool:
    """Returns whether an operator of a float model can have such activations in its quantized one."""
    return op in integer_operators(activations)


@functools.cache
def integer_operators(activations: Literal["int8", "int16"]) -> frozenset[str]:
    """Returns the operators that can have such activations, by the schema's names."""
    brought_back = {*OWN_SCALE, *SAME_SCALE, *FIXED_GRID, *COMPARING} if activations == "int8" else set[str]()
    return known_operators(activations) | brought_back | {EMBEDDING}
