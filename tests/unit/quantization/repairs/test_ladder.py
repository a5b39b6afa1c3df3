"""Each repair of PTQ on a network that it repairs, and the ladder that climbs no further than it must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgecompress.quantization.graph.ops import WEIGHTED
from edgecompress.quantization.grids.ranges import RangeGroup
from edgecompress.quantization.proof.analysis import Gain
from edgecompress.quantization.proof.compare import compare_answers
from edgecompress.quantization.proof.layers import walk
from edgecompress.quantization.repairs.adaround import lay_out, learn_rounding
from edgecompress.quantization.repairs.bias_correction import correct_biases
from edgecompress.quantization.repairs.equalize import equalize, find_pairs
from edgecompress.quantization.repairs.estimation import ESTIMATORS, Seen, estimate, look
from edgecompress.quantization.repairs.ladder import Built, Ladder, Widening
from edgecompress.quantization.repairs.wide import WideSet, wide_sets
from edgecompress.quantization.structure.scheme import Scheme, Wide
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.facts.census import census
from edgecompress.tflite.format.convert import convert
from edgecompress.tflite.format.finish import finish
from edgecompress.tflite.format.flatbuffer import read_model
from edgecompress.tflite.format.views import dtype_name
from tests.unit.converted_net import Converted, images, run_flatbuffer, shipped


class Chain(nn.Module):
    """Convolutions in a chain: dense, depthwise, dense, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))))
        return self.fc(nn.functional.avg_pool2d(x, 12).flatten(1))


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The chain, its channels rescaled so that weight ranges lie 1000:1 apart; the function is what it was."""
    torch.manual_seed(1)
    module = Chain().eval()
    factors = torch.logspace(-1.5, 1.5, 8)[torch.randperm(8)]
    with torch.no_grad():
        for first, second in ((module.a, module.b), (module.b, module.c)):
            first.weight.mul_(factors.reshape(-1, 1, 1, 1))
            first.bias.mul_(factors)
            second.weight.div_(factors.reshape(-1, 1, 1, 1) if second.groups > 1 else factors.reshape(1, -1, 1, 1))
    path = tmp_path_factory.mktemp("chain") / "float.tflite"
    convert(module, (3, 12, 12), path)
    return Converted(module, path, quantized_structure(path.read_bytes()))


def error(twin: Twin, x: torch.Tensor) -> float:
    """Returns the mean squared error of the quantized outputs against the float model's."""
    with torch.no_grad():
        quantized = twin(x)
        with twin.floating():
            return float((quantized - twin(x)).square().mean())


def calibrated(converted: Converted) -> Twin:
    twin = converted.twin()
    twin.calibrate([images(64)])
    return twin


def test_equalisation_keeps_the_function_and_evens_out_the_channels(chain: Converted) -> None:
    twin, x = calibrated(chain), images(64, seed=3)
    assert [(pair.first.op, pair.second.op) for pair in find_pairs(twin)] == [
        ("CONV_2D", "DEPTHWISE_CONV_2D"),
        ("DEPTHWISE_CONV_2D", "CONV_2D"),
        ("CONV_2D", "FULLY_CONNECTED"),
    ]
    before = error(twin, x)
    with torch.no_grad(), twin.floating():
        expected = twin(x)
    assert equalize(twin) == 3
    with torch.no_grad(), twin.floating():
        torch.testing.assert_close(twin(x), expected, rtol=1e-4, atol=1e-4)
    twin.calibrate([images(64)])
    assert error(twin, x) < before / 10
    content, _ = shipped(chain, twin)
    with torch.no_grad():
        answers = twin(x).numpy()
    step = twin.groups[twin.group_of[twin.graph.output]].scale
    assert compare_answers(run_flatbuffer(content, x).astype(np.float32), answers, step).max_steps <= 1.01


def test_layers_that_others_read_are_left_alone(twin: Twin) -> None:
    """In the net of every kind, the stem's output is read twice and the rest is no chain of ReLUs."""
    assert [pair.first.label for pair in find_pairs(twin)] == []


