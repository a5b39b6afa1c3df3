"""Flatbuffers that are small and ask for much: shared vectors and names, shapes nobody can hold, loops without end."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgecompress.tflite.format.metadata import AXIS_LABELS, AssociatedFile, ModelNotes, TensorNotes, attach_notes
from edgecompress.tflite.format.packing import pack
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes, make_model

#: What a bomb is made up to; tests make them smaller.
MEGABYTE = 1 << 20


def relus(count: int) -> schema.ModelT:
    """Returns a chain of so many operators."""
    ops = [Op("RELU", (n,), (n + 1,), version=2) for n in range(count)]
    model = make_model([int8(1, 4) for _ in range(count + 1)], ops)
    model.operatorCodes = model.operatorCodes[:1]
    for operator in model.subgraphs[0].operators:
        operator.opcodeIndex = 0
    return model


def shared_names(size: int) -> bytes:
    """Two hundred tensors with one name."""
    model = relus(200)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = "n" * size
    return pack(model)


def shared_shapes(size: int) -> bytes:
    """Two hundred tensors with one shape."""
    model = relus(200)
    for tensor in model.subgraphs[0].tensors:
        tensor.shape = np.ones(size, np.int32)
    return pack(model)


def one_long_shape(size: int) -> bytes:
    """Operators that all write the one tensor of very many axes."""
    return make_bytes([int8(1, 4), int8(*(1,) * (size // 4))], [Op("RELU", (0,), (1,))] * 100)


def shared_scales(size: int) -> bytes:
    """Two hundred tensors with the same scales."""
    model = relus(200)
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization.scale = np.ones(size // 4, np.float32)
    return pack(model)


def shared_inputs(size: int) -> bytes:
    """Two hundred operators with the same inputs."""
    model = relus(200)
    for operator in model.subgraphs[0].operators:
        operator.inputs = np.zeros(size // 4, np.int32)
    return pack(model)


def one_name_written_often(size: int) -> bytes:
    """Two hundred operators that write the one tensor with a long name."""
    return make_bytes([int8(1, 4), int8(1, 4, name="n" * size)], [Op("RELU", (0,), (1,))] * 200)


def one_custom_code(size: int) -> bytes:
    """Two hundred operators with one long name of their own."""
    model = relus(200)
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].customCode = "c" * size
    return pack(model)


def names_in_options(size: int) -> bytes:
    """Two hundred operators whose options hold one long text."""
    model = relus(200)
    for operator in model.subgraphs[0].operators:
        operator.builtinOptionsType = schema.BuiltinOptions.VarHandleOptions
        operator.builtinOptions = schema.VarHandleOptionsT()
        operator.builtinOptions.container = "v" * size
    return pack(model)


def an_input_given_often(size: int) -> bytes:
    """A graph that names one input with a long name again and again."""
    model = make_model([int8(1, 4, name="n" * size), int8(1, 4)], [Op("RELU", (0,), (1,))])
    model.subgraphs[0].inputs = np.zeros(size // 4, np.int32)
    return pack(model)


def weights_used_often(size: int) -> bytes:
    """Linear layers that share weights with a great many scales."""
    channels = size // 8
    weights = constant(np.ones((channels, 1)), "int8", scale=(0.5,) * channels, axis=0)
    return make_bytes([int8(1, 1), weights, int8(1, channels)], [Op("FULLY_CONNECTED", (0, 1), (2,))] * 400)


def one_buffer_for_many_weights(size: int) -> bytes:
    """Linear layers whose weights are different tensors of the same bytes."""
    tensors = [int8(1, 1), *(constant(np.ones((4, 1)), "int8") for _ in range(400)), int8(1, size)]
    model = make_model(tensors, [Op("FULLY_CONNECTED", (0, n), (401,)) for n in range(1, 401)])
    model.buffers[1].data = np.ones(size, np.uint8)
    for tensor in model.subgraphs[0].tensors[1:401]:
        tensor.buffer, tensor.shape = 1, np.array([size, 1], np.int32)
    return pack(model)


def tables_without_end(size: int) -> bytes:
    """A vector that refers to one tensor as often as the file has room for."""
    builder = flatbuffers.Builder(size + 1024)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    count = size // 5
    schema.SubGraphStartTensorsVector(builder, count)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def huge_activation(size: int) -> bytes:
    """An activation of two thousand million values."""
    del size
    return make_bytes([int8(1, 4), int8(1, 2**31 - 1)], [Op("RELU", (0,), (1,), version=2)])


def huge_input(size: int) -> bytes:
    """An input of very many samples, of a gigabyte as it is filled, that no single tensor shows."""
    del size
    return make_bytes([Made((1 << 16, 2500)), Made((1 << 16, 2500))], [Op("RELU", (0,), (1,))])


def filled(size: int) -> bytes:
    """An output whose size the file's header does not tell: FILL reads it from a constant."""
    del size
    model = make_model(
        [int8(1, 4), constant([1, 1 << 30, 2], "int32"), constant(0.5, "float32"), Made((1, 1, 1)), Made((1, 1, 1))],
        [Op("FILL", (1, 2), (3,)), Op("RELU", (3,), (4,))],
    )
    return pack(model)


