"""Constants on their way between flatbuffers and the twin: float values in, integers and scales out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.graph import Graph, Node, TensorSpec, pack_int4, tensor_values
from edgecompress.quantization.graph.ops import WEIGHTED

#: The quantizer names its copies of a constant NAME_17 or NAME_duplicated_17.
_COPY = re.compile(r"(_duplicated)?_\d+$")


def tensors_by_name(model: schema.ModelT) -> dict[str, schema.TensorT]:
    """Returns the tensors of a flatbuffer's first graph by their names."""
    return {tensor.name.decode("utf-8", "replace"): tensor for tensor in model.subgraphs[0].tensors}


def base_name(name: str) -> str:
    """Returns the name of the constant that a copy was made from; another name comes back as it is."""
    return _COPY.sub("", name)


def float_values(floating: schema.ModelT, originals: Mapping[str, schema.TensorT], tensor: TensorSpec) -> NDArray[Any]:
    """Returns the float values of a quantized constant.

    Args:
        floating: The float32 flatbuffer that was quantized.
        originals: Its tensors by name.
        tensor: The constant in the quantized one.

    Raises:
        ModelError: There is no constant of that name and shape.
    """
    for name in (tensor.name, base_name(tensor.name), base_name(base_name(tensor.name))):  # copies are copied too
        original = originals.get(name)
        if original is not None:
            values = tensor_values(floating, original)
            if values is not None and tensor.constant is not None and values.shape == tensor.constant.shape:
                return values.astype(np.float32)
    raise ModelError(f"the float flatbuffer holds no constant named {tensor.name}")


def find_biases(graph: Graph) -> dict[int, tuple[int, int]]:
    """Returns, for each bias tensor, its weight tensor and the input tensor that go into its scale."""
    return {
        node.inputs[2]: (node.inputs[1], node.inputs[0])
        for node in graph.nodes
        if node.op in WEIGHTED and len(node.inputs) > 2 and node.inputs[2] >= 0  # noqa: PLR2004
        if graph.tensors[node.inputs[2]].constant is not None
        if _has_weight(graph, node) or not graph.tensors[node.inputs[2]].quantized
    }


def find_dynamic(graph: Graph, group_of: Mapping[int, int]) -> dict[int, bool]:
    """Returns nodes with integer weights and float inputs, which they quantize on the fly: index -> row by row.

    A linear layer finds a range for each row, a convolution one for each picture; but XNNPACK takes convolutions that
    look at one pixel alone for linear layers (those with weights of eight bits).
    """
    return {
        node.index: node.op == "FULLY_CONNECTED" or _is_pointwise(graph, node)
        for node in graph.nodes
        if _has_weight(graph, node) and graph.tensors[node.inputs[1]].quantized and node.inputs[0] not in group_of
    }


def _is_pointwise(graph: Graph, node: Node) -> bool:
    if node.op != "CONV_2D" or graph.tensors[node.inputs[1]].bits < 8:  # noqa: PLR2004
        return False
    _, height, width, channels = node.input_shapes[1]
    alone = (height, width, node.options["strideH"], node.options["strideW"]) == (1, 1, 1, 1)
    return alone and channels == node.input_shapes[0][3]


def load_constants(
    graph: Graph, floating: schema.ModelT, biases: Mapping[int, tuple[int, int]]
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
    """Returns weights and biases, and all other constants, by tensor number.

    Args:
        graph: Of the quantized flatbuffer.
        floating: The float32 flatbuffer it was made from: quantized constants take their float values from it.
        biases: As `find_biases` gave them.

    Raises:
        ModelError: The two flatbuffers do not belong together.
    """
    weighted = {node.inputs[1] for node in graph.nodes if _has_weight(graph, node)} | set(biases)
    weighted |= {node.inputs[0] for node in graph.nodes if _expands(graph, node)}
    weighted |= {node.inputs[1] for node in graph.nodes if node.op == "EMBEDDING_LOOKUP"}
    originals = tensors_by_name(floating)
    weights: dict[int, torch.Tensor] = {}
    constants: dict[int, torch.Tensor] = {}
    for n, tensor in enumerate(graph.tensors):
        if tensor.constant is None:
            continue
        floats = tensor.quantized or n in weighted
        values = float_values(floating, originals, tensor) if floats else tensor.constant
        (weights if n in weighted else constants)[n] = torch.from_numpy(values.copy())
    return weights, constants


def _has_weight(graph: Graph, node: Node) -> bool:
    return node.op in WEIGHTED and graph.tensors[node.inputs[1]].constant is not None


def _expands(graph: Graph, node: Node) -> bool:
    """Returns whether a node turns stored integers into float weights, for an operator that wants these."""
    return node.op == "DEQUANTIZE" and graph.tensors[node.inputs[0]].constant is not None


def set_quantization(tensor: schema.TensorT, scale: NDArray[np.float32], zero_point: NDArray[np.int64]) -> None:
    """Replaces a tensor's scales and zero points; recorded ranges, which no longer hold, go."""
    tensor.quantization.scale = scale
    tensor.quantization.zeroPoint = zero_point
    tensor.quantization.min = None
    tensor.quantization.max = None


def replace_values(model: schema.ModelT, tensor: schema.TensorT, values: NDArray[Any]) -> None:
    """Gives a constant new values, in a buffer of its own."""
    buffer = schema.BufferT()
    stored = pack_int4(values) if tensor.type == schema.TensorType.INT4 else values
    buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer = len(model.buffers) - 1
