"""What is not INT8 is found wherever it is planted, and named; what belongs to an INT8 model is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgecompress.errors import ModelError
from edgecompress.tflite.facts.census import ROOT, Census, census, layer_name, layer_names
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views
from tests.unit.made_flatbuffer import Made, Op, constant, int8, int8_classifier, make_bytes


def counted(tensors: list[Made], ops: list[Op], io: str = "int8", **ends: object) -> Census:
    return census(read_model(make_bytes(tensors, ops, **ends)), io=io)


def test_wider_types_are_faults_unless_they_are_allowed() -> None:
    tensors = [int8(1, 4), Made((1, 4), "float32"), Made((1, 4), "float32"), int8(1, 4)]
    ops = [Op("DEQUANTIZE", (0,), (1,)), Op("ABS", (1,), (2,)), Op("QUANTIZE", (2,), (3,))]
    model = read_model(make_bytes(tensors, ops))
    strict, free = census(model), census(model, allow=["float32"])
    assert [(item.op, item.dtype) for item in strict.not_int8] == [("DEQUANTIZE", "float32"), ("ABS", "float32")]
    assert strict.allowed == ()
    assert free.not_int8 == ()
    assert free.allowed == strict.not_int8
    assert census(model, allow=["int16"]).not_int8 == strict.not_int8
    assert free.as_dict()["allowed"][1]["op"] == "ABS"


@pytest.mark.parametrize(("weights", "faults"), [("int8", []), ("float32", ["FULLY_CONNECTED"])])
def test_float_activations_as_meant_leave_the_weights_to_be_integers(weights: str, faults: list[str]) -> None:
    tensors = [Made((1, 4), "float32"), constant(np.ones((2, 4)), weights), Made((1, 2), "float32")]
    model = read_model(make_bytes(tensors, [Op("FULLY_CONNECTED", (0, 1), (2,))]))
    found = census(model, io="float32", activations="dynamic")
    assert [item.op for item in found.not_int8] == faults
    assert {item.dtype for item in found.allowed} == {"float32"}
    assert len(census(model, io="float32").not_int8) >= 2


def test_int16_activations_are_as_meant_and_float_ones_are_not() -> None:
    tensors = [Made((1, 4), "int16"), Made((1, 4), "int16"), Made((1, 4), "float32")]
    model = read_model(make_bytes(tensors, [Op("ABS", (0,), (1,)), Op("DEQUANTIZE", (1,), (2,))]))
    found = census(model, io="int16", activations="int16")
    assert [item.dtype for item in found.not_int8] == ["float32"]


def test_an_int8_model_has_nothing_to_report() -> None:
    found = counted(*int8_classifier())
    assert found.not_int8 == ()
    assert {name: entry.count for name, entry in found.ops.items()} == {
        "CONV_2D": 1,
        "DEPTHWISE_CONV_2D": 1,
        "FULLY_CONNECTED": 1,
        "MEAN": 1,
    }
    assert all(entry.dtypes == {"int8": 1} for entry in found.ops.values())
    assert found.tensors == {"int32": 4, "int8": 8}


def test_operators_are_counted_the_most_frequent_first() -> None:
    tensors = [int8(1, 4) for _ in range(5)]
    ops = [Op("RELU", (0,), (1,)), Op("TANH", (1,), (2,)), Op("RELU", (2,), (3,)), Op("RELU", (3,), (4,))]
    found = counted(tensors, ops)
    assert list(found.ops) == ["RELU", "TANH"]
    assert found.ops["RELU"].count == 3


def test_a_float_operator_in_the_middle_is_named_once_per_tensor() -> None:
    tensors = [
        int8(1, 4, name="in"),
        Made((1, 4), name="real"),
        Made((1, 4), name="root"),
        int8(1, 4, name="out"),
    ]
    ops = [Op("DEQUANTIZE", (0,), (1,)), Op("SQRT", (1,), (2,)), Op("QUANTIZE", (2,), (3,))]
    found = counted(tensors, ops)
    assert [(item.op_index, item.op, item.tensor, item.dtype, item.why) for item in found.not_int8] == [
        (0, "DEQUANTIZE", "real", "float32", "it writes float32 values"),
        (1, "SQRT", "root", "float32", "it writes float32 values"),
    ]
    assert found.ops["SQRT"].dtypes == {"float32": 1}
    assert found.ops["DEQUANTIZE"].dtypes == {"int8/float32": 1}
    assert found.ops["QUANTIZE"].dtypes == {"float32/int8": 1}


def test_int8_weights_in_a_float_operator_do_not_hide_it() -> None:
    """Dynamic-range quantization: the weights are INT8, the arithmetic is not."""
    tensors = [
        Made((1, 4), name="in"),
        constant([[1, 2, 3, 4]], "int8", scale=(0.1,), name="w"),
        Made((1, 1), name="out"),
    ]
    found = counted(tensors, [Op("FULLY_CONNECTED", (0, 1, -1), (2,))])
    assert [(item.tensor, item.why) for item in found.not_int8] == [
        ("in", "it reads float32 values"),
        ("out", "it writes float32 values"),
    ]


def test_float_constants_are_named() -> None:
    tensors = [int8(1, 2), constant([0.5, 0.25], "float32", name="half"), int8(1, 2)]
    found = counted(tensors, [Op("MUL", (0, 1), (2,))])
    assert [(item.tensor, item.why) for item in found.not_int8] == [("half", "its constants are float32")]


def test_int16_activations_are_not_int8() -> None:
    tensors = [Made((1, 4), "int16", scale=(0.1,)), Made((1, 4), "int16", scale=(0.1,))]
    assert [item.dtype for item in counted(tensors, [Op("RELU", (0,), (1,))]).not_int8] == ["int16", "int16"]


def converting(kind: str) -> tuple[list[Made], list[Op]]:
    scale = () if kind == "float32" else (0.5,)
    tensors = [Made((1, 4), kind, scale=scale), int8(1, 4), int8(1, 4), Made((1, 4), kind, scale=scale)]
    last = "DEQUANTIZE" if kind == "float32" else "QUANTIZE"
    return tensors, [Op("QUANTIZE", (0,), (1,)), Op("RELU", (1,), (2,)), Op(last, (2,), (3,))]


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_conversions_at_the_border_are_right_where_they_were_asked_for(kind: str) -> None:
    assert counted(*converting(kind), io=kind).not_int8 == ()
    for io in {"int8", "uint8", "float32"} - {kind}:
        assert [item.op_index for item in counted(*converting(kind), io=io).not_int8] == [0, 2]


def test_only_conversions_may_touch_a_float_border() -> None:
    tensors = [Made((1, 4)), Made((1, 4))]
    assert len(counted(tensors, [Op("RELU", (0,), (1,))], io="float32").not_int8) == 2


def test_token_numbers_and_positions_are_not_activations() -> None:
    tensors = [
        Made((1, 3), "int32", name="tokens"),
        constant([[1, 2], [3, 4]], "int8", scale=(0.1,)),
        int8(3, 2),
        Made((1,), "int64", name="best"),
        constant([1], "int32"),
    ]
    ops = [Op("EMBEDDING_LOOKUP", (0, 1), (2,)), Op("ARG_MAX", (2, 4), (3,))]
    assert counted(tensors, ops, outputs=(3,)).not_int8 == ()


def test_integers_computed_from_activations_are_reported() -> None:
    tensors = [int8(1, 4, name="in"), Made((1, 4), "int32", name="sums")]
    assert [item.tensor for item in counted(tensors, [Op("CAST", (0,), (1,))]).not_int8] == ["sums"]


def test_numbers_computed_from_positions_are_positions() -> None:
    tensors = [
        int8(1, 4),
        Made((2,), "int32", name="shape"),
        constant([1], "int32"),
        Made((2,), "int32", name="more"),
    ]
    ops = [Op("SHAPE", (0,), (1,), {"outType": 2}), Op("ADD", (1, 2), (3,))]
    assert counted(tensors, ops).not_int8 == ()


def test_labels_replace_guessed_names() -> None:
    tensors = [int8(1, 4), Made((1, 4))]
    model = read_model(make_bytes(tensors, [Op("DEQUANTIZE", (0,), (1,))]))
    assert census(model, labels=["head"]).not_int8[0].layer == "head"
    with pytest.raises(ModelError, match="2 layer names for a flatbuffer of 1 operator: one"):
        census(model, labels=["a", "b"])


def test_it_is_plain_json() -> None:
    tensors = [int8(1, 4), Made((1, 4), name="real")]
    found = counted(tensors, [Op("DEQUANTIZE", (0,), (1,))]).as_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["not_int8"][0]["tensor"] == "real"
    assert found["ops"] == {"DEQUANTIZE": {"count": 1, "dtypes": {"int8/float32": 1}}}


def test_custom_and_unknown_operators_have_names() -> None:
    tensors = [int8(1, 4), int8(1, 4)]
    assert list(counted(tensors, [Op("CUSTOM", (0,), (1,), custom="Whirl")]).ops) == ["Whirl"]
    assert list(counted(tensors, [Op("CUSTOM", (0,), (1,))]).ops) == ["CUSTOM"]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("", ""),
        ("plain", "plain"),
        ("made/by/others", "made/by/others"),
        ("net.Net/net.Block_stack2/torch.nn.modules.conv.Conv2d_conv1;", "stack2.conv1"),
        ("net.Net/torch.nn.modules.container.Sequential_stem/torch.nn.modules.conv.Conv2d_0;1", "stem.0"),
        ("net.Net/net.Block_stack2;", "stack2"),
        ("net.Net/net.Two_Words_stack2;", "stack2"),
        ("net.Net/net.Block_my_attribute;", "my_attribute"),
        (
            "net.Net/torch.nn.modules.activation.ReLU_relu;;net.Net/torch.nn.modules.conv.Conv2d_conv;",
            "conv",
        ),
        (
            "litert_torch._convert.to_channel_last_io.ChannelLastIOWrapper/net.Net_wrapped/torch.nn.modules.linear.Linear_head;",
            "head",
        ),
        ("net.Net;3", ROOT),
    ],
)
def test_module_paths_are_read_from_tensor_names(written: str, name: str) -> None:
    assert layer_name(written) == name


def test_layer_names_are_unique_and_tell_the_operator() -> None:
    written = "net.Net/net.Block_stack;"
    tensors = [
        int8(1, 4),
        int8(1, 4, name=written),
        int8(1, 4, name=written),
        int8(1, 4, name="net.Net/net.Block_stack;1"),
        int8(1, 4),
        int8(1, 4, name="net.Net;2"),
    ]
    ops = [Op("ADD", (0, 0), (1,)), Op("ADD", (1, 1), (2,)), Op("MUL", (2, 2), (3,)), Op("RELU", (3,), (4,))]
    names = layer_names(graph_views(read_model(make_bytes(tensors, ops)))[0])
    assert names == ["stack.add", "stack.add#2", "stack.mul", "relu_3"]