def sparse(size: int) -> bytes:
    """A weight tensor of two thousand million values, of which one is stored."""
    del size
    rows = 2**31 - 1
    model = make_model(
        [int8(1, 1), constant(np.ones((1, 1)), "int8", scale=(0.5,)), int8(1, 4)], [Op("FULLY_CONNECTED", (0, 1), (2,))]
    )
    tensor = model.subgraphs[0].tensors[1]
    tensor.shape = np.array([rows, 1], np.int32)
    tensor.sparsity = schema.SparsityParametersT()
    tensor.sparsity.traversalOrder = np.array([0, 1], np.int32)
    dense, last = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    dense.format, dense.denseSize = schema.DimensionType.DENSE, rows
    last.format, last.denseSize = schema.DimensionType.DENSE, 1
    tensor.sparsity.dimMetadata = [dense, last]
    return pack(model)


def calls_itself(size: int) -> bytes:
    """A loop whose body is the graph that it stands in."""
    del size
    model = make_model([int8(1, 4), int8(1, 4)], [Op("WHILE", (0,), (1,))])
    operator = model.subgraphs[0].operators[0]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.WhileOptions, schema.WhileOptionsT()
    operator.builtinOptions.condSubgraphIndex = operator.builtinOptions.bodySubgraphIndex = 0
    return pack(model)


def deep(size: int) -> bytes:
    """Graphs that call each other, very many deep."""
    model = relus(1)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    model.operatorCodes.append(code)
    graphs = []
    for number in range(size // 1000):
        graph: Any = relus(1).subgraphs[0]
        graph.operators[0].opcodeIndex = 1
        graph.operators[0].builtinOptionsType = schema.BuiltinOptions.WhileOptions
        graph.operators[0].builtinOptions = schema.WhileOptionsT()
        graph.operators[0].builtinOptions.condSubgraphIndex = number + 1
        graph.operators[0].builtinOptions.bodySubgraphIndex = number + 1
        graphs.append(graph)
    model.subgraphs = [*graphs, *model.subgraphs]
    return pack(model)


def many_operators(size: int) -> bytes:
    """Nothing but operators, a sound file."""
    return pack(relus(size // 100))


def labels(size: int) -> bytes:
    """Labels of nothing but line breaks, packed small."""
    model = relus(1)
    notes = ModelNotes(outputs=(TensorNotes(files=(AssociatedFile("labels.txt", AXIS_LABELS),)),))
    attach_notes(model, notes)
    return _with_archive(pack(model), b"\n" * (12 * size), zipfile.ZIP_DEFLATED)


def zip_bomb(size: int) -> bytes:
    """An associated file of a thousand times the size."""
    model = relus(1)
    attach_notes(model, ModelNotes())
    return _with_archive(pack(model), bytes(200 * size), zipfile.ZIP_DEFLATED)


def packed_by_lzma(size: int) -> bytes:
    """An associated file in a format whose reader takes what memory the file says."""
    del size
    model = relus(1)
    attach_notes(model, ModelNotes())
    return _with_archive(pack(model), bytes(1000), zipfile.ZIP_LZMA)


def _with_archive(content: bytes, data: bytes, method: int) -> bytes:
    whole = io.BytesIO(content)
    with zipfile.ZipFile(whole, "a", method) as archive:
        archive.writestr("labels.txt", data)
    return whole.getvalue()


#: Those that no reader should take in, and those that are sound, or no worse than unusual, as files.
REFUSED: tuple[Callable[[int], bytes], ...] = (
    shared_names, shared_shapes, one_long_shape, shared_scales, shared_inputs, one_name_written_often, one_custom_code,
    names_in_options, an_input_given_often, tables_without_end,
)  # fmt: skip
READ: tuple[Callable[[int], bytes], ...] = (
    weights_used_often, one_buffer_for_many_weights, huge_activation, huge_input, filled, sparse, calls_itself, deep,
    many_operators, labels, zip_bomb, packed_by_lzma,
)  # fmt: skip
