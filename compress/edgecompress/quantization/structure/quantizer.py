"""The one place that knows ai-edge-quantizer: a new release, or its new name, is met here and nowhere else."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgecompress.errors import ModelError
from edgecompress.quiet import quiet

#: Instead of an operator's name: every operator there is a rule for, and what the model gives out.
EVERY = "ALL_SUPPORTED"
OUTPUT = "OUTPUT"
#: What an operator computes in; `dynamic` and `weights`: float32, with weights of integers (see Scheme.activations).
Precision = Literal["int8", "int16", "dynamic", "weights", "float32"]
_BITS = {"int8": 8, "int16": 16}
#: The quantizer's name of an operator -> the schema's, where it has another one there.
_IN_SCHEMA = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV"}


@dataclass(frozen=True)
class Instruction:
    """How operators are quantized; of several that fit an operator the last one holds.

    Attributes:
        scope: Regular expression, searched for in the names of an operator's outputs, each with a semicolon behind it.
        op: The operators' name, EVERY or OUTPUT.
        precision: What they compute in; `float32` leaves them as they are.
        weight_bits: Of their weights, if they have any: symmetric, one scale per output channel.
    """

    scope: str
    op: str
    precision: Precision
    weight_bits: int = 8


#: Signature -> samples, each with an array for every input.
Samples = dict[str, list[dict[str, np.ndarray]]]


def quantize(float_model: bytes, instructions: Sequence[Instruction], samples: Samples | None) -> bytes:
    """Returns the quantized flatbuffer of a float32 one.

    Args:
        float_model: The float32 flatbuffer.
        instructions: In the order in which they are given.
        samples: What activations get their ranges from; None where none have fixed ones.

    Raises:
        ModelError: The quantizer cannot handle the model.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the calibration interpreter warns of the memory that keeping tensors costs
        from ai_edge_quantizer import quantizer

        try:
            worker = quantizer.Quantizer(float_model, _recipe(instructions))
            result = worker.quantize(worker.calibrate(samples) if samples is not None else None)
        except (RuntimeError, ValueError, KeyError, NotImplementedError, TypeError) as error:
            raise ModelError(f"the INT8 graph could not be built: {type(error).__name__}: {error}") from error
    if result.quantized_model is None:
        raise ModelError("the INT8 graph could not be built: the quantizer returned nothing")
    return bytes(result.quantized_model)


def known_operators(activations: Literal["int8", "int16"]) -> frozenset[str]:
    """Returns the operators that the quantizer has a rule for with such activations, by the schema's names."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.default_policy import DEFAULT_CONFIG_CHECK_POLICY

    return frozenset(
        _IN_SCHEMA.get(op.value, op.value)
        for op, configs in DEFAULT_CONFIG_CHECK_POLICY.items()
        for config in configs
        if config.compute_precision == qtyping.ComputePrecision.INTEGER
        and config.activation_tensor_config is not None
        and config.activation_tensor_config.num_bits == _BITS[activations]
    )


def _recipe(instructions: Sequence[Instruction]) -> Any:
    """Returns instructions as the quantizer takes them."""
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    for one in instructions:
        scope, op = one.scope, qtyping.TFLOperationName[one.op]
        match one.precision:
            case "dynamic":
                manager.add_dynamic_config(scope, op, num_bits=one.weight_bits)
            case "weights":
                manager.add_weight_only_config(scope, op, num_bits=one.weight_bits)
            case "float32":
                manager.add_quantization_config(scope, op, algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE)
            case "int8" | "int16":
                manager.add_static_config(
                    scope, op, activation_num_bits=_BITS[one.precision], weight_num_bits=one.weight_bits
                )
    return manager.get_quantization_recipe()
