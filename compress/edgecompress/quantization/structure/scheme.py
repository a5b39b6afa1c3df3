"""Which integers a model is stored and computed in, and the quantizer's instructions for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from edgecompress.quantization.graph.graph import Node
from edgecompress.tflite.format.views import CONVERSIONS, OpInfo

Weights = Literal["int8", "int4"]
Activations = Literal["int8", "int16", "dynamic", "float32"]
Wide = Literal["int16", "float32"]
#: Operators whose weights may have four bits; the kernels of all others want eight.
INT4_OPS = ("CONV_2D", "FULLY_CONNECTED")
_BITS = {"int4": 4, "int8": 8, "int16": 16}


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

    def instructions(self) -> Any:
        """Returns the recipe that ai-edge-quantizer takes; where several entries fit an operator the last one holds."""
        from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

        manager = recipe_manager.RecipeManager()
        every = qtyping.TFLOperationName.ALL_SUPPORTED
        self._add(manager, ".*", every, 8)
        if self.weights == "int4":
            for op in INT4_OPS:
                self._add(manager, ".*", qtyping.TFLOperationName[op], 4)
        for kind in ("int16", "float32"):
            names = sorted(name for name, wide in self.wide.items() if wide == kind)
            if not names:
                continue
            # To the end: names hold semicolons themselves, and may begin with all of another operator's name.
            scope = f"^(?:{'|'.join(map(re.escape, names))});$"
            if kind == "int16":
                manager.add_static_config(scope, every, activation_num_bits=16, weight_num_bits=8)
            else:
                manager.add_quantization_config(scope, every, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
        if self.wide and not self.wide_output:  # the output has the name of the operator it comes from
            self._add(manager, ".*;$", qtyping.TFLOperationName.OUTPUT, 8)
        return manager.get_quantization_recipe()

    def _add(self, manager: Any, scope: str, op: Any, weight_bits: int) -> None:
        if self.activations == "dynamic":
            manager.add_dynamic_config(scope, op, num_bits=weight_bits)
        elif self.activations == "float32":
            manager.add_weight_only_config(scope, op, num_bits=weight_bits)
        else:
            bits = _BITS[self.activations]
            manager.add_static_config(scope, op, activation_num_bits=bits, weight_num_bits=weight_bits)


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
