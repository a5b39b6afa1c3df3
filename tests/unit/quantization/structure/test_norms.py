"""Which operators are norms and the sums they read, in what torch's norms become."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecompress.quantization.graph.graph import Graph, read_graph
from edgecompress.quantization.proof.analysis import analyse
from edgecompress.quantization.repairs.ladder import Built, Ladder, Widening
from edgecompress.quantization.structure.norms import find_norms, norm_operators
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.labels import operator_labels

WIDTH, STEPS = 8, 6


class Centred(nn.Module):
    """A layer norm that subtracts first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)


class After(nn.Module):
    """Two blocks whose norms come behind the sums, as in BERT."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        sized = norm in (nn.LayerNorm, nn.RMSNorm)
        self.norm1, self.norm2 = (norm(WIDTH) if sized else norm() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + self.first(x))
        x = self.norm2(x + self.second(x))
        return self.fc(x.mean(1))


class Before(nn.Module):
    """Two blocks whose norms come before the layers, as in GPT-2: the sums are read by norms and by further sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.first(x)
        x = x + self.second(torch.relu(self.norm1(x)))
        return self.fc(self.norm2(x).mean(1))


class Normal(nn.Module):
    """No norm over channels: a batch norm, squares, and a root of something that is no mean of squares."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.batch, self.fc = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(STEPS), nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.batch(x + self.first(x))
        y = y * torch.rsqrt(y.abs().mean(-1, keepdim=True) + 1.0) + y * y
        return self.fc(y.mean(1))


def converted(module: nn.Module, folder: Path) -> tuple[bytes, Graph, nn.Module]:
    torch.manual_seed(0)
    path = folder / "float.tflite"
    convert(module.eval(), (STEPS, WIDTH), path)
    model = read_model(path)
    return path.read_bytes(), read_graph(model, operator_labels(model, module)), module


@pytest.mark.parametrize(
    ("module", "layers", "ways_in"),
    [
        (After(nn.LayerNorm), ["add", "norm1", "add#2", "norm2"], {"FULLY_CONNECTED"}),
        (After(nn.RMSNorm), ["add", "norm1", "add#2", "norm2"], {"FULLY_CONNECTED"}),
        (After(Centred), ["add", "norm1", "add#2", "norm2"], {"FULLY_CONNECTED"}),
        (Before(), ["add", "norm1", "add#3", "norm2"], {"FULLY_CONNECTED"}),
        (Normal(), [], set()),
    ],
    ids=["layer-norm-after", "rms-norm", "centred", "layer-norm-before", "none"],
)
def test_norms_and_their_sums_are_found(
    module: nn.Module, layers: list[str], ways_in: set[str], tmp_path: Path
) -> None:
    _, graph, _ = converted(module, tmp_path)
    found = find_norms(graph)
    assert list(found.layers) == layers
    # All of a norm is found: what its operators read comes from linear layers, the input or themselves.
    maker = {n: node for node in graph.nodes for n in node.outputs}
    inside = {n for k in found.nodes for n in graph.nodes[k].outputs}
    read = {n for k in found.nodes for n in graph.nodes[k].inputs if n in maker} - inside
    assert {maker[n].op for n in read} - {"RESHAPE"} == ways_in
    # And nothing more than that: no operator of the linear layers or of the mean at the end.
    assert not {graph.nodes[k].op for k in found.nodes} & {"FULLY_CONNECTED", "RELU"}
    assert graph.nodes[-2].index not in found.nodes
    assert len([k for k in found.nodes if graph.nodes[k].op == "RSQRT"]) == sum("norm" in layer for layer in layers)


def test_norms_stay_float_and_all_else_becomes_int8(tmp_path: Path) -> None:
    content, graph, module = converted(After(nn.LayerNorm), tmp_path)
    model = read_model(quantized_structure(content, find_norms(graph).scheme(Scheme())))
    labels = operator_labels(model, module)
    assert census(model, labels=labels).not_int8
    floating = dict.fromkeys(norm_operators(model, labels), "quantize.norms")
    found = census(model, labels=labels, floating=floating)
    assert not found.not_int8
    assert {item.op for item in found.allowed} <= {
        "ADD", "DEQUANTIZE", "MEAN", "MUL", "QUANTIZE", "RESHAPE", "RSQRT", "SQUARED_DIFFERENCE", "SUB",
    }  # fmt: skip
    kinds = found.ops["FULLY_CONNECTED"].dtypes
    assert kinds == {"int8": 3}
    # An operator elsewhere that is float32 is still named.
    assert {item.why.split(":")[0] for item in found.allowed} == {"quantize.norms"}
    assert census(model, labels=labels, floating={k: floating[k] for k in sorted(floating)[1:]}).not_int8


class Outlier(nn.Module):
    """A norm of sums in which one channel of the first token is 300 times all else, as in BERT."""

    large: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.fc = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)
        large = torch.zeros(STEPS, WIDTH)
        large[0, 3] = 300.0
        self.register_buffer("large", large)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(self.first(x) + self.large)[:, 1:].mean(1))


def samples(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, STEPS, WIDTH, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def explained(twin: Twin, expected: torch.Tensor, x: torch.Tensor) -> float:
    """Returns the share of the float outputs' variance that a twin explains, in percent."""
    return 100.0 * (1.0 - float((twin(x) - expected).square().mean() / expected.var(0).mean()))


