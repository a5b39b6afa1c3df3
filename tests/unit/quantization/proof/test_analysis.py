"""Figures of every layer by hand-computed values, and faults planted in one layer, which must rank first."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.quantization.graph.batches import Way
from edgecompress.quantization.graph.graph import Node
from edgecompress.quantization.proof.analysis import (
    MOST_DB,
    LayerAnalysis,
    adding,
    analyse,
    decibels,
    mean_snr_db,
    range_use,
    rank,
    sensitivity,
    weight_ratio,
    with_gains,
)
from edgecompress.quantization.proof.effort import node_macs
from edgecompress.quantization.proof.layers import outputs_sparing, sharing, walk, walkable
from edgecompress.quantization.structure.scheme import Activations, Scheme
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.flatbuffer import read_model
from tests.unit.converted_net import Converted, images
from tests.unit.made_flatbuffer import Made, Op, constant, int8, make_bytes
from tests.unit.quantization.graph.test_batches import attention, samples


class Line(nn.Module):
    """Four layers in a line, each read by the next one only."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.third, self.last = nn.Conv2d(8, 6, 1), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.third(torch.relu(self.second(torch.relu(self.first(x))))))
        return self.last(nn.functional.avg_pool2d(x, 12).flatten(1))


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(0)
    module = Line().eval()
    path = tmp_path_factory.mktemp("line") / "float.tflite"
    convert(module, (3, 12, 12), path)
    return Converted(module, path, quantized_structure(path.read_bytes()))


def calibrated(line: Converted) -> Twin:
    twin = line.twin()
    twin.calibrate([images(64)])
    return twin


def weighted(twin: Twin) -> list[Node]:
    """Returns the four operators with weights."""
    return [node for node in twin.graph.nodes if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]


def ranked(twin: Twin) -> list[LayerAnalysis]:
    """Returns the analysis on random pictures, judged by how little the answers' variance is disturbed."""
    x = images(48, seed=7)
    with torch.no_grad(), twin.floating():
        expected = twin(x).numpy()

    def score(outputs: NDArray[np.float32]) -> float:
        return 100.0 * (1.0 - float(((outputs - expected) ** 2).mean() / expected.var(0).mean()))

    gains = sensitivity(twin, x.split(20), score, adding(twin))
    return rank(with_gains(analyse(twin, x.split(20)), gains))


# -- figures by hand ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100.0, 1.0, 20.0), (1.0, 1.0, 0.0), (1.0, 2.0, 10 * math.log10(0.5)), (5.0, 0.0, MOST_DB), (0.0, 0.0, MOST_DB),
     (0.0, 1.0, -MOST_DB), (1e30, 1e-30, MOST_DB), (1.0, math.inf, -MOST_DB), (1.0, math.nan, -MOST_DB),
     (math.nan, 1.0, -MOST_DB), (1e-300, 1e300, -MOST_DB), (math.inf, 1.0, MOST_DB)],
)  # fmt: skip
def test_decibels(signal: float, noise: float, expected: float) -> None:
    assert decibels(signal, noise) == pytest.approx(expected)


def test_the_output_s_ratio_is_the_mean_over_the_samples() -> None:
    reference = np.array([[3.0, 4.0], [6.0, 8.0]], np.float32)
    outputs = np.array([[3.0, 4.5], [7.0, 8.0]], np.float32)  # 25 / 0.25 and 100 / 1: 20 dB each
    assert mean_snr_db(outputs, reference) == pytest.approx(20.0)
    outputs[1] = reference[1]
    assert mean_snr_db(outputs, reference) == pytest.approx((20.0 + MOST_DB) / 2)


def test_range_use_leaves_a_few_outliers_out() -> None:
    counts = np.zeros(256, np.int64)
    counts[100:164] = 100
    assert range_use(counts) == 64 / 256
    counts[[0, 255]] = 3  # 0.05 % of 6,406 values are 3
    assert range_use(counts) == 64 / 256
    counts[255] = 4
    assert range_use(counts) == 156 / 256
    assert range_use(np.array([0, 1, 0, 0])) == 1 / 4


