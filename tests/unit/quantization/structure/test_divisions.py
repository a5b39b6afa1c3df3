"""Divisions by activations are float32, and those by constants are products."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from edgecompress.quantization.graph.graph import read_graph
from edgecompress.quantization.structure.divisions import find_divisions
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model


class Shares(nn.Module):
    """Values as shares of their sum."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x.abs().sum(1, keepdim=True) + 1e-6) / 3


def test_only_divisions_by_activations_are_found(tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    convert(Shares().eval(), (6,), path)
    model = read_model(path)
    graph = read_graph(model, [f"op{k}" for k in range(len(model.subgraphs[0].operators))])
    found = find_divisions(graph)
    divisions = [node for node in graph.nodes if node.op == "DIV"]
    assert len(divisions) == 1
    assert (found.nodes, found.layers) == (frozenset({divisions[0].index}), (divisions[0].label,))
