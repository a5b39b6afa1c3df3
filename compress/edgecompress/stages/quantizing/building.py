"""The quantized model of a float flatbuffer: structure, layer names and twin, its ranges not calibrated."""

from __future__ import annotations

from typing import Literal

from torch import nn

from edgecompress.quantization.grids.tying import share_biases
from edgecompress.quantization.repairs.ladder import Built
from edgecompress.quantization.structure.pooling import pool_means
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.structure.swift import swift
from edgecompress.quantization.twin.twin import Twin
from edgecompress.recipe.schema import QuantizeSpec
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.labels import operator_labels

#: Whether HARD_SWISH is spelled out, and whether its factor then stays out of the weights, which are to learn.
Pace = Literal["as it is", "swift", "swift, apart"]


def pace(spec: QuantizeSpec, runtime: str) -> Pace:
    """Returns how a network's operators are replaced by others that are fast in INT8.

    Not where all runtimes are to round alike, which sums and products do not, nor for microcontrollers: their kernels
    have no part in XNNPACK's.
    """
    if spec.activations != "int8" or spec.portable or runtime == "tflite-micro":
        return "as it is"
    return "swift, apart" if "qat" in (spec.mode, spec.escalate) else "swift"


def readied(floating: bytes, how: Pace) -> bytes:
    """Returns a float32 flatbuffer as it is quantized."""
    return floating if how == "as it is" else swift(floating, absorb=how == "swift")


def structured(floating: bytes, module: nn.Module, scheme: Scheme, *, portable: bool = False) -> Built:
    """Returns the quantized model of a scheme.

    Args:
        floating: The float32 flatbuffer, as `readied` gave it.
        module: What it was converted from, for the names of its layers.
        scheme: Which integers it is stored and computed in.
        portable: Whether weights are to lie where all runtimes' kernels round alike.

    Raises:
        ModelError: The quantizer cannot handle the flatbuffer, or the twin cannot follow it.
    """
    structure = quantized_structure(pool_means(floating) if portable else floating, scheme)
    model = read_model(structure)
    labels = operator_labels(model, module)
    if share_biases(model, labels):
        structure = write_model(model)
    twin = Twin(read_model(structure), read_model(floating), labels, portable=portable).eval()
    return Built(twin, structure, labels)
