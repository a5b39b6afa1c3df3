"""What a flatbuffer would compute from constants alone is a constant, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from edgecompress.tflite.format import folding
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model, write_model
from edgecompress.tflite.format.views import graph_views
from edgecompress.tflite.runtime.runtimes import RUNTIMES
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes

FLOAT32 = 0


def folded(tensors: list[Made], ops: list[Op]) -> tuple[int, list[str], bytes]:
    model = read_model(make_bytes(tensors, ops))
    count = folding.fold_constants(model.subgraphs[0], model)
    content = write_model(model)
    return count, [op.op for op in graph_views(read_model(content))[0].ops], content


def test_relative_positions_become_a_constant_that_holds_them() -> None:
    positions = np.arange(4, dtype=np.int32)
    tensors = [
        Made((1, 4)), constant(positions[:, None], "int32"), constant(positions[None], "int32"),
        Made((4, 4), "int32"), Made((4, 4), "int32"), Made((4, 4)), Made((4, 4)),
    ]  # fmt: skip
    ops = [
        Op("SUB", (1, 2), (3,)), Op("ABS", (3,), (4,)), Op("CAST", (4,), (5,), {"outDataType": FLOAT32}),
        Op("ADD", (0, 5), (6,)),
    ]  # fmt: skip
    count, names, content = folded(tensors, ops)
    assert (count, names) == (3, ["ADD"])
    model = read_model(content)
    (added,) = model.subgraphs[0].operators
    values = np.frombuffer(
        bytes(model.buffers[model.subgraphs[0].tensors[int(added.inputs[1])].buffer].data), np.float32
    )
    np.testing.assert_array_equal(values.reshape(4, 4), np.abs(positions[:, None] - positions[None]))


def test_what_depends_on_the_input_stays() -> None:
    tensors = [Made((1, 4)), constant(np.ones((1, 4)), "float32"), Made((1, 4)), Made((1, 4))]
    assert folded(tensors, [Op("ADD", (0, 1), (2,)), Op("ABS", (2,), (3,))])[:2] == (0, ["ADD", "ABS"])


def test_a_constant_answer_stays_computed() -> None:
    tensors = [Made((1, 4)), constant(-np.ones((1, 4)), "float32"), Made((1, 4))]
    assert folded(tensors, [Op("ABS", (1,), (2,))])[0] == 0


def test_a_small_constant_is_not_spread_into_a_large_one() -> None:
    shape = (1, 64, 64, 64)
    tensors = [
        Made(shape),
        constant(np.ones((1, 1, 1, 64)), "float32"),
        constant(shape, "int32"),
        Made(shape),
        Made(shape),
    ]
    ops = [Op("BROADCAST_TO", (1, 2), (3,)), Op("ADD", (0, 3), (4,))]
    assert folded(tensors, ops)[:2] == (0, ["BROADCAST_TO", "ADD"])


def test_random_numbers_stay_random() -> None:
    tensors = [Made((4,)), constant([4], "int32"), Made((4,)), Made((4,))]
    assert folded(tensors, [Op("RANDOM_UNIFORM", (1,), (2,)), Op("ADD", (0, 2), (3,))])[0] == 0


class Turned(nn.Module):
    """Features in the other order, by a matrix that is made of whole numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.eye(x.shape[-1]).flip(0) + F.one_hot(torch.arange(x.shape[-1]) % 3, x.shape[-1])[2]


def test_unit_matrices_and_chosen_columns_become_constants(tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    convert(Turned().eval(), (4, 6), path)
    assert not [op.op for op in graph_views(read_model(path))[0].ops if op.op.startswith("STABLEHLO")]
    x = torch.randn(1, 4, 6)
    found = RUNTIMES["litert"].session(path).run(x.numpy())
    np.testing.assert_allclose(found, Turned()(x).numpy(), rtol=1e-5, atol=1e-6)
