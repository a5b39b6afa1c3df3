"""The INT8 graph that ai-edge-quantizer decides on."""

from __future__ import annotations

import numpy as np
import pytest

from edgecompress.errors import ModelError
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


def test_what_the_quantizer_cannot_do_is_an_error(converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_quantizer import quantizer

    def fail(*_args: object) -> None:
        raise NotImplementedError("WHIRL is not supported")

    with monkeypatch.context() as patch:
        patch.setattr(quantizer.Quantizer, "quantize", fail)
        with pytest.raises(ModelError, match="the INT8 graph could not be built: NotImplementedError: WHIRL"):
            quantized_structure(converted.floating.read_bytes())

    class Nothing:
        quantized_model = None

    monkeypatch.setattr(quantizer.Quantizer, "quantize", lambda *_args: Nothing())
    with pytest.raises(ModelError, match="the quantizer returned nothing"):
        quantized_structure(converted.floating.read_bytes())