def test_bias_correction_takes_off_the_mean_error(chain: Converted) -> None:
    twin, x = calibrated(chain), images(64)
    equalize(twin)
    twin.calibrate([x])

    reference = [layer.target[0] for layer in walk(twin, x)][-1].mean(0)
    with torch.no_grad():
        before = float((twin(x).mean(0) - reference).abs().max())
    assert correct_biases(twin, x) == 4
    with torch.no_grad():
        after = float((twin(x).mean(0) - reference).abs().max())
    assert after < before / 2


def test_learned_rounding_is_better_than_rounding_to_nearest(chain: Converted) -> None:
    twin, x = calibrated(chain), images(128, seed=5)
    equalize(twin)
    twin.calibrate([images(64)])
    with torch.no_grad(), twin.floating():
        expected = twin(x)
    before = error(twin, x)
    integers = {n: values[0] for n, values in twin.quantized_constants().items()}
    scales = {n: values[1] for n, values in twin.quantized_constants().items()}
    assert learn_rounding(twin, images(64), iterations=300) == 4
    with torch.no_grad():
        after = float((twin(x) - expected).square().mean())
    assert after < before
    moved = [
        int(np.abs(values[0].astype(int) - integers[n]).max())
        for n, values in twin.quantized_constants().items()
        if n not in twin.biases
    ]
    assert max(moved) == 1
    for n, values in twin.quantized_constants().items():
        np.testing.assert_allclose(values[1], scales[n], rtol=1e-5)


def test_pruned_weights_stay_zero_when_rounding_is_learned(chain: Converted) -> None:
    twin = calibrated(chain)
    key = str(twin.graph.nodes[0].inputs[1])
    with torch.no_grad():
        twin.weights[key].data[:, 0] = 0.0
    learn_rounding(twin, images(32), iterations=50)
    assert not twin.weights[key].detach()[:, 0].any()


def test_estimators_on_values_with_an_outlier() -> None:
    seen = Seen(RangeGroup((0,), (0,), fixed=False, scale=1.0, zero_point=0))
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        seen.add(torch.randn(20_000, generator=generator))
    seen.add(torch.cat([torch.randn(20_000, generator=generator), torch.tensor([100.0])]))
    ranges = {name: ESTIMATORS[name](seen) for name in ESTIMATORS}
    assert ranges["min-max"][1] == 100.0
    assert 4 < ranges["moving-average"][1] < 100
    assert 3 < ranges["percentile-99.9"][1] < ranges["percentile-99.99"][1] < 5
    assert 4 < ranges["mse"][1] < 95  # clipping one value costs less than coarser steps for all
    assert set(ranges) == {"min-max", "moving-average", "percentile-99.99", "percentile-99.9", "mse"}


def test_observed_ranges_are_those_of_calibration(converted: Converted) -> None:
    twin, other = converted.twin(), calibrated(converted)
    twin.set_ranges(estimate(look(twin, [images(64)]), "min-max"))
    assert twin.ranges() == other.ranges()


def ladder(converted: Converted, grade: Callable[[Twin], float]) -> Ladder:
    return Ladder(built(converted), images(64).split(32), grade, iterations=50)


def built(converted: Converted) -> Built:
    twin = converted.twin()
    return Built(twin, converted.structure, [node.label for node in twin.graph.nodes])


def fidelity(converted: Converted) -> Callable[[Twin], float]:
    """Returns what grades a twin: the share of the float outputs' variance that it explains, in percent.

    The arg-max of a network with random weights is nearly always the same class, which would tell nothing.
    """
    x = images(200, seed=9)
    with torch.no_grad():
        expected = converted.module(x)

    def grade(twin: Twin) -> float:
        with torch.no_grad():
            missed = (twin(x) - expected).square().mean()
        return 100.0 * (1.0 - float(missed / expected.var(0).mean()))

    return grade


def test_plain_calibration_suffices_for_a_tame_network(converted: Converted) -> None:
    found = ladder(converted, fidelity(converted))
    assert found.climb(5.0) is True
    assert [rung.name for rung in found.rungs] == ["plain"]


def test_equalisation_is_the_first_that_suffices_for_ranges_1000_to_1(chain: Converted) -> None:
    found = ladder(chain, fidelity(chain))
    assert found.climb(6.0) is True
    assert [rung.name for rung in found.rungs] == ["plain", "ranges", "equalize"]
    plain, _, last = found.rungs
    assert plain.drop_points > 100
    assert last.drop_points <= 6.0
    assert "3 pairs of layers equalised" in last.detail


