"""Weights stored without their zeros: what comes back is what was there, in our reader and in every interpreter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgecompress.errors import ResourceError
from edgecompress.quantization.graph.graph import read_graph
from edgecompress.recipe.schema import Recipe
from edgecompress.stages.exporting.encoding import difference
from edgecompress.stages.quantizing.floating import floating_operators
from edgecompress.tflite.facts.accounting import breakdown
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.facts.inspection import inspect_flatbuffer
from edgecompress.tflite.facts.weights import weight_zeros
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.format.sparse import _parameters, densified, encode, encode_weights, expanded_bytes
from edgecompress.tflite.format.sparse_reader import expand, index_vectors
from edgecompress.tflite.format.views import graph_views, tensor_array
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes


def sparse_values(shape: tuple[int, ...], share: float, block: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = (rng.integers(1, 128, shape) * rng.choice((-1, 1), shape)).astype(np.int8)
    gone = rng.random((math.prod(shape) // block, 1)) < share
    values.reshape(-1, block)[gone[:, 0]] = 0
    return values


def net(share: float = 0.9, block: int = 1) -> bytes:
    """Returns two convolutions, a depthwise one between them and a linear layer, most of their weights zero."""
    scales = tuple(0.001 * (k + 1) for k in range(64))
    tensors = [
        int8(1, 8, 8, 64, scale=0.02, zero_point=-128),
        constant(sparse_values((64, 3, 3, 64), share, block), "int8", scale=scales, zero_point=(0,) * 64),
        constant(np.arange(64), "int32", scale=tuple(0.02 * s for s in scales), zero_point=(0,) * 64),
        int8(1, 8, 8, 64, scale=0.05, zero_point=-128),
        constant(sparse_values((1, 3, 3, 64), share, block), "int8", scale=scales, zero_point=(0,) * 64, axis=3),
        constant(np.zeros(64), "int32", scale=tuple(0.05 * s for s in scales), zero_point=(0,) * 64),
        int8(1, 8, 8, 64, scale=0.2, zero_point=-128),
        constant(sparse_values((10, 4096), share, block), "int8", scale=(0.001,) * 10, zero_point=(0,) * 10),
        constant(np.zeros(10), "int32", scale=(0.2 * 0.001,) * 10, zero_point=(0,) * 10),
        int8(1, 10, scale=0.5, zero_point=0),
    ]
    conv = {"padding": 0, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    ops = [
        Op("CONV_2D", (0, 1, 2), (3,), {**conv, "fusedActivationFunction": 1}, version=3),
        Op("DEPTHWISE_CONV_2D", (3, 4, 5), (6,), {**conv, "depthMultiplier": 1}, version=3),
        Op("FULLY_CONNECTED", (6, 7, 8), (9,), version=5),
    ]
    return make_bytes(tensors, ops)


LABELS = ["conv", "depthwise", "head"]


def shipped(content: bytes, *, sparse: bool) -> bytes:
    return finish(read_model(content), LABELS, "int8", sparse=sparse)[0]


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3, 32), (64, 1, 1, 300), (1, 3, 3, 48), (3, 1, 1, 70000)])
@pytest.mark.parametrize("block", [1, 4])
def test_what_was_encoded_comes_back(shape: tuple[int, ...], block: int) -> None:
    values = sparse_values(shape, 0.8, math.gcd(shape[-1], block))
    model = with_weight(values)
    assert np.array_equal(tensor_array(model, 1), values)


def with_weight(values: np.ndarray) -> schema.ModelT:
    """Returns a model, packed and read again, whose tensor 1 is the encoded form of `values`."""
    encoding = encode(values)
    tensors = [int8(1, 2), Made(values.shape, "int8", encoding.values, (0.1,), (0,))]
    model = read_model(make_bytes([*tensors, int8(1, 2)], [Op("ADD", (0, 1), (2,))]))
    model.subgraphs[0].tensors[1].sparsity = _parameters(encoding, values.shape)
    return read_model(pack(model))


def test_blocks_are_used_where_they_take_less_room() -> None:
    assert encode(sparse_values((16, 3, 3, 64), 0.9)).block == 1
    assert encode(sparse_values((16, 3, 3, 64), 0.5, 4)).block == 4
    assert encode(sparse_values((16, 3, 3, 64), 0.9, 16)).block == 16


@pytest.mark.parametrize(("share", "block"), [(0.9, 1), (0.6, 4), (0.9, 16)])
@pytest.mark.parametrize("runtime", ["litert", "tensorflow"])
def test_outputs_stay_equal_to_the_bit(tmp_path: Path, share: float, block: int, runtime: str) -> None:
    inputs = np.random.default_rng(1).integers(-128, 128, (4, 8, 8, 64)).astype(np.int8)
    found = []
    for sparse in (False, True):
        path = tmp_path / f"{sparse}.tflite"
        path.write_bytes(shipped(net(share, block), sparse=sparse))
        found.append(RUNTIMES[runtime].session(path).run(inputs))
    assert np.array_equal(*found)
    assert len(np.unique(found[0])) > 10


def test_what_becomes_smaller_and_can_be_read_is_encoded() -> None:
    """The linear layer stays dense: LiteRT refuses it otherwise."""
    model = read_model(shipped(net(), sparse=True))
    (view,) = graph_views(model)
    assert [op.op for op in view.ops] == ["DENSIFY"] * 2 + ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert expanded_bytes(model) == [64 * 3 * 3 * 64, 3 * 3 * 64]
    assert view.tensors[view.ops[0].outputs[0]].name == "conv.weight"
    assert weight_zeros(model) == weight_zeros(read_model(net()))
    found = census(model)
    assert found.not_int8 == ()
    assert found.ops["DENSIFY"].dtypes == {"int8": 2}


def test_little_sparsity_changes_nothing() -> None:
    assert shipped(net(0.3), sparse=True) == shipped(net(0.3), sparse=False)


def test_weights_that_something_else_reads_stay_dense() -> None:
    model = read_model(net())
    twice = schema.OperatorT()
    twice.opcodeIndex, twice.inputs, twice.outputs = 0, np.array([0, 2, 1], np.int32), np.array([3], np.int32)
    model.subgraphs[0].operators.append(twice)  # reads the first convolution's weights in the place of a bias
    encode_weights(model, [*LABELS, "odd"])
    assert [list(t.shape) for t in model.subgraphs[0].tensors if t.sparsity is not None] == [[1, 3, 3, 64]]


def test_bytes_are_accounted_for_and_the_file_can_be_inspected(tmp_path: Path) -> None:
    content = shipped(net(), sparse=True)
    model = read_model(content)
    parts = breakdown(model, content)
    assert sum(parts.values()) == len(content)
    vectors = [vector for tensor in model.subgraphs[0].tensors for vector in index_vectors(tensor)]
    assert len(vectors) == 4
    assert parts["sparse_indices"] == sum(vector.nbytes for vector in vectors) > 1000
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    told = inspect_flatbuffer(path, run=False)
    dense = sparse_values((64, 3, 3, 64), 0.9)
    assert told["layers"][2]["sparsity"]["zeros"] == int((dense == 0).sum())
    assert told["layers"][2]["weight_shape"] == [64, 3, 3, 64]


def test_the_dense_model_has_the_same_weights_and_numbers() -> None:
    model = read_model(shipped(net(), sparse=True))
    dense = densified(model)
    assert [op.op for op in graph_views(dense)[0].ops] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    number = int(dense.subgraphs[0].operators[0].inputs[1])
    assert np.array_equal(tensor_array(dense, number), sparse_values((64, 3, 3, 64), 0.9))
    assert len(model.subgraphs[0].operators) == 5
    assert len(model.buffers[model.subgraphs[0].tensors[number].buffer].data or ()) == 0


def test_parts_that_stay_float_are_looked_for_in_sparse_files_too() -> None:
    dense, model = (read_model(shipped(net(), sparse=sparse)) for sparse in (False, True))
    labels = [f"op{k}" for k in range(len(model.subgraphs[0].operators))]
    recipe = Recipe.model_validate({"version": 1, "name": "own", "student": {"model": "python:m:net"}, "quantize": {}})
    assert recipe.float_parts == ("cells", "softmax", "divisions")
    assert floating_operators(recipe, model, labels) == {}
    weights = [one.constant for one in read_graph(model, labels).tensors if one.constant is not None]
    expected = [tensor.constant for tensor in read_graph(dense, labels[:3]).tensors if tensor.constant is not None]
    for values in expected:
        assert any(values.shape == one.shape and np.array_equal(values, one) for one in weights)


def test_other_axes_orders_and_blocks_are_read_as_the_format_says() -> None:
    """A 4x6 matrix stored column by column, in blocks of two rows: nobody but a reader of the format knows them."""
    dense = np.zeros((4, 6), np.int8)
    dense[2:4, 1], dense[0:2, 4], dense[2:4, 4] = (1, 2), (3, 0), (0, 4)
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap = [1, 0, 2], [0]
    columns, rows, inner = (schema.DimensionMetadataT() for _ in range(3))
    columns.format, columns.denseSize = schema.DimensionType.DENSE, 6
    inner.format, inner.denseSize = schema.DimensionType.DENSE, 2
    rows.format = schema.DimensionType.SPARSE_CSR
    rows.arraySegments, rows.arrayIndices = schema.Uint8VectorT(), schema.Uint8VectorT()
    rows.arraySegments.values, rows.arrayIndices.values = [0, 0, 1, 1, 1, 3, 3], [1, 0, 1]
    sparsity.dimMetadata = [columns, rows, inner]
    assert np.array_equal(expand(sparsity, np.array([1, 2, 3, 0, 0, 4], np.int8), (4, 6)), dense)


def spoil_count(level: Any) -> None:
    level.arraySegments.values = np.append(level.arraySegments.values, 0)[1:]


def spoil_place(level: Any) -> None:
    level.arrayIndices.values = np.full_like(level.arrayIndices.values, 255)


def spoil_order(level: Any) -> None:
    level.arraySegments.values = level.arraySegments.values[::-1].copy()


def spoil_format(level: Any) -> None:
    level.format, level.denseSize = schema.DimensionType.DENSE, 10**9


def spoil_vector(level: Any) -> None:
    level.arrayIndices = None


@pytest.mark.parametrize("spoil", [spoil_count, spoil_place, spoil_order, spoil_format, spoil_vector])
def test_a_damaged_encoding_is_refused(spoil: Any) -> None:
    model = with_weight(sparse_values((4, 3, 3, 32), 0.8))
    spoil(model.subgraphs[0].tensors[1].sparsity.dimMetadata[3])
    with pytest.raises(ResourceError, match=r"tensor 1 .* cannot be read: its sparse encoding is damaged"):
        tensor_array(model, 1)


def test_a_difference_is_found_and_a_refusal_told() -> None:
    dense, sparse = shipped(net(), sparse=False), shipped(net(), sparse=True)
    assert difference(dense, sparse) == ""
    assert difference(dense, shipped(net(0.95), sparse=True)) == "LiteRT gives other outputs with it"
    model = read_model(sparse)
    next(tensor for tensor in model.subgraphs[0].tensors if tensor.sparsity is not None).sparsity = None
    assert "litert cannot run it" in difference(dense, pack(model))


def test_the_kernels_read_a_sparse_tensor_of_their_own_wrongly() -> None:
    """Why there is a DENSIFY at all: LiteRT takes the values of a sparse weight for those of a dense one."""
    model = read_model(net())
    tensor = model.subgraphs[0].tensors[1]
    encoding = encode(tensor_array(model, 1))
    tensor.sparsity = _parameters(encoding, tensor.shape)
    padded = np.zeros(64 * 9 * 64, np.uint8)  # so that nothing is read behind the buffer
    padded[: encoding.values.size] = encoding.values.reshape(-1).view(np.uint8)
    model.buffers[tensor.buffer].data = padded
    x = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 64)).astype(np.int8)
    outputs = []
    for content in (net(), pack(model)):
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert not np.array_equal(*outputs)