def test_the_ladder_takes_norms_out_of_int8_where_an_outlier_drowns_all_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    content, graph, module = converted(Outlier(), tmp_path)
    floating = read_model(content)
    x = samples(200, 9)
    with torch.no_grad():
        expected = module(x)

    def build(scheme: Scheme) -> Built:
        structure = quantized_structure(content, scheme)
        labels = operator_labels(read_model(structure), module)
        return Built(Twin(read_model(structure), floating, labels).eval(), structure, labels)

    norms = find_norms(graph)
    ladder = Ladder(build(Scheme()), samples(64, 1).split(32), lambda twin: explained(twin, expected, x), iterations=20)
    # No other layer may be wider: a millionth of the multiplications is less than any has.
    ladder.widening = Widening(["float32"], 1e-6, Scheme(), floating, build, x.split(50), lambda _: 0.0, norms)
    assert ladder.climb(2.0) is True
    assert [rung.name for rung in ladder.rungs] == ["plain", "ranges", "equalize", "adaround", "wide-float32"]
    assert min(rung.drop_points for rung in ladder.rungs[:-1]) > 100.0
    assert ladder.wide is not None
    assert ladder.wide.layers == norms.layers == ("add", "norm")
    assert ladder.wide.macs_share == 0.0
    model = read_model(ladder.model.structure)
    labels = ladder.model.labels
    floats = dict.fromkeys(norm_operators(model, labels), "quantize.norms")
    assert not census(model, labels=labels, floating=floats).not_int8


def test_variances_that_round_to_zero_leave_the_analysis_finite(tmp_path: Path) -> None:
    torch.manual_seed(0)
    content, _, module = converted(Outlier(), tmp_path)
    structure = quantized_structure(content)
    twin = Twin(read_model(structure), read_model(content), operator_labels(read_model(structure), module)).eval()
    twin.calibrate(samples(64, 1).split(32))
    variance = next(node for node in twin.graph.nodes if node.op == "RSQRT").inputs[0]
    assert twin.groups[twin.group_of[variance]].scale > 4.0  # all tokens but the first have a variance of about 1
    found = {layer.op: layer for layer in analyse(twin, samples(32, 2).split(16))}
    assert all(math.isfinite(figure) for figure in (*asdict(found["RSQRT"]).values(),) if isinstance(figure, float))
    assert found["FULLY_CONNECTED"].snr_db < 3.0
