"""The quantized model of a float flatbuffer: structure, layer names and twin, its ranges not calibrated."""

from __future__ import annotations

from torch import nn

from edgecompress.quantization.grids.tying import share_biases
from edgecompress.quantization.repairs.ladder import Built
from edgecompress.quantization.structure.pooling import pool_means
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.labels import operator_labels


def structured(floating: bytes, module: nn.Module, scheme: Scheme, *, portable: bool = False) -> Built:
    """Returns the quantized model of a scheme.

    Args:
        floating: The float32 flatbuffer.
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