def test_when_nothing_suffices_the_best_rung_is_kept(chain: Converted) -> None:
    found = ladder(chain, fidelity(chain))
    assert found.climb(-1.0) is False
    assert [rung.name for rung in found.rungs] == ["plain", "ranges", "equalize", "adaround"]
    assert found.accuracy(found.twin) == max(rung.accuracy for rung in found.rungs)


def test_outliers_are_what_the_range_estimators_are_for(tmp_path: Path) -> None:
    """One calibration sample in which a value runs away: the least and largest values spoil every other sample."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(12), nn.Flatten(), nn.Linear(8, 5)
    ).eval()
    path = tmp_path / "float.tflite"
    convert(module, (3, 12, 12), path)
    converted = Converted(module, path, quantized_structure(path.read_bytes()))
    outlier = images(64)
    outlier[0, 0, 0, 0] = 3000.0
    found = Ladder(built(converted), outlier.split(16), fidelity(converted), iterations=10)
    assert found.climb(5.0) is True
    assert [rung.name for rung in found.rungs] == ["plain", "ranges"]
    assert found.rungs[0].drop_points > 10


class Hidden(nn.Module):
    """A small signal on top of a large one that is taken off again: eight bits cannot hold both at once."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = x[:, :1] * 200.0
        small = (large + x[:, 1:2]) - large
        return self.head(nn.functional.avg_pool2d(torch.cat([small, x[:, 2:], small], 1), 3).flatten(1))


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(0)
    module, path = Hidden().eval(), tmp_path_factory.mktemp("hidden") / "float.tflite"
    convert(module, (3, 12, 12), path)
    return Converted(module, path, quantized_structure(path.read_bytes()))


