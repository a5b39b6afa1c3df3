"""The INT8 graph that ai-edge-quantizer decides on."""

from __future__ import annotations

import numpy as np

from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views
from tests.unit.converted_net import Converted


def test_every_operator_is_int8(converted: Converted) -> None:
    assert census(read_model(converted.structure)).not_int8 == ()


def test_operators_are_those_of_the_float_flatbuffer(converted: Converted) -> None:
    def kinds(content: bytes) -> list[str]:
        return [op.op for op in graph_views(read_model(content))[0].ops if op.op != "QUANTIZE"]

    assert kinds(converted.structure) == kinds(converted.floating.read_bytes())


def test_weights_are_symmetric_and_per_channel(converted: Converted) -> None:
    view = graph_views(read_model(converted.structure))[0]
    for op in view.ops:
        weight = view.weight(op)
        if weight is not None:
            channels = weight.shape[3] if op.op == "DEPTHWISE_CONV_2D" else weight.shape[0]
            assert len(weight.scale) == channels
            assert not any(weight.zero_point)
            assert weight.dtype == "int8"


def test_it_is_the_same_every_time(converted: Converted) -> None:
    again = read_model(quantized_structure(converted.floating.read_bytes()))
    first = read_model(converted.structure)
    assert graph_views(again) == graph_views(first)
    for a, b in zip(again.buffers, first.buffers, strict=True):
        assert np.array_equal(np.asarray(a.data), np.asarray(b.data))
