"""The quantizer behind its adapter: what it is told, and what becomes of its failures."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName

from edgecompress.errors import ModelError
from edgecompress.quantization.structure.quantizer import (
    EVERY,
    OUTPUT,
    Instruction,
    _recipe,
    known_operators,
    quantize,
)
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views
from tests.unit.converted_net import Converted


def test_what_a_scheme_tells_the_quantizer() -> None:
    scheme = Scheme(weights="int4", wide={"b;": "int16", "a(1)": "float32"})
    assert [astuple(one) for one in scheme.instructions()] == [
        (".*", EVERY, "int8", 8),
        (".*", "CONV_2D", "int8", 4),
        (".*", "FULLY_CONNECTED", "int8", 4),
        (r"^(?:b;);$", EVERY, "int16", 8),
        (r"^(?:a\(1\));$", EVERY, "float32", 8),
        (".*;$", OUTPUT, "int8", 8),
    ]
    assert [one.precision for one in Scheme(activations="float32").instructions()] == ["weights"]
    assert [one.precision for one in Scheme(activations="dynamic").instructions()] == ["dynamic"]


@pytest.mark.parametrize(
    ("precision", "activations", "compute", "explicit"),
    [
        ("int8", (8, False), "INTEGER", False),
        ("int16", (16, True), "INTEGER", False),
        ("dynamic", None, "INTEGER", False),
        ("weights", None, "FLOAT", True),
    ],
)
def test_precisions_are_the_quantizers(precision, activations, compute, explicit) -> None:  # type: ignore[no-untyped-def]
    (entry,) = _recipe([Instruction("x", "FULLY_CONNECTED", precision, 4)])
    told = entry["op_config"]
    assert (entry["regex"], entry["operation"]) == ("x", "FULLY_CONNECTED")
    assert told["weight_tensor_config"]["num_bits"] == 4
    assert told["weight_tensor_config"]["symmetric"] is True
    assert told["weight_tensor_config"]["granularity"] == qtyping.QuantGranularity.CHANNELWISE
    assert told["compute_precision"] == compute
    assert told["explicit_dequantize"] is explicit
    found = told.get("activation_tensor_config")
    assert (found and (found["num_bits"], found["symmetric"])) == activations


def test_float32_leaves_operators_alone() -> None:
    (entry,) = _recipe([Instruction("x", EVERY, "float32")])
    assert entry["algorithm_key"] == AlgorithmName.NO_QUANTIZE


def test_it_does_what_the_last_fitting_instruction_says(converted: Converted) -> None:
    content = quantize(
        converted.floating.read_bytes(),
        [Instruction(".*", EVERY, "weights"), Instruction(".*", "CONV_2D", "float32")],
        None,
    )
    (view, *_) = graph_views(read_model(content))
    kinds = {op.op: weight.dtype for op in view.ops if (weight := view.weight(op)) is not None}
    assert kinds["CONV_2D"] == "float32"
    assert "DEQUANTIZE" in {op.op for op in view.ops}
    assert census(read_model(content)).not_int8


def test_names_are_the_schemas() -> None:
    assert {"TRANSPOSE_CONV", "CONV_2D", "SOFTMAX"} <= known_operators("int8")
    assert "CONV_2D_TRANSPOSE" not in known_operators("int8")
    assert known_operators("int16") < known_operators("int8")


def test_what_the_quantizer_cannot_do_is_an_error(converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
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