def widening(converted: Converted, kinds: Sequence[Wide], limit: float) -> Widening:
    def build(scheme: Scheme) -> Built:
        return built(replace(converted, structure=quantized_structure(converted.floating.read_bytes(), scheme)))

    x = images(200, seed=9)
    with torch.no_grad():
        expected = converted.module(x).numpy()
    return Widening(
        kinds, limit, Scheme(), read_model(converted.floating), build, x.split(50),
        lambda outputs: 100.0 * (1.0 - float(((outputs - expected) ** 2).mean() / expected.var(0).mean())),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_wider_layers_are_the_first_that_suffice_for_a_signal_beneath_another(hidden: Converted, kind: Wide) -> None:
    found = ladder(hidden, fidelity(hidden))
    narrow = found.model
    found.widening = widening(hidden, [kind], 0.1)
    assert found.climb(2.0) is True
    assert [rung.name for rung in found.rungs] == ["plain", "ranges", "equalize", "adaround", f"wide-{kind}"]
    assert min(rung.drop_points for rung in found.rungs[:-1]) > 20.0
    assert found.rungs[-1].drop_points <= 2.0
    assert found.model is not narrow
    assert found.wide is not None
    assert found.wide.macs_share <= 0.1
    content, _ = finish(_written(found.model), found.model.labels, "int8")
    dtypes = {dtype_name(tensor.type) for tensor in read_model(content).subgraphs[0].tensors}
    assert kind in dtypes
    strict, free = census(read_model(content)), census(read_model(content), allow=[kind])
    assert strict.not_int8
    assert not free.not_int8
    x = images(60, 3)
    with torch.no_grad():
        expected = found.twin(x).numpy()
    step = found.twin.groups[found.twin.group_of[found.twin.graph.output]].scale
    assert compare_answers(run_flatbuffer(content, x).astype(np.float32), expected, step).same == 100.0


def _written(model: Built) -> schema.ModelT:
    found = read_model(model.structure)
    model.twin.write_into(found)
    return found


def test_wider_layers_stay_within_their_share_of_the_multiplications(chain: Converted) -> None:
    found = ladder(chain, fidelity(chain))
    found.widening = widening(chain, ["int16"], 1e-6)
    assert found.climb(-1.0) is False
    assert found.rungs[-1].name == "wide-int16"
    assert found.rungs[-1].detail.startswith("no layer is within 0.0001 %")
    assert found.wide is None


def test_sets_grow_within_the_limit_and_take_their_readers_along(chain: Converted) -> None:
    twin = calibrated(chain)
    gains = {node.index: Gain(float(10 - node.index), 1.0) for node in twin.graph.nodes}
    sets = list(wide_sets(twin, gains, read_model(chain.floating), 1.0))
    assert [len(found.names) for found in sets] == sorted(len(found.names) for found in sets)
    assert len(sets[0].names) >= 2
    assert sets[-1].macs_share == pytest.approx(1.0)
    # Alone none of them may help where several together do.
    alone = list(wide_sets(twin, dict.fromkeys(gains, Gain(0.0, -1.0)), read_model(chain.floating), 1.0))
    assert alone[-1].names == sets[-1].names
    assert not list(wide_sets(twin, gains, read_model(chain.floating), 0.0))


class Flat(nn.Module):
    """One linear layer over whole pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(432, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


def flat_pictures(count: int, seed: int) -> torch.Tensor:
    """Returns pictures of one colour, but for one pixel that is always black."""
    colours = torch.randn(count, 3, 1, 1, generator=torch.Generator().manual_seed(seed))
    pictures = colours.expand(count, 3, 12, 12).clone()
    pictures[:, 0, 0, 0] = 0.0
    return pictures


def test_learned_rounding_is_the_first_that_suffices_for_weights_that_all_round_the_same_way(tmp_path: Path) -> None:
    """Each weight is less than half a step, so that rounding to nearest leaves nothing of their common work."""
    module = Flat().eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        signs = torch.sign(torch.randn(5, 3, 1, 1, generator=generator))
        weight = signs * (0.3 + 0.19 * torch.rand(5, 3, 12, 12, generator=generator))
        weight[:, 0, 0, 0] = 127.0  # sets the scale, and meets the black pixel
        module.head.weight.copy_(weight.flatten(1) / 127)
        module.head.bias.zero_()
    path = tmp_path / "float.tflite"
    convert(module, (3, 12, 12), path)
    converted = Converted(module, path, quantized_structure(path.read_bytes()))
    x = flat_pictures(200, 9)
    with torch.no_grad():
        expected = module(x)

    def grade(twin: Twin) -> float:
        with torch.no_grad():
            return 100.0 * (1.0 - float((twin(x) - expected).square().mean() / expected.var(0).mean()))

    found = Ladder(built(converted), flat_pictures(64, 1).split(32), grade, iterations=400)
    assert found.climb(5.0) is True
    assert [rung.name for rung in found.rungs] == ["plain", "ranges", "equalize", "adaround"]
    assert min(rung.drop_points for rung in found.rungs[:-1]) > 50.0


class Strides(nn.Module):
    """Convolutions that skip, pad on one side, spread out and work in groups; a linear layer on every position."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.b = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=4)
        self.c = nn.Conv2d(12, 12, (3, 1), padding=(1, 0), groups=12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.c(torch.relu(self.b(torch.relu(self.a(x))))))
        return self.head(x.mean((2, 3)))


def test_layers_laid_out_as_products_of_matrices_compute_the_same(tmp_path: Path) -> None:
    torch.manual_seed(2)
    module, path = Strides().eval(), tmp_path / "float.tflite"
    convert(module, (3, 12, 12), path)
    twin = calibrated(Converted(module, path, quantized_structure(path.read_bytes())))
    seen = []
    with twin.floating(), torch.no_grad():
        for layer in walk(twin, images(20)):
            if layer.node.op in WEIGHTED:
                rows = lay_out(layer, torch.Generator().manual_seed(0))
                found = rows.outputs(layer.quantized[1], layer.quantized[2], torch.arange(len(rows.inputs)))
                assert torch.allclose(found, rows.targets, atol=1e-5)
                assert len(rows.inputs) == len(rows.targets) == layer.target[0].numel() // layer.target[0].shape[-1]
                seen.append((layer.node.op, rows.inputs.shape[1]))
    assert [op for op, _ in seen].count("CONV_2D") >= 2
    assert {groups for _, groups in seen} == {1, 4, 12}


def test_what_is_wider_already_stays_as_it_is() -> None:
    """Else repairs would make INT16 of a softmax that the report calls float32."""
    scheme = WideSet(("a;", "b;"), ("a", "b"), 0.1).scheme(Scheme(wide={"b;": "float32"}), "int16")
    assert scheme.wide == {"a;": "int16", "b;": "float32"}
