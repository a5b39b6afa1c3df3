"""Networks over text, series and tables: padding, causality, and that INT8 flatbuffers of them compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError
from edgecompress.models.building import build_model
from edgecompress.models.built_in.recurrent import OneStep
from edgecompress.models.conversion import converted_form
from edgecompress.quantization.grids.tying import share_biases
from edgecompress.quantization.structure.cells import find_cells, hand_on_floats
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.stepping import take_integers
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.recipe.schema import ModelSpec
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert, convert_inputs
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import dequantize_output, quantize_input, run_steps

STEPS, WORDS, CLASSES = 5, 20, 4
TEXT = Ends((STEPS,), (CLASSES,), "tokens", WORDS)
SERIES = Ends((STEPS, 3), (CLASSES,), "series")
NEXT_WORD = Ends((STEPS,), (STEPS, WORDS), "tokens", WORDS)
TABLE = Ends((5,), (2,), "features")
SAME = Ends((5,), (5,), "features")
SMALL = {"width": 8, "hidden": 12, "heads": 2, "layers": 1}


def made(name: str, ends: Ends, **args: object) -> nn.Module:
    """Returns a network in evaluation mode, its norms with statistics that are not those of a new one."""
    spec = ModelSpec.model_validate({"model": name, "args": args})
    model = build_model(spec, ends.input_shape, ends.outputs[-1], trust=False, base_dir=Path(), seed=0, ends=ends)
    torch.manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.3)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 2.0)
    return model.eval()


def samples(ends: Ends, count: int) -> torch.Tensor:
    """Returns random inputs, some of the texts with padding in front."""
    torch.manual_seed(2)
    if ends.kind != "tokens":
        return torch.randn(count, *ends.input_shape)
    tokens = torch.randint(1, ends.vocabulary, (count, STEPS), dtype=torch.int32)
    if len(ends.outputs) == 1:
        tokens[::3, :2] = 0
    return tokens


@pytest.mark.parametrize(
    ("name", "ends", "args"),
    [
        ("transformer", TEXT, SMALL),
        ("transformer", NEXT_WORD, SMALL),
        ("transformer", SERIES, SMALL),
        ("gru", TEXT, {"width": 4, "embedding": 4}),
        ("lstm", TEXT, {"width": 4, "embedding": 4}),
        ("text-cnn", TEXT, {"width": 4, "embedding": 4}),
        ("text-cnn", Ends((8, 3), (CLASSES,), "series"), {"width": 4}),
        ("tcn", TEXT, {"width": 4, "embedding": 4}),
        ("tcn", SERIES, {"width": 4}),
        ("ds-cnn", Ends((20, 8), (CLASSES,), "series"), {"width": 4}),
        ("fc-autoencoder", SAME, {"width": 8, "bottleneck": 2, "layers": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flatbuffers_compute_what_the_network_does(
    tmp_path: Path, name: str, ends: Ends, args: dict[str, object]
) -> None:
    model, x = made(name, ends, **args), samples(ends, 64)
    path, shipped = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    convert(model, ends.input_shape, path, ends.dtype)
    with torch.no_grad():
        expected = model(x).numpy()
    assert np.abs(RUNTIMES["litert"].session(path).run(x[:8].numpy()) - expected[:8]).max() < 1e-4
    quantized = read_model(quantized_structure(path.read_bytes()))
    found = census(quantized)
    assert found.not_int8 == ()
    assert name == "transformer" or "TRANSPOSE" not in found.ops
    labels = operator_labels(quantized, model)
    share_biases(quantized, labels)
    twin = Twin(read_model(write_model(quantized)), read_model(path), labels).eval()
    twin.calibrate([x])
    twin.write_into(quantized)
    shipped.write_bytes(finish(quantized, labels, "int8")[0])
    answers = twin(x).detach().numpy()
    for runtime in ("litert", "tensorflow"):
        session = RUNTIMES[runtime].session(shipped)
        outputs = dequantize_output(session.run(quantize_input(x.numpy(), session.input)), session.output)
        steps = np.abs(outputs - answers) / session.output.scale
        assert steps.mean() < 0.5, runtime
        assert steps.max() < 3.5, runtime
    clear = np.diff(np.sort(expected, -1)[..., -2:])[..., 0] > 2 * np.abs(answers - expected).max()
    assert clear.any()
    assert (answers.argmax(-1) == expected.argmax(-1))[clear].all()


@pytest.mark.parametrize("name", ["transformer", "gru", "lstm"])
def test_padding_in_front_does_not_disturb(name: str) -> None:
    args = {**SMALL, "layers": 2} if name == "transformer" else {"width": 8, "embedding": 8, "layers": 2}
    model = made(name, TEXT, **args)
    if name == "transformer":
        model.positions.data[:] = model.positions.data[:, -1:]  # a text moves through them otherwise
    text = torch.randint(1, WORDS, (8, 3), dtype=torch.int32)
    lengthened = nn.functional.pad(text, (STEPS - 3, 0))
    shorter = made(name, Ends((3,), (CLASSES,), "tokens", WORDS), **args)
    state = model.state_dict()
    if name == "transformer":
        state["positions"] = state["positions"][:, -3:]
    shorter.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(model(lengthened), shorter(text), atol=1e-4)


@pytest.mark.parametrize("name", ["transformer", "gru"])
def test_the_next_word_is_told_from_those_before_alone(name: str) -> None:
    model = made(name, NEXT_WORD, **(SMALL if name == "transformer" else {"width": 8}))
    text = samples(NEXT_WORD, 4)
    other = text.clone()
    other[:, 3:] = (other[:, 3:] % (WORDS - 1)) + 1
    with torch.no_grad():
        a, b = model(text), model(other)
    assert torch.allclose(a[:, :3], b[:, :3], atol=1e-4)
    assert not torch.allclose(a[:, 3:], b[:, 3:], atol=1e-2)


def test_the_last_answer_depends_on_every_step_of_a_tcn() -> None:
    model = made("tcn", Ends((64, 2), (CLASSES,), "series"), width=4)
    x = torch.randn(1, 64, 2, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0].abs().sum(1).count_nonzero() > 32
    assert x.grad[0, 0].abs().sum() > 0


def test_the_norms_of_a_transformer_are_folded_away() -> None:
    model, x = made("transformer", SERIES, **SMALL), samples(SERIES, 8)
    form = converted_form(model)
    assert not [layer for layer in form.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d)]
    with torch.no_grad():
        assert torch.allclose(form(x), model(x), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "ends", "args", "message"),
    [
        ("transformer", TEXT, {"width": 10, "heads": 4}, "width 10 cannot be divided among 4 heads"),
        ("transformer", TEXT, {"dropout": 1.0}, "`dropout` must be a number from 0 to below 1, not 1.0"),
        ("gru", TABLE, {}, "takes series .* or tokens, not features"),
        ("mlp", TEXT, {}, "not tokens, whose numbers are no quantities"),
        ("tcn", SERIES, {"layers": 0}, "`layers` must be a whole number above 0"),
    ],
)
def test_what_cannot_be_built_is_told(name: str, ends: Ends, args: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        made(name, ends, **args)


def with_cells(path: Path, module: nn.Module, cells: str) -> Scheme:
    """Returns INT8, with the LSTM cells or GRU states of a float flatbuffer in another type."""
    model = read_model(path)
    return find_cells(model, operator_labels(model, module)).scheme(Scheme()) if cells == "float32" else Scheme()


#: Network, levels, type of what it adds up.
CELLS = [("gru", 2, "int8"), ("gru", 2, "float32"), ("lstm", 1, "int8"), ("lstm", 2, "float32")]


@pytest.mark.parametrize(("name", "layers", "cells"), CELLS)
def test_streamed_steps_equal_the_whole_sequence_to_the_bit(tmp_path: Path, name: str, layers: int, cells: str) -> None:
    model, x = made(name, SERIES, width=4, layers=layers), samples(SERIES, 64)
    whole, one, part = (tmp_path / f"{label}.tflite" for label in ("whole", "one", "part"))
    convert(model, SERIES.input_shape, part)
    with torch.no_grad():
        expected = model(x).numpy()
    assert np.abs(RUNTIMES["litert"].session(part).run(x[:8].numpy()) - expected[:8]).max() < 1e-5
    quantized = read_model(quantized_structure(part.read_bytes(), with_cells(part, model, cells)))
    labels = operator_labels(quantized, model)
    share_biases(quantized, labels)
    twin = Twin(read_model(write_model(quantized)), read_model(part), labels).eval()
    twin.calibrate([x])
    twin.write_into(quantized)
    if (name, cells) == ("gru", "int8"):  # its sums are exact: all they read and make is on one grid
        sums = [node for node in twin.graph.nodes if node.op == "ADD" and ".step.state" in node.label]
        assert len(sums) == layers * STEPS
        assert all(len({twin.group_of[n] for n in (*node.inputs, *node.outputs)}) == 1 for node in sums)
    step = OneStep(converted_form(model))
    convert_inputs(step, step.example(3), part)
    session = RUNTIMES["litert"].session(part)
    assert np.abs(run_steps(session, x[:8].numpy()) - expected[:8]).max() < 1e-5
    stepped = read_model(quantized_structure(part.read_bytes(), with_cells(part, step, cells)))
    floats = [f"levels.{number}.step" for number in range(layers)] if cells == "float32" else []
    assert hand_on_floats(stepped) == len(floats)
    names = operator_labels(stepped, step)
    take_integers(stepped, names, quantized, labels)
    one.write_bytes(finish(stepped, names, "int8")[0])
    whole.write_bytes(finish(quantized, labels, "int8")[0])
    states = step.states // layers
    for runtime in ("litert", "tensorflow", "tflite-micro"):
        session, stream = RUNTIMES[runtime].session(whole), RUNTIMES[runtime].session(one)
        assert len(stream.inputs) == len(stream.outputs) == 1 + step.states
        assert [t.scale for t in stream.inputs[1:]] == [t.scale for t in stream.outputs[1:]]
        kinds = ([np.int8, np.float32] if name == "lstm" else [np.float32]) if floats else [np.int8] * states
        assert [t.dtype for t in stream.inputs[1:]] == [t.dtype for t in stream.outputs[1:]] == kinds * layers
        raw = quantize_input(x.numpy(), session.input)
        assert np.array_equal(session.run(raw), run_steps(stream, raw)), runtime
    names = [tensor.name for tensor in RUNTIMES["litert"].session(one).inputs]
    assert names == ["input", *(f"input_{number + 1}" for number in range(step.states))]
    session = RUNTIMES["litert"].session(whole)
    outputs = dequantize_output(session.run(quantize_input(x.numpy(), session.input)), session.output)
    assert np.abs(outputs - twin(x).detach().numpy()).max() < 1.5 * session.output.scale


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_over_series_the_gates_that_keep_a_state_begin_nearly_open(name: str) -> None:
    model = made(name, SERIES, width=6, layers=2)
    for level in (0, 1):
        gates = model.rnn.get_parameter(f"bias_ih_l{level}") + model.rnn.get_parameter(f"bias_hh_l{level}")
        assert torch.equal(gates[6:12], torch.ones(6))
        assert float(gates[:6].abs().max()) < 1.0