def linear() -> Twin:
    """Returns a linear layer that passes two values on: input steps of 1, output steps of 0.5 from -64 to 63.5."""

    def model(dtype: str) -> bytes:
        weights = (
            constant([[127, 0], [0, 127]], "int8", scale=(1 / 127, 1 / 127), name="w")
            if dtype == "int8"
            else constant([[1.0, 0.0], [0.0, 1.0]], "float32", name="w")
        )
        ends = [int8(1, 2, name=name, scale=scale, zero_point=0) for name, scale in (("x", 1.0), ("y", 0.5))]
        if dtype != "int8":
            ends = [Made((1, 2), name=name) for name in ("x", "y")]
        return make_bytes([ends[0], weights, ends[1]], [Op("FULLY_CONNECTED", (0, 1), (2,))])

    return Twin(read_model(model("int8")), read_model(model("float32")), ["fc"]).eval()


def test_one_layer_by_hand() -> None:
    x = np.array([[3.3, 100.0], [-1.0, 10.0]])
    read = np.array([[3.0, 100.0], [-1.0, 10.0]])  # what the layer is given: steps of 1
    made = np.array([[3.0, 63.5], [-1.0, 10.0]])  # 100 is clipped
    (layer,) = analyse(linear(), [torch.tensor(x, dtype=torch.float32)])
    assert (layer.index, layer.layer, layer.op, layer.macs) == (0, "fc", "FULLY_CONNECTED", 4)
    assert layer.snr_db == pytest.approx(10 * math.log10((x**2).sum() / ((x - made) ** 2).sum()), abs=1e-4)
    assert layer.local_snr_db == pytest.approx(10 * math.log10((read**2).sum() / ((read - made) ** 2).sum()), abs=1e-4)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(made, axis=1)
    assert layer.cosine == pytest.approx(float(((x * made).sum(1) / norms).mean()), abs=1e-6)
    assert layer.saturation == 1 / 4
    assert layer.range_use == (127 + 2 + 1) / 256  # from -2 to 127
    assert layer.weight_ratio == pytest.approx(1.0)
    assert (layer.gained_points, layer.gained_db) == (None, None)


def test_what_a_layer_of_zeros_gives() -> None:
    """Nothing is lost of nothing; the values lie on one step."""
    (layer,) = analyse(linear(), [torch.zeros(3, 2)])
    assert (layer.snr_db, layer.local_snr_db, layer.cosine) == (MOST_DB, MOST_DB, 1.0)
    assert (layer.saturation, layer.range_use) == (0.0, 1 / 256)


def test_a_direction_that_is_lost_is_orthogonal() -> None:
    (layer,) = analyse(linear(), [torch.tensor([[0.2, 0.0], [0.0, 4.0]])])  # 0.2 is rounded to zero
    assert layer.cosine == pytest.approx(0.5)


def test_weight_ratio_is_that_of_the_channels_that_are_not_zero() -> None:
    twin = linear()
    (node,) = twin.graph.nodes
    twin.weights["1"].data = torch.tensor([[-0.5, 0.1], [20.0, 3.0]])
    assert weight_ratio(twin, node) == pytest.approx(40.0)
    twin.weights["1"].data = torch.tensor([[0.0, 0.0], [20.0, 3.0]])
    assert weight_ratio(twin, node) == 1.0
    twin.weights["1"].data.zero_()
    assert weight_ratio(twin, node) is None


def test_infinite_padding_of_a_maximum_is_left_out() -> None:
    def model(fill: Made, dtype: str) -> bytes:
        ends = [
            int8(*shape, name=name, scale=0.5, zero_point=0) if dtype == "int8" else Made(shape, name=name)
            for name, shape in (("x", (1, 2)), ("y", (1, 3)))
        ]
        pads = constant([[0, 0], [0, 1]], "int32", name="pads")
        return make_bytes([ends[0], pads, fill, ends[1]], [Op("PADV2", (0, 1, 2), (3,))])

    quantized = model(constant([-128], "int8", scale=(0.5,), name="fill"), "int8")
    floating = model(constant([-np.inf], "float32", name="fill"), "float32")
    twin = Twin(read_model(quantized), read_model(floating), ["pad"]).eval()
    (layer,) = analyse(twin, [torch.tensor([[1.0, 2.0]])])
    assert (layer.snr_db, layer.local_snr_db, layer.saturation) == (MOST_DB, MOST_DB, 0.0)
    assert layer.cosine == pytest.approx(1.0)


# -- what is tried, and how --------------------------------------------------------------------------------------------


