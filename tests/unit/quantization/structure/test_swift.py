"""Operators that INT8 kernels are slow at, spelled out: the same function, by operators that XNNPACK has."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.structure.swift import swift
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import graph_views
from tests.unit.converted_net import INPUT_SHAPE, Converted, images, run_flatbuffer, shipped
from tests.unit.made_flatbuffer import Made, Op, constant, make_bytes, run_bytes

MAP = (1, 6, 6, 4)
SPATIAL = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
DEPTHWISE = SPATIAL | {"depthMultiplier": 1}
RELU, RELU6 = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6


def floats(*shape: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, size, shape).astype(np.float32)


def weights(seed: int) -> Made:
    return constant(floats(4, 3, 3, 4, seed=seed, size=0.2), "float32", name=f"w{seed}")


def activation(name: str, shape: tuple[int, ...] = MAP) -> Made:
    return Made(shape, name=name)


def ops_of(content: bytes) -> list[str]:
    return [op.op for op in graph_views(read_model(content))[0].ops]


BIAS = constant(floats(4, seed=9), "float32", name="bias")
AXES = constant([1, 2], "int32", name="axes")
#: Name -> tensors after the input x and y = hard swish of x, operators after that one, those that come out.
TAKEN = {
    "a convolution": ([weights(1), BIAS, activation("c")], [Op("CONV_2D", (1, 2, 3), (4,), SPATIAL)], ["CONV_2D"]),
    "a depthwise one": (
        [constant(floats(1, 3, 3, 4, seed=2), "float32", name="w"), BIAS, activation("c")],
        [Op("DEPTHWISE_CONV_2D", (1, 2, 3), (4,), DEPTHWISE)],
        ["DEPTHWISE_CONV_2D"],
    ),
    "a gate": (  # squeeze and excite: its mean, a convolution, the product, a convolution
        [AXES, activation("m", (1, 1, 1, 4)), constant(floats(4, 1, 1, 4, seed=3), "float32", name="v"), BIAS,
         activation("g", (1, 1, 1, 4)), activation("p"), weights(4), activation("c")],
        [Op("MEAN", (1, 2), (3,), {"keepDims": True}),
         Op("CONV_2D", (3, 4, 5), (6,), SPATIAL | {"fusedActivationFunction": RELU6}),
         Op("MUL", (1, 6), (7,)), Op("CONV_2D", (7, 8, 5), (9,), SPATIAL)],
        ["MEAN", "CONV_2D", "MUL", "CONV_2D"],
    ),
}  # fmt: skip
#: The same where something else would notice the factor.
NOTICED = {
    "the output": ([], []),
    "a sum": ([activation("c")], [Op("ADD", (1, 0), (2,))]),
    "a square": ([activation("s"), weights(6), BIAS, activation("c")],
                 [Op("MUL", (1, 1), (2,)), Op("CONV_2D", (2, 3, 4), (5,), SPATIAL)]),
    "a product of two": (
        [AXES, activation("m", (1, 1, 1, 4)), activation("p"), weights(6), BIAS, activation("c")],
        [Op("MEAN", (1, 2), (3,), {"keepDims": True}), Op("MUL", (1, 3), (4,)),
         Op("CONV_2D", (4, 5, 6), (7,), SPATIAL)],
    ),
    "weights that are read twice": (
        [weights(5), BIAS, activation("a"), activation("b"), activation("c")],
        [Op("CONV_2D", (1, 2, 3), (4,), SPATIAL), Op("CONV_2D", (4, 2, 3), (5,), SPATIAL), Op("ADD", (4, 5), (6,))],
    ),
    "a limit": ([constant([[1.0]], "float32", name="one"), activation("r"), weights(7), BIAS, activation("c")],
                [Op("MUL", (1, 2), (3,), {"fusedActivationFunction": RELU6}),
                 Op("CONV_2D", (3, 4, 5), (6,), SPATIAL)]),
    "a sigmoid": ([activation("s"), weights(8), BIAS, activation("c")],
                  [Op("LOGISTIC", (1,), (2,)), Op("CONV_2D", (2, 3, 4), (5,), SPATIAL)]),
}  # fmt: skip


def made(tensors: list[Made], ops: list[Op]) -> bytes:
    start = [activation("x"), activation("y")]
    return make_bytes([*start, *tensors], [Op("HARD_SWISH", (0,), (1,)), *ops])


@pytest.mark.parametrize("name", TAKEN)
def test_the_factor_goes_into_the_weights_behind(name: str) -> None:
    tensors, ops, left = TAKEN[name]
    content, x = made(tensors, ops), floats(*MAP, seed=11, size=3.0)
    found = swift(content, absorb=True)
    assert ops_of(found) == ["ADD", "MUL", *left]
    np.testing.assert_allclose(run_bytes(found, x), run_bytes(content, x), rtol=1e-4, atol=1e-5)
    apart = swift(content, absorb=False)
    assert ops_of(apart) == ["ADD", "MUL", "MUL", *left]
    np.testing.assert_allclose(run_bytes(apart, x), run_bytes(content, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NOTICED)
def test_the_factor_stays_where_something_else_would_notice(name: str) -> None:
    tensors, ops = NOTICED[name]
    content, x = made(tensors, ops), floats(*MAP, seed=12, size=3.0)
    found = swift(content, absorb=True)
    assert ops_of(found)[:3] == ["ADD", "MUL", "MUL"]
    assert "HARD_SWISH" not in ops_of(found)
    np.testing.assert_allclose(run_bytes(found, x), run_bytes(content, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("factor", "fused", "taken"), [(1 / 6, 0, True), (1 / 6, RELU, False), (-0.5, 0, False), (1e-6, 0, False)]
)
def test_products_with_a_number_go_into_the_weights(factor: float, fused: int, taken: bool) -> None:
    tensors = [
        activation("x"), constant([factor], "float32", name="k"), activation("m"), weights(1), BIAS, activation("c"),
    ]  # fmt: skip
    ops = [Op("MUL", (0, 1), (2,), {"fusedActivationFunction": fused}), Op("CONV_2D", (2, 3, 4), (5,), SPATIAL)]
    content, x = make_bytes(tensors, ops), floats(*MAP, seed=13)
    found = swift(content, absorb=True)
    assert ops_of(found) == (["CONV_2D"] if taken else ["MUL", "CONV_2D"])
    np.testing.assert_allclose(run_bytes(found, x), run_bytes(content, x), rtol=1e-4, atol=1e-5)
    assert swift(content, absorb=False) == content


def test_a_network_without_any_stays_as_it_is() -> None:
    content = make_bytes([activation("x"), activation("y")], [Op("ABS", (0,), (1,))])
    assert swift(content, absorb=True) == content


@pytest.mark.parametrize("op", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_activations_that_stand_alone(op: str) -> None:
    content = make_bytes([activation("x"), activation("y")], [Op(op, (0,), (1,))])
    found, x = swift(content, absorb=False), floats(*MAP, seed=14, size=4.0)
    assert ops_of(found) == ["MUL"]
    np.testing.assert_array_equal(run_bytes(found, x), run_bytes(content, x))


class Activations(nn.Module):
    """A RELU behind a concatenation, slopes, and a hard sigmoid as a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.slopes, self.gate, self.head = nn.PReLU(8), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)
        nn.init.uniform_(self.slopes.weight, -0.5, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(torch.cat([self.other(x), self.first(x)], 1))
        x = self.slopes(self.second(x))
        x = x * nn.functional.hardsigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.head(x.mean((2, 3)))


@pytest.mark.slow
def test_a_network_of_such_activations_is_its_twin_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(5)
    module, x = Activations().eval(), images(200, 5)
    convert(module, INPUT_SHAPE, tmp_path / "float.tflite")
    content = (tmp_path / "float.tflite").read_bytes()
    errors = []
    for floating in (content, swift(content, absorb=True)):
        structure = quantized_structure(floating)
        labels = [f"layer{k}" for k in range(len(ops_of(structure)))]
        twin = Twin(read_model(structure), read_model(floating), labels).eval()
        with torch.no_grad():
            twin.calibrate([images(64)])
            expected = twin(x)
            errors.append(float((expected - module(x)).square().mean()))
        file, _ = shipped(Converted(module, tmp_path / "float.tflite", structure), twin)
        step = twin.groups[twin.group_of[twin.graph.output]].scale
        assert np.rint(np.abs(run_flatbuffer(file, x) - expected.numpy()) / step).max() == 0
    ops = ops_of(structure)
    assert "RELU" not in ops
    assert ops.count("MUL") == 5  # one the concatenation's, three of the slopes, one of the gate
    joined = twin.graph.nodes[ops.index("CONCATENATION")].outputs[0]
    assert twin.groups[twin.group_of[joined]].limits == (0.0, math.inf)  # what is read by a RELU alone ends at zero
    assert errors[1] < 1.2 * errors[0]
