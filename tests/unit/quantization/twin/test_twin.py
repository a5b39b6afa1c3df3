"""The twin computes what the float model and what the INT8 flatbuffer computes, and hands itself over unchanged."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.graph import tensor_values
from edgecompress.quantization.graph.layers import same_padding
from edgecompress.quantization.graph.ops import OPS
from edgecompress.quantization.grids.ranges import scale_and_zero_point
from edgecompress.quantization.proof.compare import compare_answers, compare_layers, first_difference, match_tensors
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.packing import pack
from tests.unit.converted_net import Converted, images, run_flatbuffer, shipped
from tests.unit.made_flatbuffer import Made, Op, constant, int8, int8_classifier, make_bytes


def test_float_twin_equals_the_torch_module(converted: Converted, twin: Twin) -> None:
    x = images(8, seed=1)
    with torch.no_grad(), twin.floating():
        np.testing.assert_allclose(twin(x).numpy(), converted.module(x).numpy(), atol=1e-4)


def test_flatbuffer_equals_the_twin_within_two_steps(converted: Converted, twin: Twin) -> None:
    x = images(64, seed=2)
    content, _ = shipped(converted, twin)
    with torch.no_grad():
        expected = twin(x).numpy()
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    steps = np.abs(run_flatbuffer(content, x) - expected) / step
    assert steps.max() <= 2.01
    assert steps.mean() < 0.02  # 0.1 without the rounding of the biases
    assert compare_answers(run_flatbuffer(content, x).astype(np.float32), expected, step).clear_same == 100.0


def test_quantized_twin_is_close_to_float_but_not_equal(twin: Twin) -> None:
    x = images(32, seed=4)
    with torch.no_grad():
        quantized = twin(x)
        with twin.floating():
            floating = twin(x)
    error = (quantized - floating).abs().max() / floating.abs().max()
    assert 0 < error < 0.1


def test_every_layer_agrees_when_nothing_is_wrong(converted: Converted, twin: Twin) -> None:
    content, _ = shipped(converted, twin)
    samples = images(4, seed=5).permute(0, 2, 3, 1).numpy()
    layers = compare_layers(twin, read_model(content), content, samples)
    assert len(layers) == len(twin.graph.nodes)
    assert first_difference(layers) is None
    assert max(layer.max_steps for layer in layers) <= 1.01


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_input_and_output_types_change_nothing_else(converted: Converted, twin: Twin, io: str) -> None:
    x = images(8, seed=6)
    plain, _ = shipped(converted, twin)
    content, labels = shipped(converted, twin, io)
    model = read_model(content)
    assert len(labels) == len(model.subgraphs[0].operators)
    np.testing.assert_allclose(run_flatbuffer(content, x), run_flatbuffer(plain, x), atol=1e-5)
    layers = compare_layers(twin, model, content, x[:2].permute(0, 2, 3, 1).numpy())
    assert first_difference(layers) is None


def weighted_layers() -> list[int]:
    return list(range(6))


@pytest.mark.parametrize("k", weighted_layers())
def test_a_fault_planted_in_layer_k_is_found_in_layer_k(converted: Converted, twin: Twin, k: int) -> None:
    content, _ = shipped(converted, twin)
    model = read_model(content)
    nodes = [node for node in twin.graph.nodes if node.op in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}]
    node = nodes[k % len(nodes)]
    number = match_tensors(twin, model)[node.inputs[1]]
    buffer = model.buffers[model.subgraphs[0].tensors[number].buffer]
    buffer.data = (np.asarray(buffer.data).view(np.int8) // 2).view(np.uint8)
    broken = pack(model)
    found = first_difference(compare_layers(twin, read_model(broken), broken, images(2).permute(0, 2, 3, 1).numpy()))
    assert found is not None
    assert found.layer == node.label
    assert found.weights_differ


def test_a_wrong_scale_is_found_where_it_is(converted: Converted, twin: Twin) -> None:
    content, _ = shipped(converted, twin)
    model = read_model(content)
    node = next(node for node in twin.graph.nodes if node.op == "ADD")
    number = match_tensors(twin, model)[node.outputs[0]]
    quantization = model.subgraphs[0].tensors[number].quantization
    quantization.scale = np.asarray(quantization.scale) * np.float32(1.5)
    broken = pack(model)
    found = first_difference(compare_layers(twin, read_model(broken), broken, images(2).permute(0, 2, 3, 1).numpy()))
    assert found is not None
    assert found.layer == node.label


def test_calibration_covers_what_was_seen_and_takes_the_known_input_range(converted: Converted) -> None:
    twin = converted.twin()
    x = images(32)
    twin.calibrate([x[:16], x[16:]], input_range=(-9.0, 7.0))
    group = twin.groups[twin.group_of[twin.graph.input]]
    assert (group.low, group.high) == (-9.0, 7.0)
    with torch.no_grad(), twin.floating():
        outputs = twin(x)
    last = twin.groups[twin.group_of[twin.graph.output]]
    assert last.low == pytest.approx(float(outputs.min()), abs=1e-5)
    assert last.high == pytest.approx(float(outputs.max()), abs=1e-5)


def test_calibration_without_samples_or_with_nan_is_refused(converted: Converted) -> None:
    with pytest.raises(ModelError, match="finite"):
        converted.twin().calibrate([])
    with pytest.raises(ModelError, match="finite"):
        converted.twin().calibrate([torch.full((1, 3, 12, 12), math.nan)])


def test_ranges_follow_in_training_and_freeze(converted: Converted, twin: Twin) -> None:
    source = twin.groups[twin.group_of[twin.graph.input]]
    first = twin.groups[twin.group_of[twin.graph.nodes[0].outputs[0]]]
    low, high, known = first.low, first.high, (source.low, source.high)
    x = images(16, seed=7) * 3
    with torch.no_grad(), twin.floating():
        seen = twin.run_node(
            twin.graph.nodes[0],
            twin.arguments(
                twin.graph.nodes[0],
                {twin.graph.input: twin.on_grid(twin.graph.input, x.permute(0, 2, 3, 1))},
                torch.device("cpu"),
            ),
        )[0]
    twin.train()
    twin.track_ranges(0.5)
    twin(x)
    assert (source.low, source.high) == known  # what the input can hold does not change with what it held
    assert low <= first.low <= 0
    assert high < first.high < high + 0.6 * (float(seen.max()) - high)
    after = [group.scale for group in twin.groups if not group.fixed]
    twin.track_ranges(None)
    twin(images(16, seed=8) * 9)
    assert [group.scale for group in twin.groups if not group.fixed] == after
    twin.eval()
    twin.track_ranges(0.5)
    twin(images(16, seed=8) * 9)
    assert [group.scale for group in twin.groups if not group.fixed] == after


def test_training_the_twin_lowers_the_loss_and_the_flatbuffer_follows(converted: Converted, twin: Twin) -> None:
    labels = torch.arange(64) % 5
    x = images(64, seed=9) + 0.7 * (labels - 2).reshape(-1, 1, 1, 1)
    twin.calibrate([x])
    optimizer = torch.optim.Adam(twin.parameters(), lr=5e-3)
    twin.train()
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(twin(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    twin.eval()
    with torch.no_grad():
        expected = twin(x).numpy()
    content, _ = shipped(converted, twin)
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    assert (np.abs(run_flatbuffer(content, x) - expected) / step).max() <= 2.01


def test_zeros_hold_through_training_and_into_the_flatbuffer(converted: Converted, twin: Twin) -> None:
    kernels = [key for key in twin.weights if int(key) not in twin.biases]
    with torch.no_grad():
        for key in kernels:
            twin.weights[key].mul_((torch.rand_like(twin.weights[key]) > 0.7).float())
    zero = {key: twin.weights[key] == 0 for key in kernels}
    twin.hold_zeros()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    for _ in range(5):
        loss = twin(images(8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        twin.apply_masks()
    integers = twin.quantized_constants()
    for key in kernels:
        assert bool((twin.weights[key][zero[key]] == 0).all())
        assert not integers[int(key)][0][zero[key].numpy()].any()


def test_a_dead_channel_gets_a_scale_its_bias_fits(converted: Converted, twin: Twin) -> None:
    bias, (owner, source) = next(iter(twin.biases.items()))
    with torch.no_grad():
        weight = twin.weights[str(owner)]
        weight.select(twin.graph.tensors[owner].axis, 0).zero_()
        twin.weights[str(bias)][0] = 5.0
    integers, scale = twin.quantized_constants()[bias]
    assert abs(int(integers[0])) <= 2**30
    assert integers[0] * float(scale[0]) == pytest.approx(5.0, rel=1e-3)
    assert twin.groups[twin.group_of[source]].scale > 0


def test_a_relu6_whose_output_is_all_but_zero_gets_a_scale_that_6_fits() -> None:
    """Else older kernels, and LiteRT's without XNNPACK, refuse the file: 6 / scale must fit INT32."""
    weight = constant(np.full((2, 2), 1), "int8", scale=(1e-9,))
    twin, model = made_twin(
        [int8(1, 2, scale=0.5), weight, int8(1, 2, scale=0.25)],
        [Op("FULLY_CONNECTED", (0, 1), (2,), {"fusedActivationFunction": 3})],
    )
    twin.calibrate([torch.rand(4, 2)])
    assert twin.groups[twin.group_of[2]].scale >= 6 / 2**31
    twin.write_into(model)
    assert compare_layers(twin, model, pack(model), np.zeros((1, 2), np.float32))[0].max_steps <= 1.01


