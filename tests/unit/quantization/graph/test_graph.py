"""What the twin reads from a flatbuffer, and what it cannot work with."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.graph import read_graph, tensor_values
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import tensor_array
from tests.unit.converted_net import Converted
from tests.unit.made_flatbuffer import Made, Op, constant, int8, int8_classifier, make_bytes, make_model

LABELS = ["conv", "depthwise", "mean", "head"]


def test_tensors_have_their_quantization_and_values() -> None:
    tensors, ops = int8_classifier()
    graph = read_graph(read_model(make_bytes(tensors, ops)), LABELS)
    assert (graph.input, graph.output) == (0, 11)
    assert [node.label for node in graph.nodes] == LABELS
    source, weight = graph.tensors[0], graph.tensors[1]
    assert source.quantized
    assert source.constant is None
    assert (float(source.scale[0]), int(source.zero_point[0])) == (0.5, 3)
    np.testing.assert_array_equal(weight.constant, tensors[1].values)
    assert (weight.axis, weight.dtype) == (0, np.int8)
    assert graph.tensors[4].axis == 3
    assert not graph.tensors[7].quantized


def test_constants_of_the_converter_are_read_as_elsewhere(converted: Converted) -> None:
    model = read_model(converted.structure)
    found = 0
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        values = tensor_values(model, tensor)
        if values is not None:
            np.testing.assert_array_equal(values, tensor_array(model, index))
            found += 1
    assert found > 10


def test_control_flow_cannot_be_simulated() -> None:
    model = make_model(*int8_classifier())
    model.subgraphs.append(copy.deepcopy(model.subgraphs[0]))
    with pytest.raises(ModelError, match="2 subgraphs; control flow"):
        read_graph(model, LABELS)


def test_one_input_is_expected_and_of_several_outputs_the_first_counts() -> None:
    tensors, ops = [int8(1, 4, name=name) for name in "abc"], [Op("ADD", (0, 1), (2,))]
    two = read_model(make_bytes(tensors, ops, inputs=(0, 1)))
    with pytest.raises(ModelError, match="2 inputs and 1 output; one input is expected"):
        read_graph(two, ["add"])
    assert read_graph(read_model(make_bytes(tensors, ops, outputs=(2, 1))), ["add"]).output == 2


def test_types_it_cannot_read_are_named() -> None:
    odd = [Made((1, 2), "complex64", name="spectrum"), Made((1, 2), "complex64")]
    with pytest.raises(ModelError, match=r"spectrum.*a type this tool cannot read"):
        read_graph(read_model(make_bytes(odd, [Op("ABS", (0,), (1,))])), ["abs"])
    model = make_model([int8(1, 2), Made((1,), "complex64", np.zeros(1, np.complex64), name="c")], [])
    with pytest.raises(ModelError, match=r"'c'.*a type this tool cannot read"):
        tensor_values(model, model.subgraphs[0].tensors[1])


def test_custom_operators_have_their_own_name() -> None:
    model = read_model(make_bytes([int8(1, 4), int8(1, 4)], [Op("CUSTOM", (0,), (1,), custom="Whirl")]))
    assert read_graph(model, ["x"]).nodes[0].op == "Whirl"
    model.operatorCodes[0].customCode = None
    model.operatorCodes[0].builtinCode = 5000
    assert read_graph(model, ["x"]).nodes[0].op == "BUILTIN_5000"


def test_an_absent_input_has_no_shape() -> None:
    weight = constant([[1, 2]], "int8", scale=(0.1,))
    model = read_model(make_bytes([int8(1, 2), weight, int8(1, 1)], [Op("FULLY_CONNECTED", (0, 1, -1), (2,))]))
    node = read_graph(model, ["x"]).nodes[0]
    assert node.inputs == (0, 1, -1)
    assert node.input_shapes == ((1, 2), (1, 2), ())
