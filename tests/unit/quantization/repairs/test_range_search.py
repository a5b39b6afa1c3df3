"""Estimators chosen for each activation: what is tried, what it costs, and a network that no single estimator suits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgecompress.quantization.graph.batches import Way
from edgecompress.quantization.proof.effort import pass_cost
from edgecompress.quantization.proof.layers import outputs_by_range
from edgecompress.quantization.repairs import range_search
from edgecompress.quantization.repairs.estimation import ESTIMATORS, Range, estimate, look
from edgecompress.quantization.repairs.ladder import Built, Ladder
from edgecompress.quantization.repairs.range_search import search_estimators
from edgecompress.quantization.structure.structure import quantized_structure
from edgecompress.quantization.twin.twin import Twin
from edgecompress.tflite.format.convert import convert
from tests.unit.converted_net import Converted, images

LARGEST = 3.0


class Spikes(nn.Module):
    """Two activations with rare spikes: those of the one are cut off by a ReLU6 behind it, those of the other count."""

    def __init__(self) -> None:
        super().__init__()
        self.apart = nn.Conv2d(2, 4, 1)
        self.usual, self.spikes = (nn.ModuleList([nn.Conv2d(4, 1, 1), nn.Conv2d(4, 1, 1)]) for _ in range(2))
        self.cut, self.heads = nn.Conv2d(1, 1, 1), nn.ModuleList([nn.Linear(1, 3), nn.Linear(1, 3)])
        with torch.no_grad():
            for layer in (self.apart, self.cut, *self.usual, *self.spikes):
                layer.weight.zero_()
                layer.bias.zero_()
            self.apart.weight.copy_(torch.eye(2).repeat(2, 1).reshape(4, 2, 1, 1))
            self.apart.bias[2:] = -2.5
            for place in (0, 1):
                self.usual[place].weight[0, place] = 1.0
                self.spikes[place].weight[0, place + 2] = 1000.0
            self.cut.weight.fill_(1.0)
            for layer, weight in zip(self.heads, ([6.0, -4.0, 2.0], [0.02, 0.01, -0.02]), strict=True):
                layer.weight.copy_(torch.tensor(weight)[:, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = torch.relu(self.apart(x))
        sums = [usual(parts) + spike(parts) for usual, spike in zip(self.usual, self.spikes, strict=True)]
        harmless, telling = nn.functional.relu6(self.cut(sums[0])), sums[1]
        one, other = self.heads
        mean, most = nn.functional.avg_pool2d(harmless, 12), nn.functional.max_pool2d(telling, 12)
        return one(mean.flatten(1)) + other(most.flatten(1))


def pictures(count: int, seed: int, harmless: int, telling: int) -> torch.Tensor:
    """Returns pictures, (N, 2, 12, 12) below 2.4; in every so many of them one pixel of a channel is at LARGEST."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 1, 1, generator=generator) * (
        4.8 * torch.rand(count, 2, 12, 12, generator=generator) - 2.4
    )
    x[::harmless, 0, 3, 4] = LARGEST
    x[::telling, 1, 5, 6] = LARGEST
    return x


