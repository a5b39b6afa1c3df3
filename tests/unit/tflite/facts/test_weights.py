"""Zeros, multiply-accumulates and bytes, against counts made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgecompress.errors import ResourceError
from edgecompress.models.count import count
from edgecompress.tflite.facts.weights import macs, weight_sparsity
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views
from tests.unit.converted_net import INPUT_SHAPE, Converted
from tests.unit.made_flatbuffer import Made, Op, constant, int8, int8_classifier, make_bytes


def linear(weight: Made) -> bytes:
    return make_bytes([int8(1, 3), weight, int8(1, 2)], [Op("FULLY_CONNECTED", (0, 1, -1), (2,))])


def test_zeros_are_those_of_each_weight_tensor() -> None:
    tensors, ops = int8_classifier()
    tensors[1].values[2] = 0
    found = weight_sparsity(read_model(make_bytes(tensors, ops)))
    assert [(entry.tensor, entry.op_index, entry.total) for entry in found] == [(1, 0, 72), (4, 1, 36), (9, 3, 20)]
    assert [entry.zeros for entry in found] == [list(tensors[n].values.flat).count(0) for n in (1, 4, 9)]
    assert found[0].share == found[0].zeros / 72 >= 0.25


def test_a_zero_point_other_than_zero_is_what_stands_for_zero() -> None:
    asymmetric = constant([[0, 5, 5], [5, 0, 1]], "int8", scale=(0.1,), zero_point=(5,))
    assert weight_sparsity(read_model(linear(asymmetric)))[0].zeros == 3
    per_channel = constant([[0, 5, 5], [5, 0, 1]], "int8", scale=(0.1, 0.2), zero_point=(5, 1))
    assert weight_sparsity(read_model(linear(per_channel)))[0].zeros == 3
    by_column = constant([[0, 5, 5], [5, 0, 1]], "int8", scale=(0.1, 0.2, 0.3), zero_point=(9, 0, 1), axis=1)
    assert weight_sparsity(read_model(linear(by_column)))[0].zeros == 2


def test_zeros_of_float_weights_count_too() -> None:
    assert weight_sparsity(read_model(linear(constant([[0.0, 1.0, 0.0], [2.0, -0.0, 3.0]], "float32"))))[0].zeros == 3


def test_zero_points_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ResourceError, match="zero points do not fit"):
        weight_sparsity(read_model(linear(constant([[0, 5, 5], [5, 0, 1]], "int8", scale=(0.1,) * 3, axis=0))))


def test_a_weight_two_layers_share_counts_once() -> None:
    tensors = [int8(1, 2), constant([[1, 0], [0, 1]], "int8", scale=(0.1,)), int8(1, 2), int8(1, 2)]
    ops = [Op("FULLY_CONNECTED", (0, 1, -1), (2,)), Op("FULLY_CONNECTED", (2, 1, -1), (3,))]
    assert [(entry.zeros, entry.total) for entry in weight_sparsity(read_model(make_bytes(tensors, ops)))] == [(2, 4)]


def multiplies(tensors: list[Made], op: Op) -> int | None:
    view = graph_views(read_model(make_bytes(tensors, [op])))[0]
    return macs(view, view.ops[0])


def test_macs_of_each_kind_of_operator() -> None:
    def weights(*shape: int) -> Made:
        return constant(np.zeros(shape), "int8", scale=(0.1,))

    conv = [int8(1, 8, 8, 3), weights(5, 3, 3, 3), int8(1, 4, 4, 5)]
    assert multiplies(conv, Op("CONV_2D", (0, 1, -1), (2,))) == 4 * 4 * 5 * 27
    grouped = [int8(1, 8, 8, 4), weights(6, 3, 3, 2), int8(1, 8, 8, 6)]
    assert multiplies(grouped, Op("CONV_2D", (0, 1, -1), (2,))) == 64 * 6 * 18
    depthwise = [int8(1, 8, 8, 3), weights(1, 3, 5, 6), int8(1, 8, 8, 6)]
    assert multiplies(depthwise, Op("DEPTHWISE_CONV_2D", (0, 1, -1), (2,))) == 64 * 6 * 15
    assert multiplies([int8(1, 7), weights(4, 7), int8(1, 4)], Op("FULLY_CONNECTED", (0, 1, -1), (2,))) == 28
    volume = [int8(1, 4, 4, 4, 2), weights(3, 3, 3, 2, 5), int8(1, 2, 2, 2, 5)]
    assert multiplies(volume, Op("CONV_3D", (0, 1, -1), (2,))) == 8 * 5 * 54
    size = constant([1, 8, 8, 5], "int32")
    transposed = [size, weights(5, 3, 3, 2), int8(1, 4, 4, 2), int8(1, 8, 8, 5)]
    assert multiplies(transposed, Op("TRANSPOSE_CONV", (0, 1, 2), (3,))) == 16 * 2 * 9 * 5
    product = [int8(2, 3, 4), int8(2, 4, 5), int8(2, 3, 5)]
    assert multiplies(product, Op("BATCH_MATMUL", (0, 1), (2,))) == 2 * 3 * 5 * 4
    turned = [int8(2, 4, 3), int8(2, 4, 5), int8(2, 3, 5)]
    assert multiplies(turned, Op("BATCH_MATMUL", (0, 1), (2,), {"adjX": True})) == 2 * 3 * 5 * 4


def test_what_multiplies_by_no_matrix_has_none() -> None:
    assert multiplies([int8(1, 4), int8(1, 4), int8(1, 4)], Op("MUL", (0, 1), (2,))) is None
    assert multiplies([int8(1, 4), int8(1, 4)], Op("FULLY_CONNECTED", (0, -1), (1,))) is None
    assert multiplies([int8(1, 4), int8(1, 4)], Op("FULLY_CONNECTED", (0,), (1,))) is None
    assert multiplies([int8(4), int8(4), int8(1)], Op("BATCH_MATMUL", (0, 1), (2,))) is None
    assert multiplies([int8(4), int8(4), int8(1)], Op("TRANSPOSE_CONV", (0, 1), (2,))) is None


def test_macs_equal_those_of_the_torch_module(converted: Converted) -> None:
    view = graph_views(read_model(converted.structure))[0]
    assert sum(macs(view, op) or 0 for op in view.ops) == count(converted.module, INPUT_SHAPE).macs
