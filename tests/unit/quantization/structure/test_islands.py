"""Operators the quantizer leaves in float although they have an INT8 kernel are brought back."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.quantization.grids.ranges import LARGEST_COMPARED
from edgecompress.quantization.proof.compare import compare_answers
from edgecompress.quantization.structure.islands import FIXED_GRID, OWN_SCALE, remove_islands
from edgecompress.quantization.structure.scheme import Activations, Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import op_name
from tests.unit.converted_net import Converted, images, run_flatbuffer, shipped
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes, make_model


class Leaky(nn.Module):
    """Two leaky activations and the largest value of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.leaky = nn.LeakyReLU(0.1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.leaky(self.a(x))
        x = self.leaky(self.b(x))
        return self.head(x.amax((2, 3)))


def test_a_network_with_leaky_relu_and_a_maximum_becomes_all_int8(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Leaky().eval(), tmp_path / "float.tflite"
    convert(module, (3, 12, 12), path)
    converted = Converted(module, path, quantized_structure(path.read_bytes()))
    twin = converted.twin()
    twin.calibrate([images(64)])
    content, labels = shipped(converted, twin)
    found = census(read_model(content), labels=labels).as_dict()
    assert found["not_int8"] == []
    assert {"LEAKY_RELU", "REDUCE_MAX"} <= set(found["ops"])
    assert "DEQUANTIZE" not in found["ops"]
    x = images(200, seed=1)
    with torch.no_grad():
        expected, floating = twin(x).numpy(), module(x).numpy()
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    outputs = run_flatbuffer(content, x).astype(np.float32)
    assert compare_answers(outputs, expected, step).p999_steps <= 2.01
    assert (outputs.argmax(1) == floating.argmax(1)).mean() > 0.95


def island(op: str, *, after: str = "QUANTIZE") -> list[Op]:
    return [Op("DEQUANTIZE", (0,), (1,), version=2), Op(op, (1,), (2,)), Op(after, (2,), (3,))]


@pytest.mark.parametrize("op", sorted(OWN_SCALE))
def test_an_operator_with_a_scale_of_its_own_keeps_the_one_it_was_given(op: str) -> None:
    tensors = [int8(1, 4, scale=0.5), Made((1, 4)), Made((1, 4)), int8(1, 4, scale=0.25)]
    model = make_model(tensors, island(op))
    assert remove_islands(model) == 1
    (operator,) = model.subgraphs[0].operators
    assert (list(operator.inputs), list(operator.outputs)) == ([0], [3])


LOG_PROBABILITIES = (1 / 16, 127)


def grid_of(model: schema.ModelT, number: int) -> tuple[float, int]:
    q = model.subgraphs[0].tensors[number].quantization
    return float(q.scale[0]), int(q.zeroPoint[0])


def test_log_softmax_gets_the_one_grid_that_its_kernel_takes() -> None:
    assert FIXED_GRID == {"LOG_SOFTMAX": LOG_PROBABILITIES}
    model = make_model([int8(1, 4, scale=0.5), Made((1, 4)), Made((1, 4)), int8(1, 4)], island("LOG_SOFTMAX"))
    assert remove_islands(model) == 1
    (operator,) = model.subgraphs[0].operators
    assert (list(operator.inputs), list(operator.outputs)) == ([0], [3])
    assert grid_of(model, 3) == LOG_PROBABILITIES
    assert grid_of(model, 0) == (0.5, 3)


def test_what_passes_log_probabilities_on_keeps_the_grid_it_was_given() -> None:
    tensors = [int8(1, 4, scale=0.5), Made((1, 4)), Made((1, 4)), int8(1, 4), int8(4, scale=0.5)]
    model = read_model(make_bytes(tensors, [*island("LOG_SOFTMAX"), Op("RESHAPE", (3,), (4,))]))
    assert remove_islands(model) == 1
    softmax, converts, reshape = model.subgraphs[0].operators
    assert grid_of(model, int(softmax.outputs[0])) == LOG_PROBABILITIES
    assert list(converts.inputs) == list(softmax.outputs)
    assert grid_of(model, 3) == grid_of(model, 4) == (0.5, 3)
    assert list(reshape.inputs) == list(converts.outputs) == [3]


class Chances(nn.Module):
    """Ends in log-probabilities, which may then be reshaped."""

    def __init__(self, *, reshaped: bool) -> None:
        super().__init__()
        self.conv, self.head, self.reshaped = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 6), reshaped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return torch.log_softmax(x.reshape(-1, 2, 3), -1).reshape(-1, 6) if self.reshaped else torch.log_softmax(x, -1)


@pytest.mark.parametrize("reshaped", [False, True])
@pytest.mark.parametrize("gain", [1.0, 300.0])
def test_log_probabilities_are_the_twins(tmp_path: Path, reshaped: bool, gain: float) -> None:
    """With the larger gain most of them lie below the least that the grid holds."""
    torch.manual_seed(0)
    module, path = Chances(reshaped=reshaped).eval(), tmp_path / "float.tflite"
    with torch.no_grad():
        module.head.weight.mul_(gain)
    convert(module, (3, 12, 12), path)
    converted = Converted(module, path, quantized_structure(path.read_bytes()))
    twin = converted.twin()
    twin.calibrate([images(64)])
    content, labels = shipped(converted, twin)
    assert census(read_model(content), labels=labels).as_dict()["not_int8"] == []
    x = images(200, seed=1)
    with torch.no_grad():
        expected = twin(x).numpy()
    outputs = run_flatbuffer(content, x).astype(np.float32)
    found = compare_answers(outputs, expected, twin.groups[twin.group_of[twin.graph.output]].scale)
    assert found.same == 100.0
    # From one grid to the next the kernel is off in rare ties.
    assert found.mean_steps < (0.02 if reshaped else 1e-3)
    assert ((outputs < -15.9).mean() > 0.1) == (gain > 1)


def test_what_has_no_int8_kernel_stays(tmp_path: Path) -> None:
    tensors = [int8(1, 4), Made((1, 4)), Made((1, 4)), int8(1, 4)]
    model = make_model(tensors, island("SIN"))
    assert remove_islands(model) == 0
    assert len(model.subgraphs[0].operators) == 3


def test_a_float_reader_behind_it_still_gets_floats() -> None:
    tensors = [int8(1, 4, scale=0.5), Made((1, 4)), Made((1, 4)), Made((1, 4))]
    model = read_model(make_bytes(tensors, island("LEAKY_RELU", after="SIN")))
    assert remove_islands(model) == 1
    graph = model.subgraphs[0]
    leaky, back, sine = graph.operators
    assert list(leaky.inputs) == [0]
    assert list(back.inputs) == list(leaky.outputs)
    assert list(sine.inputs) == list(back.outputs)
    assert graph.tensors[int(leaky.outputs[0])].quantization.scale[0] == 0.5


def test_inputs_with_different_scales_are_brought_to_one() -> None:
    tensors = [int8(1, 4, scale=0.5), int8(1, 4, scale=0.25), Made((1, 4)), Made((1, 4)), Made((1, 4)), int8(1, 4)]
    ops = [
        Op("DEQUANTIZE", (0,), (2,), version=2),
        Op("DEQUANTIZE", (1,), (3,), version=2),
        Op("MINIMUM", (2, 3), (4,)),
        Op("QUANTIZE", (4,), (5,)),
    ]
    model = make_model(tensors, ops, inputs=(0, 1))
    assert remove_islands(model) == 1
    graph = model.subgraphs[0]
    assert [op_name(model, op) for op in graph.operators] == ["QUANTIZE", "QUANTIZE", "MINIMUM", "QUANTIZE"]
    smallest = graph.operators[2]
    grids = {float(graph.tensors[int(n)].quantization.scale[0]) for n in (*smallest.inputs, *smallest.outputs)}
    assert len(grids) == 1


@pytest.mark.parametrize("op", ["MINIMUM", "GREATER"])
def test_a_constant_beside_an_activation_is_stored_as_integers(op: str) -> None:
    limit = constant([0.75], "float32", name="limit")
    sink = Made((1, 4)) if op == "MINIMUM" else Made((1, 4), "bool")
    tensors = [int8(1, 4, scale=0.5), Made((1, 4)), limit, sink]
    model = make_model(tensors, [Op("DEQUANTIZE", (0,), (1,), version=2), Op(op, (1, 2), (3,))])
    assert remove_islands(model) == 1
    graph = model.subgraphs[0]
    worked = next(one for one in graph.operators if op_name(model, one) == op)
    stored = graph.tensors[int(worked.inputs[1])]
    assert stored.type == schema.TensorType.INT8
    value = (int(model.buffers[stored.buffer].data.view(np.int8)[0]) - int(stored.quantization.zeroPoint[0])) * float(
        stored.quantization.scale[0]
    )
    # On the grid of what it is chosen against, or on one of its own.
    assert value == pytest.approx(1.0 if op == "MINIMUM" else 0.75, rel=1e-2)


def test_unused_tensors_and_codes_are_not_shipped() -> None:
    from edgecompress.tflite.format.finish import finish

    tensors = [int8(1, 4, scale=0.5), Made((1, 4)), Made((1, 4)), int8(1, 4, scale=0.25)]
    model = make_model(tensors, island("LEAKY_RELU"))
    remove_islands(model)
    content, _ = finish(model, ["leaky"], "int8")
    shipped_model = read_model(content)
    assert len(shipped_model.subgraphs[0].tensors) == 2
    assert len(shipped_model.operatorCodes) == 1
    assert len(content) < len(make_bytes(tensors, island("LEAKY_RELU")))


class Words(nn.Module):
    """A table of words, the largest value or the mean of each column, a linear layer."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.table, self.head, self.pool = nn.Embedding(50, 8), nn.Linear(8, 4), pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.table(x)
        return self.head(x.amax(1) if self.pool == "max" else x.mean(1))


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_an_embedding_has_an_int8_table_and_gives_what_it_holds(
    tmp_path: Path, activations: Activations, pool: str
) -> None:
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    torch.manual_seed(0)
    module = Words(pool).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = bytes(litert_torch.convert(module, (torch.zeros(1, 12, dtype=torch.int32),)).model_content())
    path = tmp_path / "words.tflite"
    path.write_bytes(content)
    converted = Converted(module, path, quantized_structure(content, Scheme(activations=activations)))
    twin = converted.twin()
    words = torch.randint(0, 50, (200, 12), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    twin.calibrate([words])
    content, labels = shipped(converted, twin, activations)
    model = read_model(content)
    found = census(model, labels=labels, activations=activations, allow=["float32"]).as_dict()
    assert found["not_int8"] == []
    wide = activations == "int16"
    floats = {item["op"] for item in found["allowed"] if item["dtype"] == "float32"}
    assert floats == ({"DEQUANTIZE", "REDUCE_MAX"} if wide and pool == "max" else set())
    assert {"EMBEDDING_LOOKUP", {"max": "REDUCE_MAX", "mean": "MEAN"}[pool]} <= set(found["ops"])
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert source["dtype"] == np.int32
    scale, zero_point = sink["quantization"]
    outputs = []
    for row in words.numpy():
        interpreter.set_tensor(source["index"], row[None])
        interpreter.invoke()
        outputs.append((interpreter.get_tensor(sink["index"])[0].astype(np.float32) - zero_point) * scale)
    with torch.no_grad():
        expected = twin(words).numpy()
        floats = module(words).numpy()
    answers = compare_answers(np.array(outputs), expected, scale)
    assert answers.same == 100.0
    assert answers.max_steps <= (16.0 if wide else 1.01)
    assert float(np.abs(expected - floats).max()) < (0.02 * np.ptp(floats) if wide else 8 * scale)
    graph = model.subgraphs[0]
    lookup = next(op for op in graph.operators if op_name(model, op) == "EMBEDDING_LOOKUP")
    assert {graph.tensors[n].type for n in (lookup.inputs[1], lookup.outputs[0])} == {schema.TensorType.INT8}
    assert grid_of(model, lookup.inputs[1]) == grid_of(model, lookup.outputs[0])
    readers = [op for op in graph.operators if lookup.outputs[0] in op.inputs]
    written = {op_name(model, op): graph.tensors[op.outputs[0]].type for op in readers}
    assert written == ({"QUANTIZE": schema.TensorType.INT16} if wide else {"RESHAPE": schema.TensorType.INT8})
    table = twin.weights[str(next(node for node in twin.graph.nodes if node.op == "EMBEDDING_LOOKUP").inputs[1])]
    assert table.requires_grad


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e6, 254.0])
def test_a_comparison_with_what_lies_beyond_all_values_has_a_scale_that_the_kernel_takes(value: float) -> None:
    """LiteRT ends the process at a scale of 1 or more."""
    tensors = [int8(1, 4, scale=0.5), Made((1, 4)), constant(value, "float32", name="limit"), Made((1, 4), "bool")]
    ops = [Op("DEQUANTIZE", (0,), (1,), version=2), Op("GREATER", (1, 2), (3,), version=2)]
    model = make_model(tensors, ops)
    assert remove_islands(model) == 1
    scale, zero_point = grid_of(model, int(model.subgraphs[0].operators[0].inputs[1]))
    assert 0 < scale < LARGEST_COMPARED
    assert zero_point == (-128 if value > 0 else 127)
