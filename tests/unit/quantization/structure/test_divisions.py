"""What of a division stays float32: itself, and what its divisor is computed from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgecompress.quantization.graph.graph import Graph, read_graph
from edgecompress.quantization.structure.divisions import find_divisions
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes

FULL, ONE = (1, 4), (1, 1)
WEIGHTS = constant(np.ones((4, 4)), "float32", name="weights")
AXIS, EPSILON = constant([1], "int32"), constant(1e-6, "float32")


def graph_of(tensors: list[Made], ops: list[Op]) -> Graph:
    made = [Made(one.shape, one.dtype, one.values, name=f"t{k}") for k, one in enumerate(tensors)]
    return read_graph(read_model(make_bytes(made, ops)), [f"op{k}" for k in range(len(ops))])


def normalized(*behind: Op, more: tuple[Made, ...] = ()) -> Graph:
    """Returns y / (sum |y| + epsilon) behind a linear layer; more operators read it, or what it is made of."""
    tensors = [Made(FULL), WEIGHTS, AXIS, EPSILON, Made(FULL), Made(FULL), Made(ONE), Made(ONE), Made(ONE), Made(FULL)]
    ops = [
        Op("FULLY_CONNECTED", (0, 1, -1), (4,)),
        Op("ABS", (4,), (5,)),
        Op("SUM", (5, 2), (6,)),
        Op("RESHAPE", (6,), (7,)),
        Op("ADD", (7, 3), (8,)),
        Op("DIV", (4, 8), (9,)),
    ]
    return graph_of([*tensors, *more], [*ops, *behind])


def test_a_divisor_is_float_from_the_last_product_on() -> None:
    found = find_divisions(normalized(Op("FULLY_CONNECTED", (9, 1, -1), (10,)), more=(Made(FULL),)))
    assert found.nodes == {1, 2, 3, 4, 5}
    assert set(found.tensors) == {"t5", "t6", "t7", "t8", "t9"}
    assert found.layers == ("op5",)


def test_what_another_product_reads_stays_integer() -> None:
    """A residual network's sums are not float32 because its last features are divided by their norm."""
    found = find_divisions(normalized(Op("FULLY_CONNECTED", (5, 1, -1), (10,)), more=(Made(FULL),)))
    assert found.nodes == {2, 3, 4, 5}


def test_both_parts_of_a_fraction_are_float() -> None:
    """As of x P(x^2) / Q(x^2); what a numerator is made of else stays integer."""
    tensors = [Made(FULL), WEIGHTS, EPSILON, *[Made(FULL)] * 7]
    ops = [
        Op("FULLY_CONNECTED", (0, 1, -1), (3,)),
        Op("MUL", (3, 3), (4,)),
        Op("ADD", (4, 2), (5,)),
        Op("TANH", (3,), (6,)),
        Op("MUL", (4, 2), (7,)),
        Op("MUL", (6, 7), (8,)),
        Op("DIV", (8, 5), (9,)),
    ]
    assert find_divisions(graph_of(tensors, ops)).nodes == {1, 2, 4, 5, 6}


def test_moves_alone_are_no_part_of_it() -> None:
    tensors = [Made(FULL), WEIGHTS, Made(FULL), Made(FULL), Made(FULL)]
    ops = [Op("FULLY_CONNECTED", (0, 1, -1), (2,)), Op("RESHAPE", (2,), (3,)), Op("DIV", (0, 3), (4,))]
    assert find_divisions(graph_of(tensors, ops)).nodes == {2}


def test_large_constants_stay_integers() -> None:
    large = (1, 1000)
    tensors = [Made(large), constant(np.ones(large), "float32"), Made(large), Made(large)]
    assert find_divisions(graph_of(tensors, [Op("ADD", (0, 1), (2,)), Op("DIV", (0, 2), (3,))])).nodes == {1}


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
    assert found.layers == (divisions[0].label,)
    assert {graph.nodes[k].op for k in found.nodes} == {"ABS", "SUM", "ADD", "DIV"}