def test_ranges_come_back_from_json(converted: Converted, twin: Twin) -> None:
    other = converted.twin()
    other.load_ranges(twin.ranges())
    other.load_state_dict(twin.state_dict())
    x = images(4)
    with torch.no_grad():
        assert torch.equal(other(x), twin(x))
    with pytest.raises(ModelError, match="no range"):
        other.load_ranges([])


def test_a_foreign_flatbuffer_is_refused(converted: Converted, twin: Twin) -> None:
    content, _ = shipped(converted, twin)
    with pytest.raises(ModelError, match="another flatbuffer"):
        twin.write_into(read_model(content))


def test_litert_computes_an_operator_without_arithmetic(converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    twin, x = converted.twin(), images(3)
    twin.calibrate([x])
    with torch.no_grad():
        expected = twin(x)
        monkeypatch.delitem(OPS, "ADD")
        other = converted.twin()
        other.calibrate([x])
        assert any(node.foreign is not None for node in other.graph.nodes)
        torch.testing.assert_close(other(x), expected, atol=1e-4, rtol=0)


@given(low=st.floats(-1e4, 1e4), width=st.floats(1e-3, 1e4), seed=st.integers(0, 2**31))
@settings(max_examples=200, deadline=None)
def test_quantization_error_is_at_most_half_a_step_inside_the_range(low: float, width: float, seed: int) -> None:
    scale, zero_point = scale_and_zero_point(low, low + width)
    assert -128 <= zero_point <= 127
    x = torch.rand(50, generator=torch.Generator().manual_seed(seed)) * width + low
    back = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, -128, 127)
    # Zero must be a grid point, which may shift the grid by up to half a step at the ends.
    assert float((back - x).abs().max()) <= scale * 1.001 + 1e-6 * abs(low)
    assert float(torch.fake_quantize_per_tensor_affine(torch.zeros(1), scale, zero_point, -128, 127)) == 0.0


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(28, 3, 2, (0, 1)), (28, 3, 1, (1, 1)), (7, 3, 2, (1, 1)), (8, 1, 2, (0, 0))],
)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, kernel, stride) == expected


