"""Which integers a model is stored and computed in, and the quantizer's instructions for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.structure.quantizer import EVERY, OUTPUT, Instruction
from edgecompress.tflite.format.views import CONVERSIONS, OpInfo

Weights = Literal["int8", "int4"]
Activations = Literal["int8", "int16", "dynamic", "float32"]
Wide = Literal["int16", "float32"]
#: Operators whose weights may have four bits; the kernels of all others want eight.
INT4_OPS = ("CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Scheme:
    """Integers for weights and activations.

    Attributes:
        weights: `int8`, or `int4` for convolutions and linear layers (depthwise convolutions keep `int8`); symmetric,
            one scale per output channel.
        activations: `int8` (asymmetric); `int16` (symmetric); `dynamic`: float32 between operators, INT8 within those
            that multiply by weights, the range found anew for each input; `float32`: weights are expanded before use.
        wide: Name of an operator's output tensor in the float flatbuffer, several joined by semicolons -> the wider
            type its activations have.
        wide_output: Whether the model's output may be as wide as the operator it comes from; else it is converted.
    """

    weights: Weights = "int8"
    activations: Activations = "int8"
    wide: dict[str, Wide] = field(default_factory=dict)
    wide_output: bool = False

    @property
    def static(self) -> bool:
        """Whether activations have fixed ranges, which calibration or training sets."""
        return self.activations in ("int8", "int16")

    def instructions(self) -> list[Instruction]:
        """Returns what the quantizer is told."""
        found = [self._instruct(".*", EVERY)]
        if self.weights == "int4":
            found += [self._instruct(".*", op, 4) for op in INT4_OPS]
        wider: tuple[Wide, ...] = ("int16", "float32")
        for kind in wider:
            names = sorted(name for name, wide in self.wide.items() if wide == kind)
            if names:
                # To the end: names hold semicolons themselves, and may begin with all of another operator's name.
                found.append(Instruction(f"^(?:{'|'.join(map(re.escape, names))});$", EVERY, kind))
        if self.wide and not self.wide_output:  # the output has the name of the operator it comes from
            found.append(self._instruct(".*;$", OUTPUT))
        return found

    def _instruct(self, scope: str, op: str, weight_bits: int = 8) -> Instruction:
        return Instruction(scope, op, "weights" if self.activations == "float32" else self.activations, weight_bits)


INT8 = Scheme()


@dataclass(frozen=True)
class FloatPart:
    """Operators of a kind that stay float32 where all else is INT8.

    Attributes:
        nodes: Their positions in the flatbuffer.
        tensors: Names of their outputs.
        layers: Paths or names of what they belong to, in the order of execution.
    """

    nodes: frozenset[int]
    tensors: tuple[str, ...]
    layers: tuple[str, ...]

    def with_conversions(self, ops: Sequence[Node] | Sequence[OpInfo]) -> frozenset[int]:
        """Returns the positions of these in a quantized flatbuffer, and of the conversions right before and behind."""
        read = {n for k in self.nodes for n in ops[k].inputs}
        written = {n for k in self.nodes for n in ops[k].outputs}
        around = (op for op in ops if op.op in CONVERSIONS)
        return self.nodes | {op.index for op in around if op.outputs[0] in read or op.inputs[0] in written}

    def scheme(self, scheme: Scheme) -> Scheme:
        """Returns a scheme with these in float32; `tensors` must be names of the float flatbuffer."""
        return replace(scheme, wide={**scheme.wide, **dict.fromkeys(self.tensors, "float32")})
