"""Batch norms that nothing could be folded into are one operator each, and compute what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.tflite.format.affine import join_scales_and_shifts
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.views import graph_views
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes

MAP = (1, 4, 5, 3)
VECTOR = np.array([0.5, -2.0, 3.0], np.float32)


class Norms(nn.Module):
    """Batch norms of the input, behind a sum with a ReLU, and behind a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(6), nn.BatchNorm2d(9)])
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norms[0](x)
        y = self.first(x)
        y = y + self.second(self.norms[1](y).relu())
        return self.norms[2](torch.cat([x, y], 1)).mean((2, 3))


def test_batch_norms_become_one_operator_each(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Norms().eval(), tmp_path / "float.tflite"
    for norm in module.norms:
        norm.running_mean.normal_()  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
        nn.init.normal_(norm.weight)  # type: ignore[arg-type]
        nn.init.normal_(norm.bias)  # type: ignore[arg-type]
    convert(module, (3, 8, 8), path)
    ops = [op.op for op in graph_views(read_model(path))[0].ops]
    assert ops.count("DEPTHWISE_CONV_2D") == 3
    assert not {"MUL", "SUB"}.intersection(ops)
    x = torch.randn(1, 3, 8, 8)
    found = RUNTIMES["litert"].session(path).run(x.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def joined(ops: list[Op], tensors: int, outputs: tuple[int, ...] = (-1,)) -> tuple[int, list[str]]:
    made = [Made(MAP), constant(VECTOR, "float32"), constant(-VECTOR, "float32"), *[Made(MAP)] * tensors]
    model = read_model(make_bytes(made, ops, outputs=outputs))
    count = join_scales_and_shifts(model.subgraphs[0], model)
    return count, [op.op for op in graph_views(read_model(write_model(model)))[0].ops]


def test_a_chain_ends_where_its_values_are_read_twice() -> None:
    ops = [Op("MUL", (0, 1), (3,)), Op("ADD", (3, 2), (4,)), Op("ADD", (3, 4), (5,))]
    assert joined(ops, 3) == (0, ["MUL", "ADD", "ADD"])


def test_a_chain_ends_where_the_network_answers_with_its_values() -> None:
    assert joined([Op("MUL", (0, 1), (3,)), Op("ADD", (3, 2), (4,))], 2, outputs=(3, 4)) == (0, ["MUL", "ADD"])


@pytest.mark.parametrize(("fused", "expected"), [(0, (1, ["DEPTHWISE_CONV_2D"])), (1, (0, ["MUL", "ADD"]))])
def test_an_activation_between_ends_a_chain(fused: int, expected: tuple[int, list[str]]) -> None:
    ops = [Op("MUL", (0, 1), (3,), {"fusedActivationFunction": fused}), Op("ADD", (3, 2), (4,))]
    assert joined(ops, 2) == expected


def test_a_constant_less_the_map_is_none() -> None:
    assert joined([Op("SUB", (1, 0), (3,)), Op("MUL", (3, 2), (4,))], 2) == (0, ["SUB", "MUL"])