def made_twin(tensors: list[Made], ops: list[Op]) -> tuple[Twin, schema.ModelT]:
    """Returns a twin of a graph made by hand, whose float values are those its integers stand for."""
    named = [replace(made, name=f"t{number}") for number, made in enumerate(tensors)]
    quantized = read_model(make_bytes(named, ops))
    plain = []
    for made in named:
        values = None if made.values is None else (np.float32(made.values) - (made.zero_point or (0,))[0])
        if values is not None and made.scale:
            shape = [-1 if d == made.axis and len(made.scale) > 1 else 1 for d in range(values.ndim)]
            values = values * np.float32(made.scale).reshape(shape)
        plain.append(Made(made.shape, "float32", values, name=made.name) if made.scale else made)
    return Twin(quantized, read_model(make_bytes(plain, ops)), [f"op{k}" for k in range(len(ops))]).eval(), quantized


def test_a_joined_constant_is_calibrated_with_the_rest_and_written_back() -> None:
    token = constant([[100, -100]], "int8", scale=(0.5,), zero_point=(3,))  # stands for 48.5 and -51.5
    twin, model = made_twin([int8(1, 2), token, int8(1, 4)], [Op("CONCATENATION", (0, 1), (2,), {"axis": 1})])
    twin.calibrate([torch.tensor([[-1.0, 1.0]])])
    assert (twin.groups[0].low, twin.groups[0].high) == (-51.5, 48.5)
    step = twin.groups[0].scale
    with torch.no_grad():
        assert twin(torch.zeros(1, 2))[0, 2:].tolist() == pytest.approx([48.5, -51.5], abs=step / 2)
    twin.write_into(model)
    stored = tensor_values(model, model.subgraphs[0].tensors[1]).astype(int)
    assert ((stored - twin.groups[0].zero_point) * step).tolist() == [pytest.approx([48.5, -51.5], abs=step / 2)]


