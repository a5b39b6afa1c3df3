"""A twin's integers: weights and biases as the flatbuffer stores them, and the way into it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.exchange import replace_values, set_quantization
from edgecompress.quantization.grids.fake import bias_steps
from edgecompress.quantization.grids.weight_grids import WeightGrids


@torch.no_grad()
def quantized_constants(twin: WeightGrids) -> dict[int, tuple[NDArray[Any], NDArray[np.float32]]]:
    """Returns, for every weight and bias, its integers and their scales."""
    result: dict[int, tuple[NDArray[Any], NDArray[np.float32]]] = {}
    for key in twin.weights:
        n, spec = int(key), twin.graph.tensors[int(key)]
        if not spec.quantized or n in twin.biases:
            continue
        group = twin.range_of(n)
        if group is not None:
            result[n] = (group.integers(twin.weights[key].cpu().numpy()), np.array([group.scale], np.float32))
            continue
        scale = twin.weight_scale(n)
        fake = twin.fake_weight(n)
        shape = [-1 if d == spec.axis and len(scale) > 1 else 1 for d in range(fake.ndim)]
        integers = torch.round(fake / scale.reshape(shape)).to(torch.int8)
        result[n] = (integers.cpu().numpy(), scale.cpu().numpy().astype(np.float32))
    for n in twin.constants:
        group = twin.range_of(n)
        if group is not None:
            result[n] = (group.integers(twin.constants[n].numpy()), np.array([group.scale], np.float32))
    for n, (owner, _) in twin.biases.items():
        spec = twin.graph.tensors[n]
        if not spec.quantized or owner not in result:
            continue
        scales, info = twin.bias_scale(n), np.iinfo(spec.dtype)
        steps = bias_steps(twin.weights[str(n)], scales, uneven=owner in twin.portable).cpu().numpy()
        result[n] = (np.clip(steps, info.min, info.max).astype(spec.dtype), scales.cpu().numpy())
    return result


def float_constants(twin: WeightGrids) -> dict[int, NDArray[np.float32]]:
    """Returns the weights and biases that stay float: of operators kept wider, or with float activations."""
    return {
        int(key): values.detach().cpu().numpy().astype(np.float32)
        for key, values in twin.weights.items()
        if not twin.graph.tensors[int(key)].quantized
    }


def write_into(twin: WeightGrids, model: schema.ModelT) -> None:
    """Writes the twin's ranges, weights and biases into the flatbuffer it was built from.

    Raises:
        ModelError: `model` is not that flatbuffer.
    """
    subgraph = model.subgraphs[0]
    if [t.name for t in subgraph.tensors] != [t.name.encode() for t in twin.graph.tensors]:
        raise ModelError("the twin belongs to another flatbuffer")
    for n, k in twin.group_of.items():
        group = twin.groups[k]
        scale, zero_point = np.array([group.scale], np.float32), np.array([group.zero_point], np.int64)
        set_quantization(subgraph.tensors[n], scale, zero_point)
    for n, (integers, scale) in quantized_constants(twin).items():
        grid = twin.range_of(n)
        offset = grid.zero_point if grid is not None else 0
        set_quantization(subgraph.tensors[n], scale, np.full(len(scale), offset, np.int64))
        replace_values(model, subgraph.tensors[n], integers)
    for n, values in float_constants(twin).items():
        before = twin.graph.tensors[n].constant
        if before is None or not np.array_equal(values, before):  # training and repairs change them too
            replace_values(model, subgraph.tensors[n], values)
