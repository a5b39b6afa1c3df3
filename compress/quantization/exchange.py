"""Constants on their way between flatbuffers and the twin: float values in, integers and scales out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from compress.errors import ModelError
from compress.quantization.graph import TensorSpec, tensor_values

#: The quantizer names its copies of a constant NAME_17 or NAME_duplicated_17.
_COPY = re.compile(r"(_duplicated)?_\d+$")


def tensors_by_name(model: schema.ModelT) -> dict[str, schema.TensorT]:
    """Returns the tensors of a flatbuffer's first graph by their names."""
    return {tensor.name.decode("utf-8", "replace"): tensor for tensor in model.subgraphs[0].tensors}


def float_values(floating: schema.ModelT, originals: Mapping[str, schema.TensorT], tensor: TensorSpec) -> NDArray[Any]:
    """Returns the float values of a quantized constant.

    Args:
        floating: The float32 flatbuffer that was quantized.
        originals: Its tensors by name.
        tensor: The constant in the quantized one.

    Raises:
        ModelError: There is no constant of that name and shape.
    """
    for name in (tensor.name, _COPY.sub("", tensor.name)):
        original = originals.get(name)
        if original is not None:
            values = tensor_values(floating, original)
            if values is not None and tensor.constant is not None and values.shape == tensor.constant.shape:
                return values.astype(np.float32)
    raise ModelError(f"the float flatbuffer holds no constant named {tensor.name}")


def set_quantization(tensor: schema.TensorT, scale: NDArray[np.float32], zero_point: NDArray[np.int64]) -> None:
    """Replaces a tensor's scales and zero points; recorded ranges, which no longer hold, go."""
    tensor.quantization.scale = scale
    tensor.quantization.zeroPoint = zero_point
    tensor.quantization.min = None
    tensor.quantization.max = None


def replace_values(model: schema.ModelT, tensor: schema.TensorT, values: NDArray[Any]) -> None:
    """Gives a constant new values, in a buffer of its own."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1
