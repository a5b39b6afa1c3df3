"""Tensors and operators as plain values."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgecompress.errors import ResourceError
from edgecompress.tflite.facts.weights import weight_zeros
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import dtype_name, graph_views, op_name, tensor_array, text
from tests.unit.made_flatbuffer import Made, Op, constant, int8, int8_classifier, make_bytes, make_model


def test_tensors_are_described() -> None:
    view = graph_views(read_model(make_bytes(*int8_classifier())))[0]
    source, weight, bias = view.tensors[:3]
    assert (source.shape, source.dtype, source.scale, source.zero_point) == ((1, 6, 6, 2), "int8", (0.5,), (3,))
    assert (source.is_constant, source.size, source.buffer_bytes) == (False, 72, 0)
    assert (weight.shape, weight.is_constant, weight.buffer_bytes, weight.quantized_dimension) == (
        (4, 3, 3, 2),
        True,
        72,
        0,
    )
    assert weight.scale == tuple(float(np.float32(value)) for value in (0.01, 0.02, 0.03, 0.04))
    assert (bias.dtype, bias.buffer_bytes) == ("int32", 16)
    assert (view.inputs, view.outputs) == ((0,), (11,))


def test_operators_are_described() -> None:
    view = graph_views(read_model(make_bytes(*int8_classifier())))[0]
    conv, depthwise, mean, linear = view.ops
    assert [op.op for op in view.ops] == ["CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED"]
    assert (depthwise.options["strideH"], depthwise.options["depthMultiplier"]) == (2, 1)
    assert view.weight(conv) == view.tensors[1]
    assert view.bias(linear) == view.tensors[10]
    assert view.weight(mean) is None
    assert view.bias(mean) is None


def test_a_weight_that_is_computed_or_absent_is_none() -> None:
    tensors = [int8(1, 4), int8(2, 4), int8(1, 2)]
    view = graph_views(read_model(make_bytes(tensors, [Op("FULLY_CONNECTED", (0, 1, -1), (2,))])))[0]
    assert view.weight(view.ops[0]) is None
    assert view.bias(view.ops[0]) is None


def test_weights_that_are_expanded_before_use_are_the_stored_integers() -> None:
    stored = constant([[1, 0, 2]], "int8", scale=(0.1,))
    tensors = [Made((1, 3)), stored, Made((1, 3)), Made((1, 1)), Made((1, 3)), int8(1, 3)]
    ops = [Op("DEQUANTIZE", (1,), (2,)), Op("FULLY_CONNECTED", (0, 2, -1), (3,))]
    view = graph_views(read_model(make_bytes(tensors, ops)))[0]
    assert view.weight(view.ops[1]) == view.tensors[1]
    assert weight_zeros(read_model(make_bytes(tensors, ops))) == (1, 3)
    computed = [Op("DEQUANTIZE", (5,), (4,)), Op("FULLY_CONNECTED", (0, 4, -1), (3,))]
    view = graph_views(read_model(make_bytes(tensors, computed)))[0]
    assert view.weight(view.ops[1]) is None  # activations that were integers


def test_old_and_newer_operator_codes() -> None:
    model = make_model([int8(1, 4), int8(1, 4)], [Op("RELU", (0,), (1,))])
    code = model.operatorCodes[0]
    code.builtinCode = 0  # as files from before 2020 have it
    assert op_name(model, model.subgraphs[0].operators[0]) == "RELU"
    code.builtinCode = 5000
    assert op_name(model, model.subgraphs[0].operators[0]) == "UNKNOWN_5000"


def test_types_have_names() -> None:
    assert dtype_name(schema.TensorType.INT8) == "int8"
    assert dtype_name(schema.TensorType.FLOAT32) == "float32"
    assert dtype_name(99) == "unknown_99"


@pytest.mark.parametrize("values", [[[1, -2], [3, 4]], [[0.5, -0.25], [1e6, 3.0]]])
def test_constants_come_back_in_their_shape(values: list[list[float]]) -> None:
    dtype = "int8" if isinstance(values[0][0], int) else "float32"
    model = read_model(make_bytes([int8(1, 2), constant(values, dtype), int8(1, 2)], [Op("ADD", (0, 1), (2,))]))
    np.testing.assert_array_equal(tensor_array(model, 1), np.array(values, dtype))
    assert tensor_array(model, 1).dtype == np.dtype(dtype)


def with_raw(raw: list[int], shape: tuple[int, ...], dtype: str) -> schema.ModelT:
    return make_model([int8(1, 2), Made(shape, dtype, np.array(raw, np.uint8)), int8(1, 2)], [Op("ADD", (0, 1), (2,))])


def test_four_bit_integers_are_unpacked_with_their_sign() -> None:
    # Low half first: 0x1F is -1, 1; 0x87 is 7, -8; the last half byte of an odd count is padding.
    assert tensor_array(with_raw([0x1F, 0x87], (4,), "int4"), 1).tolist() == [-1, 1, 7, -8]
    assert tensor_array(with_raw([0x1F, 0x07], (3,), "int4"), 1).tolist() == [-1, 1, 7]


def test_bfloat16_is_read_as_float32() -> None:
    # 0x3F80 is 1.0 and 0xC000 is -2.0, little-endian.
    assert tensor_array(with_raw([0x80, 0x3F, 0x00, 0xC0], (2,), "bfloat16"), 1).tolist() == [1.0, -2.0]


@pytest.mark.parametrize(
    ("raw", "shape", "dtype", "message"),
    [
        ([1, 2, 3], (4,), "int8", "3 bytes of values, which do not fit"),
        ([1, 2, 3], (1,), "float32", "3 bytes of values, which do not fit"),
        ([1, 2, 3], (1,), "bfloat16", "3 bytes of values, which do not fit"),
        ([1, 2, 3], (4, 2), "int4", "3 bytes of values, which do not fit"),
        ([1, 2, 3], (1,), "string", "string.* a type that cannot be read"),
        ([], (2,), "int8", "no values in the file"),
    ],
)
def test_values_that_do_not_fit_are_refused(raw: list[int], shape: tuple[int, ...], dtype: str, message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        tensor_array(with_raw(raw, shape, dtype), 1)


def test_a_sparse_encoding_without_axes_is_refused() -> None:
    model = with_raw([1, 2], (2,), "int8")
    model.subgraphs[0].tensors[1].sparsity = schema.SparsityParametersT()
    with pytest.raises(ResourceError, match="its sparse encoding is damaged"):
        tensor_array(model, 1)


def test_texts_lose_what_a_terminal_would_obey() -> None:
    assert text(b"caf\xc3\xa9") == "café"
    assert text(b"a\x1b[31mb\n") == "a\N{REPLACEMENT CHARACTER}[31mb\N{REPLACEMENT CHARACTER}"
    assert text(b"\xff") == "\N{REPLACEMENT CHARACTER}"
    assert text(None) == ""
    assert text("name") == "name"


def test_an_empty_constant_is_a_constant() -> None:
    view = graph_views(
        read_model(make_bytes([int8(1, 2), Made((0,), "int32"), int8(1, 2)], [Op("RESHAPE", (0, 1), (2,))]))
    )[0]
    assert view.tensors[1].is_constant
    assert not view.tensors[0].is_constant
