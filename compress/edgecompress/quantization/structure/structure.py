"""The INT8 graph of a float flatbuffer: which operators quantize, where requantization is needed."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.graph.exchange import replace_values, set_quantization
from edgecompress.quantization.graph.graph import DTYPES, read_graph
from edgecompress.quantization.grids.ranges import QMAX, find_groups
from edgecompress.quantization.grids.readers import mark_readers
from edgecompress.quantization.structure.islands import remove_islands
from edgecompress.quantization.structure.quantizer import Samples, quantize
from edgecompress.quantization.structure.scheme import INT8, Scheme
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.views import op_name


def quantized_structure(float_model: bytes, scheme: Scheme = INT8) -> bytes:
    """Returns the quantized flatbuffer of a float32 one, with placeholder activation ranges.

    The quantizer decides the structure (per-channel symmetric weights, asymmetric INT8 activations, equal scales
    where a kernel needs them). The ranges come from one made-up sample: the twin replaces them all.

    Args:
        float_model: The float32 flatbuffer.
        scheme: Which integers it is stored and computed in.

    Raises:
        ModelError: The quantizer cannot handle the model.
    """
    samples = _one_sample(float_model) if scheme.static else None
    content = _with_finite_scales(quantize(float_model, scheme.instructions(), samples))
    model = read_model(content)
    changed = _give_factors_one_scale(model)
    if scheme.static:
        changed += remove_islands(
            model, kept=frozenset(name for name, wide in scheme.wide.items() if wide == "float32")
        )
        changed += _center_second_factors(model)
    else:
        changed += _quantize_inputs_asymmetrically(model)
    return write_model(model) if changed else content


def _with_finite_scales(content: bytes) -> bytes:
    """Returns the flatbuffer with a scale of 1 where the made-up sample gave none that is finite.

    On such a sample a network that was hardly trained may overflow; calibration replaces the scales of activations
    and biases.
    """
    model = read_model(content, finite=False)
    changed = False
    for tensor in model.subgraphs[0].tensors:
        q = tensor.quantization
        if q is not None and q.scale is not None and not np.isfinite(q.scale).all():
            set_quantization(tensor, np.ones(len(q.scale), np.float32), np.zeros(len(q.scale), np.int64))
            changed = True
    return write_model(model) if changed else content


def _give_factors_one_scale(model: schema.ModelT) -> int:
    """Gives constants that BATCH_MATMUL multiplies by one scale each; returns how many had one per channel.

    The quantizer takes them for a linear layer's weights, but LiteRT's kernels go by the first scale alone.
    """
    main = model.subgraphs[0]
    factors = {
        int(n) for operator in main.operators if op_name(model, operator) == "BATCH_MATMUL" for n in operator.inputs[:2]
    }
    changed = 0
    for tensor in (main.tensors[n] for n in sorted(factors)):
        q, data = tensor.quantization, model.buffers[tensor.buffer].data
        if data is None or not len(data) or q is None or q.scale is None or len(q.scale) < 2:  # noqa: PLR2004
            continue
        shape = [-1 if axis == q.quantizedDimension else 1 for axis in range(len(tensor.shape))]
        integers = np.frombuffer(bytes(data), np.int8).reshape(tensor.shape)
        values = integers * np.asarray(q.scale, np.float64).reshape(shape)
        scale = np.float32(np.abs(values).max() / QMAX or 1.0)
        replace_values(model, tensor, np.clip(np.rint(values / scale), -QMAX, QMAX).astype(np.int8))
        set_quantization(tensor, np.array([scale], np.float32), np.zeros(1, np.int64))
        changed += 1
    return changed


def _quantize_inputs_asymmetrically(model: schema.ModelT) -> int:
    """Lets linear layers quantize float inputs with a zero point, as XNNPACK does; returns how many were changed."""
    changed = 0
    for operator in model.subgraphs[0].operators:
        if operator.builtinOptionsType == schema.BuiltinOptions.FullyConnectedOptions:
            operator.builtinOptions.asymmetricQuantizeInputs = True
            changed += 1
    return changed


def _center_second_factors(model: schema.ModelT) -> int:
    """Gives products of two activations grids as calibration will, by which their speed is told; returns how many."""
    main = model.subgraphs[0]
    if not any(op_name(model, operator) == "BATCH_MATMUL" for operator in main.operators) or len(main.inputs) != 1:
        return 0
    labels = [str(k) for k in range(len(main.operators))]
    graph = read_graph(model, labels)
    groups = find_groups(graph)
    mark_readers(graph, groups)
    chosen = [group for group in groups if group.symmetric and group.zero_point]
    for group in chosen:
        largest = max(-group.low, group.high)
        group.set_range(-largest, largest)
        for n in group.tensors:
            set_quantization(
                main.tensors[n],
                np.array([group.scale], np.float32),
                np.array([group.zero_point], np.int64),
            )
    return len(chosen)


def _one_sample(float_model: bytes) -> Samples:
    model = schema.ModelT.InitFromPackedBuf(float_model, 0)
    signature = model.signatureDefs[0]
    generator = np.random.default_rng(0)
    sample = {}
    for entry in signature.inputs:
        shape = [int(side) for side in model.subgraphs[0].tensors[entry.tensorIndex].shape]
        dtype = DTYPES[model.subgraphs[0].tensors[entry.tensorIndex].type]
        # Zero is a number that every table has a row for.
        values = generator.standard_normal(shape) if dtype is np.float32 else np.zeros(shape)
        sample[entry.name.decode()] = values.astype(dtype)
    return {signature.signatureKey.decode(): [sample]}