@pytest.fixture(scope="module")
def spikes(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(3)
    module, path = Spikes().eval(), tmp_path_factory.mktemp("spikes") / "float.tflite"
    convert(module, (2, 12, 12), path)
    return Converted(module, path, quantized_structure(path.read_bytes()))


def options_of(twin: Twin, batches: list[torch.Tensor]) -> dict[str, dict[int, Range]]:
    seen = look(twin, batches)
    return {name: estimate(seen, name) for name in ESTIMATORS}


def test_what_no_single_estimator_suits_is_repaired_by_one_for_each(spikes: Converted) -> None:
    calibration, trial = pictures(128, 0, 128, 128), pictures(64, 1, 64, 8)
    with torch.no_grad():
        expected = spikes.module(trial)

    def grade(twin: Twin) -> float:
        with torch.no_grad():
            return 100.0 * (1.0 - float((twin(trial) - expected).square().mean() / expected.var(0).mean()))

    twin = spikes.twin()
    options = options_of(twin, [calibration])
    alone = {}
    for name, ranges in options.items():
        twin.set_ranges(ranges)
        alone[name] = grade(twin)
    assert max(alone.values()) < 97.0

    twin = spikes.twin()
    built = Built(twin, spikes.structure, [node.label for node in twin.graph.nodes])
    found = Ladder(built, [calibration], grade, trial=[trial])
    assert found.climb(1.0) is True
    assert [rung.name for rung in found.rungs] == ["plain", "ranges"]
    assert found.rungs[-1].detail.startswith("range estimators chosen for each activation: ")
    chosen = search_estimators(twin, [trial], options, "min-max")
    sums = [twin.group_of[node.outputs[0]] for node in twin.graph.nodes if node.op == "ADD"][:2]
    assert [options["min-max"][k][1] > 100.0 for k in sums] == [True, True]
    assert [options[chosen[k]][k][1] > 100.0 for k in sums] == [False, True]


def test_one_range_alone_is_tried_and_none_is_kept(spikes: Converted) -> None:
    twin, x = spikes.twin(), pictures(10, 2, 5, 5)
    twin.calibrate([x])
    before = twin.ranges()
    tries = {k: [(group.low, group.high), (0.5 * group.low, 0.5 * group.high)] for k, group in enumerate(twin.groups)}
    found = {(k, which): output for k, which, output in outputs_by_range(twin, x, tries)}
    assert twin.ranges() == before
    assert twin.alone is None
    assert set(found) == {(k, which) for k in tries for which in (0, 1)}
    with torch.no_grad(), twin.floating():
        reference, changed = twin(x), []
        for k, group in enumerate(twin.groups):
            for which, (low, high) in enumerate(tries[k]):
                group.set_range(low, high)
                twin.alone = k
                expected = twin(x)
                twin.alone = None
                torch.testing.assert_close(found[k, which], expected)
                changed.append(not torch.equal(expected, reference))
    assert sum(changed) > len(changed) / 2


@pytest.mark.parametrize("way", [Way.STACKED, Way.ALONE])
def test_graphs_that_take_no_batches_are_searched_as_well(spikes: Converted, way: Way) -> None:
    x = pictures(24, 4, 24, 24)
    together, other = spikes.twin(), spikes.twin()
    other._way = way
    options = options_of(together, [x])
    expected = search_estimators(together, [x], options, "min-max")
    assert search_estimators(other, [x[:10], x[10:]], options, "min-max") == expected
    assert len(set(expected.values())) > 1


def test_what_cannot_be_afforded_is_not_tried(spikes: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    twin, x = spikes.twin(), pictures(16, 3, 16, 16)
    options = options_of(twin, [x])
    tried: set[int] = set()
    monkeypatch.setattr(
        range_search, "outputs_by_range", lambda twin, x, tries: tried.update(tries) or outputs_by_range(twin, x, tries)
    )
    everything = search_estimators(twin, [x], options, "min-max")
    candidates = set(tried)
    for effort, least in ((0.0, 0), (16 * 12 * pass_cost(twin), 1)):
        tried.clear()
        monkeypatch.setattr(range_search, "EFFORT", effort)
        chosen = search_estimators(twin, [x], options, "moving-average")
        assert least <= len(tried) < len(candidates)
        for k, name in chosen.items():
            assert name == (everything[k] if k in tried else "moving-average")
        # What is left out is what the estimators agree on most.
        widths = {k: [ranges[k][1] - ranges[k][0] for ranges in options.values()] for k in candidates}
        differ = {k: max(found) / max(min(found), 1e-12) for k, found in widths.items()}
        assert all(differ[k] >= differ[other] for k in tried for other in candidates - tried)


def test_samples_are_taken_evenly_from_all_batches(spikes: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    twin, x = spikes.twin(), images(40)[:, :2].contiguous()
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(range_search, "MOST_SAMPLES", 4)
    monkeypatch.setattr(
        range_search, "outputs_by_range", lambda twin, x, tries: seen.append(x) or outputs_by_range(twin, x, tries)
    )
    search_estimators(twin, list(x.split(16)), options_of(twin, [x]), "min-max")
    assert torch.equal(torch.cat(seen), x[[0, 13, 26, 39]])
