"""What of attention stays float32: from scores to probabilities; and any softmax but the answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.models.built_in.transformer import transformer
from edgecompress.quantization.graph.graph import Graph, read_graph
from edgecompress.quantization.structure.attention import find_softmax
from edgecompress.quantization.structure.scheme import Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.labels import operator_labels
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from edgecompress.tflite.runtime.session import dequantize_output, quantize_input
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes

STEPS, FEATURES, WIDTH = 6, 4, 8
ENDS = Ends((STEPS, FEATURES), (3,), "series")


class Scaled(nn.Module):
    """Torch's own attention, whose scores are divided by a root, and masked."""

    def __init__(self, steps: int = STEPS) -> None:
        super().__init__()
        self.read, self.fc = nn.Linear(FEATURES, 3 * WIDTH), nn.Linear(WIDTH, 3)
        self.register_buffer("mask", torch.triu(torch.full((steps, steps), -20.0), 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.read(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / WIDTH**0.5 + self.mask
        return self.fc((torch.softmax(scores, -1) @ v).mean(1))


class Answer(nn.Module):
    """A softmax that is the answer, behind a product of activations."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.fc(x)
        return torch.softmax((y @ y.transpose(1, 2)).mean(1), -1)


def graph_of(module: nn.Module, folder: Path) -> tuple[Path, Graph]:
    path = folder / "float.tflite"
    convert(module.eval(), ENDS.input_shape, path)
    model = read_model(path)
    return path, read_graph(model, operator_labels(model, module))


def test_attention_of_the_built_in_transformer_is_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    _, graph = graph_of(transformer(ENDS, layers=2, heads=2, width=WIDTH), tmp_path)
    found = find_softmax(graph)
    assert len(found.layers) == 2
    ops = Counter(graph.nodes[k].op for k in found.nodes)
    assert ops["SOFTMAX"] == 2
    assert set(ops) <= {"ADD", "MUL", "RESHAPE", "SOFTMAX"}
    assert "BATCH_MATMUL" not in ops


def test_scores_are_followed_back_to_their_product_and_masks_are_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    _, graph = graph_of(Scaled(), tmp_path)
    found = find_softmax(graph)
    # The converter writes the first product, of one head, as a linear layer.
    assert [graph.nodes[k].op for k in sorted(found.nodes)] == ["MUL", "ADD", "SOFTMAX"]
    first, last = min(found.nodes) - 1, max(found.nodes)
    assert graph.nodes[first].op == "FULLY_CONNECTED"
    assert any(node.op == "BATCH_MATMUL" for node in graph.nodes[last:])


def test_a_large_mask_and_what_lies_in_front_of_it_stay_int8(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Scaled(steps=24), tmp_path / "float.tflite"
    convert(module.eval(), (24, FEATURES), path)
    model = read_model(path)
    graph = read_graph(model, operator_labels(model, module))
    assert [graph.nodes[k].op for k in find_softmax(graph).nodes] == ["SOFTMAX"]


def test_infinite_masks_of_any_size_stay_float(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Scaled(steps=24), tmp_path / "float.tflite"
    module.mask = torch.triu(torch.full((24, 24), float("-inf")), 1)
    convert(module.eval(), (24, FEATURES), path)
    graph = read_graph(read_model(path), operator_labels(read_model(path), module))
    assert "SELECT_V2" in {graph.nodes[k].op for k in find_softmax(graph).nodes}
    model = read_model(quantized_structure(path.read_bytes(), find_softmax(graph).scheme(Scheme())))
    labels = operator_labels(model, module)
    twin = Twin(read_model(write_model(model)), read_model(path), labels).eval()
    twin.calibrate([torch.randn(8, 24, FEATURES)])
    twin.write_into(model)
    path.write_bytes(finish(model, labels, "int8")[0])
    session = RUNTIMES["litert"].session(path)
    assert len(np.unique(session.run(quantize_input(np.ones((1, 24, FEATURES), np.float32), session.input)))) > 1


def test_long_chains_of_sums_are_followed_once(tmp_path: Path) -> None:
    """Each sum reads the one before twice: ways from end to beginning double with every one of them."""
    length = 1500
    weight = constant(np.ones((4, 4)), "float32")
    tensors = [Made((4, 4), "float32"), weight, *(Made((4, 4), "float32") for _ in range(length + 3))]
    ops = [Op("FULLY_CONNECTED", (0, 1, -1), (2,))]
    ops += [Op("ADD", (k, k), (k + 1,)) for k in range(2, length + 2)]
    ops += [Op("SOFTMAX", (length + 2,), (length + 3,)), Op("BATCH_MATMUL", (length + 3, 0), (length + 4,))]
    graph = read_graph(read_model(make_bytes(tensors, ops)), [f"op{k}" for k in range(len(ops))])
    assert len(find_softmax(graph).nodes) == length + 1


class Inner(nn.Module):
    """A softmax over places, which a linear layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(FEATURES, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.softmax(x, -1)).flatten(1)


def test_a_softmax_within_the_network_stays_float(tmp_path: Path) -> None:
    _, graph = graph_of(Inner(), tmp_path)
    assert [graph.nodes[k].op for k in find_softmax(graph).nodes] == ["SOFTMAX"]


def test_a_softmax_that_is_the_answer_is_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    _, graph = graph_of(Answer(), tmp_path)
    assert not find_softmax(graph).nodes


@pytest.mark.parametrize("module", ["built in", "scaled"])
def test_all_else_is_int8_and_every_runtime_computes_the_twin(module: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = transformer(ENDS, layers=1, heads=2, width=WIDTH) if module == "built in" else Scaled()
    path, graph = graph_of(network, tmp_path)
    floating, x = read_model(path), torch.randn(64, STEPS, FEATURES, generator=torch.Generator().manual_seed(1))
    model = read_model(quantized_structure(path.read_bytes(), find_softmax(graph).scheme(Scheme())))
    labels = operator_labels(model, network)
    twin = Twin(read_model(write_model(model)), floating, labels).eval()
    twin.calibrate([x])
    twin.write_into(model)
    quantized = read_graph(model, labels)
    positions = find_softmax(quantized).with_conversions(quantized.nodes)
    found = census(model, labels=labels, floating=dict.fromkeys(positions, "quantize.softmax"))
    assert not found.not_int8
    assert found.ops["SOFTMAX"].dtypes == {"float32": 1}
    assert set(found.ops["BATCH_MATMUL"].dtypes) == {"int8"}
    shipped = tmp_path / "shipped.tflite"
    shipped.write_bytes(finish(model, labels, "int8")[0])
    answers = twin(x).detach().numpy()
    for runtime in ("litert", "tensorflow", "tflite-micro"):
        session = RUNTIMES[runtime].session(shipped)
        outputs = dequantize_output(session.run(quantize_input(x.numpy(), session.input)), session.output)
        assert np.abs(outputs - answers).max() < 2.5 * session.output.scale, runtime