def test_per_tensor_weights_and_unquantized_biases() -> None:
    weight = constant([[127, -64], [32, 0]], "int8", scale=(0.01,))
    twin, _ = made_twin([int8(1, 2), weight, int8(1, 2)], [Op("FULLY_CONNECTED", (0, 1), (2,))])
    assert twin.weight_scale(1).tolist() == pytest.approx([0.01])
    integers, scale = twin.quantized_constants()[1]
    assert integers.tolist() == [[127, -64], [32, 0]]
    assert scale.tolist() == pytest.approx([0.01])
    with torch.no_grad():
        twin.weights["1"].mul_(2)
        assert twin.weight_scale(1).tolist() == pytest.approx([0.02])
        outputs = twin(torch.tensor([[1.0, 0.5]]))
    assert outputs.tolist()[0] == pytest.approx([2 * (1.27 - 0.32), 0.64], abs=0.26)


def test_a_constant_operand_is_rounded_as_the_file_has_it() -> None:
    operand = constant([10, -20], "int8", scale=(0.1,), zero_point=(0,))
    twin, model = made_twin([int8(1, 2), operand, int8(1, 2, scale=0.25)], [Op("MUL", (0, 1), (2,))])
    twin.calibrate([torch.tensor([[3.0, 3.0]])])
    twin.constants[1] += 0.04  # less than half a step: the file cannot hold it
    with torch.no_grad():
        assert twin(torch.tensor([[3.0, 3.0]])).tolist()[0] == pytest.approx([3.0, -6.0], abs=0.05)
        with twin.floating():
            assert twin(torch.tensor([[3.0, 3.0]])).tolist()[0] == pytest.approx([3.12, -5.88], abs=1e-5)
    before = tensor_values(model, model.subgraphs[0].tensors[1]).tolist()
    twin.write_into(model)
    assert tensor_values(model, model.subgraphs[0].tensors[1]).tolist() == before


def test_float_weights_that_are_missing_are_named() -> None:
    tensors, ops = int8_classifier()
    quantized = read_model(make_bytes(tensors, ops))
    other = [replace(made, name=made.name.replace("w1", "else")) for made in tensors]
    with pytest.raises(ModelError, match="no constant named w1"):
        Twin(quantized, read_model(make_bytes(other, ops)), ["a", "b", "c", "d"])


def test_learned_scales_start_as_calibrated_and_are_written_back(twin: Twin) -> None:
    x = images(16, 5)
    with torch.no_grad():
        before = twin(x)
    learned = twin.learn_scales()
    twin.train()
    with torch.no_grad():
        assert torch.allclose(twin(x), before, atol=1e-5)
    source = twin.group_of[twin.graph.input]
    assert source not in learned
    k = next(k for k in range(len(twin.groups)) if k in learned)
    zero_point, scale = twin.groups[k].zero_point, twin.groups[k].scale
    with torch.no_grad():
        learned.logs[str(k)].fill_(0.01)
    learned.store()
    assert twin.groups[k].scale == pytest.approx(scale * math.exp(0.1), rel=1e-5)
    assert twin.groups[k].zero_point == zero_point
    twin.learned = None
    twin.load_ranges(twin.ranges())
    assert twin.groups[k].scale == pytest.approx(scale * math.exp(0.1), rel=1e-5)
    assert not [name for name, _ in twin.named_parameters() if "logs" in name]


def test_the_gradient_of_a_learned_scale_is_that_of_the_paper(twin: Twin) -> None:
    """Esser et al. 2020, equation 3: round(x/s) - x/s within the range, the limit beyond it, scaled."""
    learned = twin.learn_scales()
    k = next(k for k in range(len(twin.groups)) if k in learned)
    group = twin.groups[k]
    low, high = group.qmin - group.zero_point, group.qmax - group.zero_point
    steps = torch.tensor([[0.3, high + 50.0, low - 50.0, 1.7]])
    learned.fake(k, steps * group.scale).sum().backward()
    expected = (-0.3 + high + low + 0.3) / math.sqrt(4 * group.qmax)
    found = float(learned.logs[str(k)].grad) / (group.scale * 10.0)  # d scale / d log
    assert found == pytest.approx(expected, rel=1e-3)


def test_learning_scales_brings_the_outputs_nearer_to_the_float_model(twin: Twin) -> None:
    x = images(64, 7)
    with torch.no_grad(), twin.floating():
        target = twin(x)
    for group in twin.groups:
        group.set_range(3 * group.low, 3 * group.high)
    with torch.no_grad():
        before = float((twin(x) - target).square().mean())
    learned = twin.learn_scales()
    twin.train()
    optimizer = torch.optim.Adam(learned.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (twin(x) - target).square().mean().backward()
        optimizer.step()
        learned.store()
    twin.learned = None
    twin.eval()
    with torch.no_grad():
        assert float((twin(x) - target).square().mean()) < 0.5 * before
