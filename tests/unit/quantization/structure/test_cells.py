"""Which operators are LSTM cells and GRU states, built in and in what torch's own layers become; what they bring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.models.built_in.recurrent import gru, lstm
from edgecompress.quantization.grids.tying import share_biases
from edgecompress.quantization.structure.cells import cell_operators, find_cells
from edgecompress.quantization.structure.scheme import FloatPart, Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.format.views import graph_views
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import dequantize_output, quantize_input

STEPS, FEATURES, WIDTH = 6, 3, 4
ENDS = Ends((STEPS, FEATURES), (3,), "series")


class Plain(nn.Module):
    """Torch's own layer, converted as torch decomposes it."""

    kind: type[nn.LSTM | nn.GRU] = nn.LSTM

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = self.kind(FEATURES, WIDTH, batch_first=True), nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


class PlainGru(Plain):
    """The same with gated recurrent units."""

    kind = nn.GRU


class ByHand(nn.Module):
    """A GRU as textbooks write it, (1 - z) * n + z * h."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.keep, self.fc = nn.Linear(FEATURES, 3 * WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], WIDTH)
        for step in range(STEPS):
            (r, z, n), (a, b, c) = self.read(x[:, step]).chunk(3, -1), self.keep(h).chunk(3, -1)
            r, z = torch.sigmoid(r + a), torch.sigmoid(z + b)
            n = torch.tanh(n + r * c)
            h = (1 - z) * n + z * h
        return self.fc(h)


class Highway(nn.Module):
    """Layers that each go a gate's share of the way, as a GRU's steps do, but with weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(FEATURES, FEATURES) for _ in range(3))
        self.layers = nn.ModuleList(nn.Linear(FEATURES, FEATURES) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for gate, layer in zip(self.gates, self.layers, strict=True):
            x = x + torch.sigmoid(gate(x)) * (torch.tanh(layer(x)) - x)
        return x.mean(1)


class Told(Plain):
    """One whose last cell is part of the answer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, (_, cell) = self.rnn(x)
        return self.fc(states[:, -1]) + cell[0, :, :3]


class Alone(nn.Module):
    """A sum of two products under a tanh, which is no cell: there is no next step."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        return torch.tanh(torch.sigmoid(y) * torch.tanh(y) + torch.relu(y) * (y + 1.0)).mean(1)


def converted(module: nn.Module, folder: Path) -> tuple[Path, schema.ModelT, list[str]]:
    path = folder / "float.tflite"
    convert(module.eval(), ENDS.input_shape, path)
    model = read_model(path)
    return path, model, operator_labels(model, module)


def ops_of(model: schema.ModelT, found: FloatPart) -> dict[str, int]:
    ops = graph_views(model)[0].ops
    return dict(Counter(ops[k].op for k in found.nodes))


def built_in(layers: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return lstm(ENDS, WIDTH, layers=layers)


@pytest.mark.parametrize("make", [gru, lstm])
def test_all_between_the_linear_layers_of_the_built_in_networks_is_found(
    make: Callable[..., nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    _, model, labels = converted(make(ENDS, WIDTH, layers=2), tmp_path)
    found = find_cells(model, labels)
    assert found.layers == ("levels.0.step", "levels.1.step")
    others = [op.op for op in graph_views(model)[0].ops if op.index not in found.nodes]
    assert set(others) <= {"FULLY_CONNECTED", "RESHAPE"}
    ops = ops_of(model, found)
    # A step's gates are one sigmoid; candidates have one tanh, and cells another, also the one that is there at first.
    assert ops["LOGISTIC"] == 2 * STEPS
    assert ops["TANH"] == 2 * STEPS + (2 * (STEPS + 1) if make is lstm else 0)


@pytest.mark.parametrize("make", [Plain, PlainGru, ByHand], ids=["lstm", "gru", "by hand"])
def test_those_of_torchs_own_layers_are_found(make: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    _, model, labels = converted(make(), tmp_path)
    found = find_cells(model, labels)
    assert found.layers == ("recurrent layer 1",)
    ops = ops_of(model, found)
    every = Counter(op.op for op in graph_views(model)[0].ops)
    assert {op: ops.get(op) for op in ("LOGISTIC", "TANH", "MUL")} == {
        op: every[op] for op in ("LOGISTIC", "TANH", "MUL")
    }


@pytest.mark.parametrize("module", [Highway(), Alone()], ids=["highway", "alone"])
def test_other_states_are_none(module: nn.Module, tmp_path: Path) -> None:
    _, model, labels = converted(module, tmp_path)
    assert find_cells(model, labels) == FloatPart(frozenset(), (), ())


def test_a_cell_that_something_else_reads_is_none(tmp_path: Path) -> None:
    """It leads to no step behind it, so all before it are none either."""
    torch.manual_seed(0)
    _, model, labels = converted(Told(), tmp_path)
    assert find_cells(model, labels).nodes == frozenset()


def test_cells_stay_float_and_all_else_becomes_int8(tmp_path: Path) -> None:
    module = built_in()
    path, floating, labels = converted(module, tmp_path)
    scheme = find_cells(floating, labels).scheme(Scheme())
    model = read_model(quantized_structure(path.read_bytes(), scheme))
    labels = operator_labels(model, module)
    assert census(model, labels=labels).not_int8
    positions = dict.fromkeys(cell_operators(model, labels), "quantize.cells")
    found = census(model, labels=labels, floating=positions)
    assert not found.not_int8
    assert {item.why.split(":")[0] for item in found.allowed} == {"quantize.cells"}
    assert {item.op for item in found.allowed} == {"ADD", "DEQUANTIZE", "LOGISTIC", "MUL", "SLICE", "SUB", "TANH"}
    assert set(found.ops["FULLY_CONNECTED"].dtypes) == {"int8"}
    assert found.ops["LOGISTIC"].dtypes == {"float32": STEPS}
    assert found.ops["TANH"].dtypes == {"float32": 2 * STEPS + 1}
    # An operator elsewhere that is float32 is still named.
    left = {k: positions[k] for k in sorted(positions)[1:]}
    assert census(model, labels=labels, floating=left).not_int8


def counting() -> nn.Module:
    """Returns a network some of whose cells count upwards, as trained ones do, while others hold small numbers."""
    module = built_in(seed=3)
    with torch.no_grad():
        rnn = module.rnn
        rnn.bias_ih_l0[:WIDTH] = 2.0  # what comes in
        rnn.bias_ih_l0[WIDTH : 2 * WIDTH] = 4.0  # what is kept
        rnn.bias_ih_l0[2 * WIDTH : 2 * WIDTH + 1] = 3.0
    return module


def slow() -> nn.Module:
    """Returns a GRU most of whose states go a small share of the way in each step."""
    torch.manual_seed(3)
    module = gru(ENDS, WIDTH)
    with torch.no_grad():
        module.rnn.bias_ih_l0[WIDTH : 2 * WIDTH] = 4.0
        module.rnn.bias_ih_l0[WIDTH] = -2.0  # one of them follows what comes in, so that the grid reaches far
        module.rnn.weight_ih_l0[2 * WIDTH :] *= 3.0
    return module


@pytest.mark.parametrize("make", [counting, slow], ids=["lstm", "gru"])
def test_float_states_are_nearer_and_every_runtime_computes_the_twin(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    module, x = make(), torch.randn(64, STEPS, FEATURES, generator=torch.Generator().manual_seed(1))
    path, floating, labels = converted(module, tmp_path)
    with torch.no_grad():
        expected = module(x).numpy()
    errors = []
    for scheme in (Scheme(), find_cells(floating, labels).scheme(Scheme())):
        model = read_model(quantized_structure(path.read_bytes(), scheme))
        names = operator_labels(model, module)
        share_biases(model, names)
        twin = Twin(read_model(write_model(model)), floating, names).eval()
        twin.calibrate([x])
        twin.write_into(model)
        shipped = tmp_path / "shipped.tflite"
        shipped.write_bytes(finish(model, names, "int8")[0])
        answers = twin(x).detach().numpy()
        for runtime in ("litert", "tensorflow", "tflite-micro"):
            session = RUNTIMES[runtime].session(shipped)
            outputs = dequantize_output(session.run(quantize_input(x.numpy(), session.input)), session.output)
            assert np.abs(outputs - answers).max() < 3.5 * session.output.scale, runtime
        errors.append(float(np.sqrt(np.mean((answers - expected) ** 2))))
    assert errors[1] < 0.8 * errors[0]
