"""Comparing a flatbuffer with its twin: what agrees is said to agree, and a planted fault is found where it is."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

from edgecompress.quantization.proof import compare
from edgecompress.quantization.proof.compare import (
    MOST_STEPS,
    Agreement,
    LayerDifference,
    compare_answers,
    compare_layers,
    first_difference,
    match_tensors,
)
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from edgecompress.tflite.runtime.plain import kept_tensors
from tests.unit.converted_net import Converted, images, shipped
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def difference(index: int, **changes: object) -> LayerDifference:
    fields = {"max_steps": 1.0, "mean_steps": 0.1, "outlier_share": 0.0, "weights_differ": False} | changes
    return LayerDifference(index, f"layer{index}", "ADD", **fields)


def test_the_first_operator_that_differs_is_the_one_that_is_told() -> None:
    fine = [difference(0), difference(1, outlier_share=0.01), difference(2, max_steps=50.0)]
    assert first_difference(fine) is None
    assert first_difference([]) is None
    wrong = difference(3, outlier_share=0.011)
    assert first_difference([*fine, wrong, difference(4, weights_differ=True)]) is wrong
    assert first_difference([*fine, difference(5, weights_differ=True), wrong]).index == 5


def test_answers_that_are_the_same() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert compare_answers(reference, reference, 0.1) == Agreement(2, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0)


def test_answers_are_clear_where_the_references_best_two_are_more_than_a_step_apart() -> None:
    reference = np.array([[1.0, 0.9], [1.0, 0.7], [5.0, 0.0], [0.0, 5.0]], np.float32)
    outputs = np.array([[0.9, 1.0], [0.7, 1.0], [5.0, 0.0], [0.0, 5.0]], np.float32)
    found = compare_answers(outputs, reference, 0.1)
    assert found.samples == 4
    assert found.same == 50.0
    assert found.clear == 75.0  # the first row's two answers lie one step apart, the second's three
    assert found.clear_same == pytest.approx(100.0 * 2 / 3)
    assert found.max_steps == pytest.approx(3.0, rel=1e-5)
    assert found.mean_steps == pytest.approx((1 + 1 + 3 + 3) / 8, rel=1e-5)
    assert found.p999_steps == pytest.approx(3.0, rel=1e-2)


def test_without_a_clear_answer_none_of_them_differs() -> None:
    found = compare_answers(np.array([[0.0, 0.1]], np.float32), np.array([[0.1, 0.0]], np.float32), 0.1)
    assert (found.same, found.clear, found.clear_same) == (0.0, 0.0, 100.0)


def test_steps_are_counted_in_the_outputs_scale() -> None:
    reference, outputs = np.zeros((1, 4), np.float32), np.full((1, 4), 0.5, np.float32)
    assert compare_answers(outputs, reference, 0.25).max_steps == 2.0
    assert compare_answers(outputs, reference, 0.5).mean_steps == 1.0


def weighted(twin: Twin) -> list:
    return [node for node in twin.graph.nodes if node.op in WEIGHTED]


def compared(twin: Twin, model: schema.ModelT) -> list[LayerDifference]:
    content = pack(model)
    samples = images(3, seed=9).permute(0, 2, 3, 1).numpy()
    return compare_layers(twin, read_model(content), content, samples)


@pytest.mark.parametrize("k", range(5))
def test_a_corrupt_weight_is_found_in_its_layer(converted: Converted, twin: Twin, k: int) -> None:
    model = read_model(shipped(converted, twin)[0])
    assert len(weighted(twin)) == 5
    node = weighted(twin)[k]
    buffer = model.buffers[model.subgraphs[0].tensors[match_tensors(twin, model)[node.inputs[1]]].buffer]
    buffer.data = np.asarray(buffer.data) ^ np.uint8(0x40)
    layers = compared(twin, model)
    found = first_difference(layers)
    assert (found.index, found.layer, found.op, found.weights_differ) == (node.index, node.label, node.op, True)
    assert found.outlier_share > 0.1
    # What comes after it computes rightly on what it was given.
    assert [layer.index for layer in layers if layer.differs] == [node.index]


@pytest.mark.parametrize("k", range(5))
def test_one_wrong_bias_is_found_though_hardly_a_value_shows_it(converted: Converted, twin: Twin, k: int) -> None:
    model = read_model(shipped(converted, twin)[0])
    node = weighted(twin)[k]
    buffer = model.buffers[model.subgraphs[0].tensors[match_tensors(twin, model)[node.inputs[2]]].buffer]
    values = np.array(buffer.data).view(np.int32).copy()
    values[0] += 1
    buffer.data = values.view(np.uint8)
    layers = compared(twin, model)
    assert [layer.index for layer in layers if layer.differs] == [node.index]
    assert first_difference(layers).weights_differ


@pytest.mark.parametrize("k", [0, 2, 4])
def test_a_corrupt_scale_is_found_where_the_tensor_is_made(converted: Converted, twin: Twin, k: int) -> None:
    model = read_model(shipped(converted, twin)[0])
    node = weighted(twin)[k]
    number = match_tensors(twin, model)[node.outputs[0]]
    quantization = model.subgraphs[0].tensors[number].quantization
    quantization.scale = np.asarray(quantization.scale) * np.float32(1.25)
    assert first_difference(compared(twin, model)).index == node.index


def test_a_shifted_zero_point_is_found(converted: Converted, twin: Twin) -> None:
    model = read_model(shipped(converted, twin)[0])
    node = weighted(twin)[1]
    quantization = model.subgraphs[0].tensors[match_tensors(twin, model)[node.outputs[0]]].quantization
    quantization.zeroPoint = np.asarray(quantization.zeroPoint) + 1
    assert first_difference(compared(twin, model)).index == node.index


def test_an_operator_that_computes_something_else_is_found(converted: Converted, twin: Twin) -> None:
    model = read_model(shipped(converted, twin)[0])
    node = next(node for node in twin.graph.nodes if node.op == "MAX_POOL_2D")
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.AVERAGE_POOL_2D
    code.version = 2
    model.operatorCodes.append(code)
    model.subgraphs[0].operators[node.index].opcodeIndex = len(model.operatorCodes) - 1
    found = first_difference(compared(twin, model))
    assert (found.index, found.weights_differ) == (node.index, False)


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_tensors_are_matched_whatever_stands_around_them(converted: Converted, twin: Twin, io: str) -> None:
    model = read_model(shipped(converted, twin, io)[0])
    numbers = match_tensors(twin, model)
    for n, spec in enumerate(twin.graph.tensors):
        if n in numbers and spec.constant is not None:
            tensor = model.subgraphs[0].tensors[numbers[n]]
            assert tuple(tensor.shape) == spec.constant.shape
    assert {numbers[n] for node in twin.graph.nodes for n in node.outputs} <= set(
        range(len(model.subgraphs[0].tensors))
    )
    assert len(set(numbers.values())) == len(numbers)


def test_another_number_of_operators_is_an_error(converted: Converted, twin: Twin) -> None:
    model = read_model(shipped(converted, twin)[0])
    model.subgraphs[0].operators = model.subgraphs[0].operators[:-1]
    with pytest.raises(ValueError, match=r"shorter|argument"):
        match_tensors(twin, model)


def test_operators_with_other_tensors_are_an_error(converted: Converted, twin: Twin) -> None:
    model = read_model(shipped(converted, twin)[0])
    node = weighted(twin)[0]
    operator = model.subgraphs[0].operators[node.index]
    operator.inputs = np.asarray(operator.inputs)[:2]
    with pytest.raises(ValueError, match=rf"operator {node.index} \({node.label}\) has other tensors"):
        match_tensors(twin, model)


def test_operators_wired_otherwise_are_an_error(converted: Converted, twin: Twin) -> None:
    model = read_model(shipped(converted, twin)[0])
    node = next(node for node in twin.graph.nodes if node.op == "ADD")
    operator = model.subgraphs[0].operators[node.index]
    operator.inputs = np.asarray(operator.inputs)[::-1].copy()
    with pytest.raises(ValueError, match=rf"operator {node.index} \({node.label}\) is wired otherwise"):
        match_tensors(twin, model)


def test_the_twin_is_not_changed_by_the_comparison(converted: Converted, twin: Twin) -> None:
    x = images(4)
    with torch.no_grad():
        before = twin(x)
        compared(twin, read_model(shipped(converted, twin)[0]))
        assert torch.equal(twin(x), before)


def test_every_token_of_a_language_model_is_an_answer() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 1, (3, 5, 7)).astype(np.float32)
    outputs = reference.copy()
    outputs[0, 0] = -outputs[0, 0]
    found = compare_answers(outputs, reference, 0.1)
    flat = compare_answers(outputs.reshape(15, 7), reference.reshape(15, 7), 0.1)
    assert found == flat
    assert found.samples == 15
    assert found.same == pytest.approx(100 * 14 / 15)


def test_numbers_are_the_same_within_two_steps() -> None:
    reference = np.zeros((4, 2), np.float32)
    outputs = np.array([[0.0, 0.1], [0.2, -0.2], [0.31, 0.0], [0.0, 0.0]], np.float32)
    found = compare_answers(outputs, reference, 0.1, chooses=False)
    assert (found.samples, found.same, found.clear_same) == (4, 87.5, 87.5)
    assert found.max_steps == pytest.approx(3.1)


def test_many_answers_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 1, (50, 3)).astype(np.float32)
    outputs = (reference + rng.normal(0, 0.2, (50, 3))).astype(np.float32)
    whole = compare_answers(outputs, reference, 0.1)
    monkeypatch.setattr(compare, "ANSWERS_AT_A_TIME", 7)
    assert asdict(compare_answers(outputs, reference, 0.1)) == pytest.approx(asdict(whole))


def test_a_flatbuffer_that_only_optimised_kernels_run_is_not_built_as_its_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_options: object) -> None:
        raise RuntimeError(
            "conv.cc:425 NumElements(bias) != SizeOfDimension(filter, 0)\nNode number 1 failed to prepare."
        )

    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", refuse)
    with pytest.raises(ValueError, match=r"LiteRT's plain kernels cannot run it: conv.cc:425"):
        next(kept_tensors(b"", np.zeros((1, 4), np.float32), [0]))


def test_infinity_is_told_from_a_number_and_not_from_itself() -> None:
    """Where a network divides by zero: figures are numbers all the same."""
    tensors = [Made((1, 4)), constant([0.0, 0.0, 1.0, 2.0], "float32"), Made((1, 4))]
    content = make_bytes(tensors, [Op("DIV", (0, 1), (2,))])
    twin = Twin(read_model(content), read_model(content), ["division"]).eval()
    samples = np.array([[1.0, 0.0, 3.0, 4.0]], np.float32)
    (layer,) = compare_layers(twin, read_model(content), content, samples)
    assert (layer.max_steps, layer.differs) == (0.0, False)
    other = make_bytes([tensors[0], constant([1.0, 1.0, 1.0, 2.0], "float32"), tensors[2]], [Op("DIV", (0, 1), (2,))])
    (layer,) = compare_layers(twin, read_model(other), other, samples)
    assert (layer.max_steps, layer.differs) == (MOST_STEPS, True)