def test_only_operators_that_quantize_something_are_tried(converted: Converted, twin: Twin) -> None:
    tried = {node.op for node in adding(twin)}
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "LOGISTIC"} <= tried
    assert not {"PAD", "MAX_POOL_2D", "CONCATENATION", "RESHAPE"} & tried
    layers = analyse(twin, [images(4)])
    assert [layer.index for layer in layers] == [node.index for node in twin.graph.nodes]
    assert [layer.local_snr_db for layer in layers if layer.op == "MAX_POOL_2D"] == [MOST_DB]


@pytest.mark.parametrize("activations", ["dynamic", "float32"])
def test_where_activations_are_float_the_weights_are_tried(line: Converted, activations: Activations) -> None:
    scheme = Scheme(activations=activations)
    twin = replace(line, structure=quantized_structure(line.floating.read_bytes(), scheme)).twin()
    assert {node.op for node in adding(twin)} == (
        {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"} if activations == "dynamic" else {"DEQUANTIZE"}
    )
    twin.calibrate([images(4)])
    layers = ranked(twin)
    assert sum(layer.gained_db is not None for layer in layers) == 4
    assert layers[0].gained_db is not None
    assert layers[0].gained_db > 0.5
    assert {(layer.saturation, layer.range_use) for layer in layers} == {(None, None)}
    ratios = sorted(layer.weight_ratio for layer in layers if layer.weight_ratio is not None)
    assert ratios == sorted(weight_ratio(line.twin(), node) or 0.0 for node in weighted(line.twin()))


def test_gains_are_those_of_whole_passes_with_the_layer_spared(twin: Twin) -> None:
    x = images(24, seed=2)
    before = frozenset({1})
    twin.spared = before

    def score(outputs: NDArray[np.float32]) -> float:
        return float(outputs.std())

    told: list[tuple[int, int]] = []
    found = sensitivity(twin, x.split(10), score, adding(twin), lambda done, total: told.append((done, total)))
    assert twin.spared == before
    assert told == [(1, 3), (2, 3), (3, 3)]
    with torch.no_grad():
        with twin.floating():
            exact = twin(x).numpy()
        base = twin(x).numpy()
        assert set(found) == {node.index for node in adding(twin)}
        for node in adding(twin):
            twin.spared = before | sharing(twin, node)
            outputs = twin(x).numpy()
            # Batches of another size are summed in another order, which may tip a step here and there.
            assert found[node.index].points == pytest.approx(score(outputs) - score(base), abs=1e-3)
            expected = mean_snr_db(outputs, exact) - mean_snr_db(base, exact)
            assert found[node.index].db == pytest.approx(expected, abs=0.3)
        twin.spared = before
        assert any(abs(gain.db) > 0.5 for gain in found.values())


def test_layers_that_share_a_scale_have_one_gain(twin: Twin) -> None:
    joined = next(node for node in twin.graph.nodes if node.op == "CONCATENATION")
    members = sharing(twin, joined)
    assert len(members) > 1
    nodes = [twin.graph.nodes[index] for index in sorted(members)]
    found = sensitivity(twin, [images(8)], lambda outputs: float(outputs.std()), nodes)
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("way", [Way.STACKED, Way.ALONE])
def test_the_figures_do_not_depend_on_the_way(line: Converted, way: Way) -> None:
    twin, x = calibrated(line), images(6, seed=4)
    expected = analyse(twin, [x])
    assert twin._way is Way.TOGETHER
    twin._way = way
    assert [len(piece) for piece in walkable(twin, [x])] == ([1] * 6 if way is Way.ALONE else [6])
    for found, known in zip(analyse(twin, [x]), expected, strict=True):
        assert found.snr_db == pytest.approx(known.snr_db, abs=0.2)
        assert found.cosine == pytest.approx(known.cosine, abs=1e-4)
        assert found.range_use == pytest.approx(known.range_use, abs=0.02)
        assert found.weight_ratio == known.weight_ratio
    gains = sensitivity(twin, [x], lambda outputs: float(outputs.std()), adding(twin))
    twin._way = Way.TOGETHER
    for index, gain in sensitivity(twin, [x], lambda outputs: float(outputs.std()), adding(twin)).items():
        assert gains[index].db == pytest.approx(gain.db, abs=0.3)


def test_several_samples_at_once_are_refused_where_a_graph_takes_one(line: Converted) -> None:
    twin, x = calibrated(line), images(3)
    twin._way = Way.ALONE
    with pytest.raises(ModelError, match="only be computed sample by sample"):
        next(walk(twin, x))
    with pytest.raises(ModelError, match="only be computed sample by sample"):
        outputs_sparing(twin, x, [frozenset({0})])


def test_a_float_graph_that_is_stacked_loses_nothing() -> None:
    twin = attention()
    layers = analyse(twin, [samples()])
    assert adding(twin) == []
    assert len(layers) == 9
    assert {layer.snr_db for layer in layers} == {MOST_DB}
    assert [layer.cosine for layer in layers] == pytest.approx([1.0] * 9)
    assert {(layer.saturation, layer.range_use, layer.weight_ratio) for layer in layers} == {(None, None, None)}


def test_macs_are_counted(line: Converted) -> None:
    twin = line.twin()
    found = [count for count in node_macs(twin).values() if count is not None]
    assert found == [144 * 8 * 27, 144 * 8 * 9, 144 * 6 * 8, 6 * 5]


def test_ranking() -> None:
    def layer(index: int, points: float | None, db: float | None) -> LayerAnalysis:
        return LayerAnalysis(index, "", "", None, 0.0, 0.0, 1.0, 0.0, 1.0, None, points, db)

    layers = [layer(0, None, None), layer(1, 0.5, 0.1), layer(2, 0.0, 3.0), layer(3, 2.0, 0.0), layer(4, -1.5, 9.0),
              layer(5, 0.5, 0.2), layer(6, None, None)]  # fmt: skip
    assert [one.index for one in rank(reversed(layers))] == [3, 5, 1, 2, 4, 0, 6]
    assert [one.index for one in rank(layers, noise_points=1.0)] == [3, 2, 5, 1, 4, 0, 6]
    # Two samples of 144, as a difference of two accuracies and as it is.
    two = 19.444444444444446 - 18.055555555555554
    assert two > 100 * 2 / 144
    assert [one.index for one in rank([layer(0, two, 0.1), layer(1, 0.0, 3.0)], noise_points=100 * 2 / 144)] == [1, 0]


# -- planted faults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_range_that_is_too_narrow_ranks_first_and_saturates(line: Converted, place: int) -> None:
    twin = calibrated(line)
    sound = {layer.layer: layer for layer in analyse(twin, [images(48, seed=7)])}
    node = weighted(twin)[place]
    group = twin.groups[twin.group_of[node.outputs[0]]]
    group.set_range(group.low / 8, group.high / 8)
    first, *others = ranked(twin)
    assert first.layer == node.label
    assert first.saturation is not None
    assert first.saturation > 0.1 > 10 * (sound[node.label].saturation or 0.0)
    assert first.gained_points is not None
    assert first.gained_points > 10
    assert all(layer.gained_points < first.gained_points / 3 for layer in others if layer.gained_points is not None)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_range_that_outliers_widened_ranks_first_and_is_hardly_used(line: Converted, place: int) -> None:
    twin = calibrated(line)
    node = weighted(twin)[place]
    group = twin.groups[twin.group_of[node.outputs[0]]]
    group.set_range(50 * group.low, 50 * group.high)
    layers = ranked(twin)
    assert layers[0].layer == node.label
    assert layers[0].range_use is not None
    assert layers[0].range_use < 0.05
    assert layers[0].saturation == 0.0
    assert layers[0].local_snr_db == min(layer.local_snr_db for layer in layers)


def test_a_channel_a_thousand_times_as_large_ranks_first_and_shows_in_the_weights(line: Converted) -> None:
    """The next layer takes it back, so that the float model is what it was; the other channels lose their steps."""
    twin = line.twin()
    node, following = weighted(twin)[:2]
    for n in node.inputs[1:]:
        twin.weights[str(n)].data[3] *= 1000.0
    twin.weights[str(following.inputs[1])].data[..., 3] /= 1000.0
    twin.calibrate([images(64)])
    layers = ranked(twin)
    assert layers[0].layer == node.label
    assert layers[0].weight_ratio is not None
    assert layers[0].weight_ratio > 500
    assert layers[0].gained_points is not None
    assert layers[0].gained_points > 10


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_weights_on_a_grid_that_is_too_coarse_rank_first(
    line: Converted, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = calibrated(line)
    wrecked, scale = weighted(twin)[place], twin.weight_scale
    monkeypatch.setattr(twin, "weight_scale", lambda n: scale(n) * (100.0 if n == wrecked.inputs[1] else 1.0))
    first, *others = ranked(twin)
    assert (first.layer, first.op) == (wrecked.label, wrecked.op)
    assert first.gained_points is not None
    assert first.gained_points > 10
    assert first.local_snr_db < min(layer.local_snr_db for layer in others) - 6
