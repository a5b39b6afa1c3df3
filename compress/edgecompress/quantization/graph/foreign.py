"""Operators without arithmetic of our own: LiteRT computes them, in float32, one sample at a time.

Only values come of it, no gradients: what has to be trained through such an operator is refused before training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.graph import Graph, Node
from edgecompress.quantization.graph.ops import is_native
from edgecompress.tflite.format.flatbuffer import write_model
from edgecompress.tflite.format.interpreter import plain_interpreter

#: Types of integers that stand for real numbers, where a tensor has a scale.
_STORED = (schema.TensorType.INT8, schema.TensorType.INT16, schema.TensorType.UINT8, schema.TensorType.INT32)


class ForeignOperator:
    """One operator of a flatbuffer, in float32."""

    def __init__(self, model: schema.ModelT, index: int) -> None:
        """Takes the operator at a position of the first graph; nothing is built before the first call."""
        self._model, self._index = model, index
        self._interpreter: Any = None
        self._given: list[int] = []

    def __call__(self, node: Node, arguments: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Returns the operator's outputs; several samples lie one after the other along axis 0.

        Args:
            node: The operator.
            arguments: Its inputs, constants included, in the flatbuffer's order; absent ones left out.

        Raises:
            ModelError: LiteRT cannot run it in float32.
        """
        if self._interpreter is None:
            self._build(node)
        shapes = [shape for n, shape in zip(node.inputs, node.input_shapes, strict=True) if n >= 0]
        counts = {
            x.shape[0] // shape[0]
            for x, shape in zip(arguments, shapes, strict=True)
            if x.ndim and shape and shape[0] and tuple(x.shape) != shape
        }
        samples = counts.pop() if counts else 1
        found = []
        for k in range(samples):
            one = [
                x if tuple(x.shape) == shape else x[k * shape[0] : (k + 1) * shape[0]]
                for x, shape in zip(arguments, shapes, strict=True)
            ]
            found.append(self._run(one))
        device = next((x.device for x in arguments if x.is_floating_point()), torch.device("cpu"))
        return tuple(torch.cat(parts).to(device) if parts[0].ndim else parts[0] for parts in zip(*found, strict=True))

    def _run(self, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        for detail, place in zip(self._interpreter.get_input_details(), self._given, strict=True):
            value = arguments[place].detach().cpu().numpy().astype(detail["dtype"])
            self._interpreter.set_tensor(detail["index"], np.ascontiguousarray(value).reshape(detail["shape"]))
        self._interpreter.invoke()
        outputs = (self._interpreter.get_tensor(one["index"]) for one in self._interpreter.get_output_details())
        return [torch.from_numpy(np.array(values)) for values in outputs]

    def _build(self, node: Node) -> None:
        """Makes the interpreter of a flatbuffer that holds the operator alone."""
        graph = self._model.subgraphs[0]
        operator = copy.deepcopy(graph.operators[self._index])
        numbers = [int(n) for n in (*operator.inputs, *operator.outputs)]
        kept = {n: place for place, n in enumerate(dict.fromkeys(n for n in numbers if n >= 0))}
        tensors, given = [], []
        own = schema.ModelT()
        own.version, own.description = 3, b""
        own.operatorCodes = [copy.deepcopy(self._model.operatorCodes[operator.opcodeIndex])]
        own.buffers = [schema.BufferT()]
        present = [int(n) for n in operator.inputs if n >= 0]
        for n in kept:
            tensor = copy.deepcopy(graph.tensors[n])
            data = self._model.buffers[tensor.buffer].data
            real = tensor.quantization is not None and tensor.quantization.scale is not None
            if real and len(tensor.quantization.scale) and tensor.type in _STORED:
                tensor.type, data = schema.TensorType.FLOAT32, None
            tensor.quantization, tensor.sparsity, tensor.buffer = None, None, 0
            constant = data is not None and len(data) > 0
            if constant:
                held = schema.BufferT()
                held.data = data
                own.buffers.append(held)
                tensor.buffer = len(own.buffers) - 1
            elif n in present:
                given.append(n)
            tensors.append(tensor)
        operator.opcodeIndex = 0
        operator.inputs = np.array([kept.get(int(n), -1) for n in operator.inputs], np.int32)
        operator.outputs = np.array([kept[int(n)] for n in operator.outputs], np.int32)
        alone = schema.SubGraphT()
        alone.tensors, alone.operators = tensors, [operator]
        alone.inputs = np.array([kept[n] for n in given], np.int32)
        alone.outputs = operator.outputs
        own.subgraphs = [alone, *self._model.subgraphs[1:]]
        self._given = [present.index(n) for n in given]
        try:
            self._interpreter = plain_interpreter(write_model(own))
        except (RuntimeError, ValueError) as error:
            cause = (str(error).strip().splitlines() or ["no message"])[0]
            raise ModelError(f"{node.op} (layer {node.label}) cannot be run by LiteRT in float32: {cause}") from error

    def __deepcopy__(self, _memo: dict[int, Any]) -> ForeignOperator:
        """Returns one with an interpreter of its own; interpreters cannot be copied."""
        return ForeignOperator(self._model, self._index)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what can be copied."""
        return {**self.__dict__, "_interpreter": None}


def with_foreign(graph: Graph, model: schema.ModelT) -> Graph:
    """Returns a graph in which LiteRT computes what has no arithmetic here.

    Args:
        graph: As `read_graph` gave it.
        model: The flatbuffer it was read from.
    """
    nodes = tuple(
        node if is_native(node) else replace(node, foreign=ForeignOperator(model, node.index)) for node in graph.nodes
    )
    return replace(graph, nodes=nodes)
