"""Layers that multiply by weights, summed up in integers, held against the interpreter to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.graph.layers import LIMITS
from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.twin import integer_sums as sums
from edgecompress.quantization.twin.integer_sums import integer_sums
from edgecompress.quantization.twin.twin import Twin
from tests.unit.converted_net import images
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes, run_bytes


@pytest.mark.parametrize("training", [False, True])
def test_layers_sum_integers_where_nothing_is_learned(
    twin: Twin, monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    labels: list[str] = []

    def counted(twin: Twin, node: Node, *rest: object) -> torch.Tensor:
        labels.append(node.label)
        return integer_sums(twin, node, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("edgecompress.quantization.twin.twin.integer_sums", counted)
    weighted = [node for node in twin.graph.nodes if node.op in WEIGHTED]
    x = images(4)
    with torch.set_grad_enabled(training):
        twin.train(training)(x)
    assert len(set(labels)) == (0 if training else len(weighted))
    twin.eval()
    labels.clear()
    twin.spared = frozenset({weighted[0].index})
    with torch.no_grad():
        twin(x)
        with twin.floating():
            twin(x)
    assert not labels  # a layer that is spared hands on values that lie on no grid


@settings(max_examples=30, deadline=None)
@given(
    source=st.tuples(st.floats(0.005, 0.1), st.integers(-128, 127)),
    sink=st.tuples(st.floats(0.3, 3.0), st.integers(-128, 127)),
    scales=st.lists(st.floats(1e-4, 0.02), min_size=8, max_size=8),
    largest=st.sampled_from([0, 20_000, 2**28]),
    fused=st.sampled_from(sorted(LIMITS)),
    seed=st.integers(0, 10**6),
)
def test_linear_layers_are_the_kernels_to_the_bit(
    source: tuple[float, int], sink: tuple[float, int], scales: list[float], largest: int, fused: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (8, 64)).astype(np.int8)
    weights[:, 0] = 127  # so that the twin finds the same scales
    scale = np.array(scales, np.float32)
    bias_scale = tuple(float(np.float32(source[0]) * one) for one in scale)
    bias = rng.integers(-largest, largest, 8, endpoint=True).astype(np.int32)  # sums of 2^24 and more are no float32's
    quantized = [
        int8(200, 64, scale=source[0], zero_point=source[1]), constant(weights, "int8", scale=tuple(scale.tolist())),
        constant(bias, "int32", scale=bias_scale), int8(200, 8, scale=sink[0], zero_point=sink[1]),
    ]  # fmt: skip
    floats = [
        Made((200, 64)), constant(weights * scale[:, None], "float32"),
        constant(bias * np.array(bias_scale), "float32"), Made((200, 8)),
    ]  # fmt: skip
    ops = [Op("FULLY_CONNECTED", (0, 1, 2), (3,), {"fusedActivationFunction": fused})]
    content = make_bytes([replace(made, name=f"t{k}") for k, made in enumerate(quantized)], ops)
    named = [replace(made, name=f"t{k}") for k, made in enumerate(floats)]
    twin = Twin(
        schema.ModelT.InitFromPackedBuf(content, 0), schema.ModelT.InitFromPackedBuf(make_bytes(named, ops), 0), ["fc"]
    ).eval()
    raw = rng.integers(-128, 128, (200, 64)).astype(np.int8)
    found = run_bytes(content, raw)
    x = torch.from_numpy((raw.astype(np.float32) - source[1]) * np.float32(source[0]))
    node = twin.graph.nodes[0]
    with torch.no_grad():
        y = twin.run_node(node, twin.arguments(node, {node.inputs[0]: x}, x.device))[0]
    np.testing.assert_array_equal(twin.groups[twin.group_of[node.outputs[0]]].integers(y.numpy()), found)


@torch.no_grad()
def test_short_sums_and_long_ones_are_the_same(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(8)
    expected = twin.eval()(x)
    monkeypatch.setattr(sums, "_EXACT", 0.0)
    assert torch.equal(twin(x), expected)
    monkeypatch.setattr(sums, "LIMITS", {})  # activations that bend
    assert torch.equal(twin(x), expected)


@torch.no_grad()
def test_weights_are_rounded_once_while_nothing_changes(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    x, rounded = images(8), list[int]()
    expected, real = twin.eval()(x), Twin._fake_weight

    def counted(self: Twin, n: int) -> torch.Tensor:
        rounded.append(n)
        return real(self, n)

    monkeypatch.setattr(Twin, "_fake_weight", counted)
    with twin.settled():
        for _ in range(3):
            assert torch.equal(twin(x), expected)
    assert len(rounded) == len(set(rounded)) == len(twin.weights)
    weight = next(iter(twin.weights.values()))
    weight.mul_(1.5)
    changed = twin(x)
    assert not torch.equal(changed, expected)
    with twin.settled():
        assert torch.equal(twin(x), changed)
    with torch.enable_grad(), twin.settled():  # each pass has gradients of its own
        for _ in range(2):
            twin(x).sum().backward()
