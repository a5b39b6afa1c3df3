"""From a target in the user's units to the share that has to go: counted, searched for, or out of reach."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError
from edgecompress.models.count import count
from edgecompress.recipe.schema import PruneSpec, Recipe
from edgecompress.stages.pruning import targets
from edgecompress.stages.pruning.targets import find_aim, pruner_for, reached

SHAPE = (3, 16, 16)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    widths = (3, 64, 96, 64)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)).eval()


def pictures() -> SimpleNamespace:
    ends = Ends(SHAPE, (5,))
    return SimpleNamespace(input_shape=SHAPE, ends=ends, input_dtype=ends.dtype)


def bench(**prune: Any) -> tuple[Any, PruneSpec]:
    recipe = Recipe.model_validate({"version": 1, "student": {"model": "resnet8"}, "prune": prune, "quantize": {}})
    notes: list[str] = []
    found = SimpleNamespace(recipe=recipe, dataset=pictures(), ctx=SimpleNamespace(note=notes.append), notes=notes)
    assert recipe.prune is not None
    return found, recipe.prune


class Scales:
    """Weighs a model by a formula instead of converting it."""

    def __init__(self, _bench: Any, base: nn.Module, stage: str | None = None) -> None:
        self._base, self.stage = base, stage

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def before(self, kind: str) -> float:
        return self.value(kind, self._base)

    def value(self, kind: str, model: nn.Module) -> float:
        counts = count(model, SHAPE)
        return 5000 + 1.1 * counts.params if kind == "size" else 0.05 + 1e-7 * counts.macs


@pytest.fixture(autouse=True)
def _no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "Yardstick", Scales)


@pytest.mark.parametrize("of", ["params", "macs"])
def test_counted_shares_need_no_search(of: str) -> None:
    made, spec = bench(of=of, ratio=0.4)
    aim = find_aim(made, net(), spec)
    assert (aim.counts, aim.kind, aim.ratio) == (of, of, pytest.approx(0.4))
    assert aim.tries == []


def test_an_absolute_count_becomes_a_share() -> None:
    model = net()
    before = count(model, SHAPE).macs
    made, spec = bench(target={"macs": f"{before / 4e6}M"})
    aim = find_aim(made, model, spec)
    assert aim.counts == "macs"
    assert aim.ratio == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("prune", "kind"),
    [
        ({"of": "size", "ratio": 0.5}, "size"), ({"of": "latency", "ratio": 0.5}, "latency"),
        ({"of": "size", "ratio": 0.8}, "size"), ({"target": {"size_kib": 80}}, "size"),
        ({"target": {"latency_ms": 1.2}}, "latency"),
    ],
)  # fmt: skip
def test_sizes_and_latencies_are_searched_for(prune: dict[str, Any], kind: str) -> None:
    made, spec = bench(**prune, steps=3)
    model = net()
    aim = find_aim(made, model, spec)
    assert aim.kind == kind
    assert 2 <= len(aim.tries) <= 1 + targets.TRIALS
    scales = Scales(None, model)
    assert aim.before == scales.before(kind)
    best = min(aim.tries, key=lambda tried: abs(tried["value"] - aim.target))
    pruned = net()
    pruner = pruner_for(made, pruned, spec, aim, 3)
    for step in (1, 2, 3):
        pruner.prune_step(step)
        with torch.no_grad():  # as training would: another ranking, the same widths
            for parameter in pruned.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    assert {name: widths[-1:] for name, widths in pruner.step_widths.items()} == aim.widths
    value = reached(made, pruned, kind, scales)
    assert value == best["value"]
    assert value == pytest.approx(aim.target, rel=targets.TOLERANCE[kind])
    assert f"{aim.target:,.5g}" in made.notes[0]


def test_without_a_search_only_the_reach_is_looked_at() -> None:
    made, spec = bench(of="size", ratio=0.5)
    assert len(find_aim(made, net(), spec, search=False).tries) == 1


def test_a_target_out_of_reach_is_refused_with_what_can_be_had() -> None:
    made, spec = bench(target={"size_kib": 5})
    with pytest.raises(ModelError, match=r"cannot prune to 5,120 bytes: .* are left of"):
        find_aim(made, net(), spec)


@pytest.mark.parametrize("target", [{"macs": "10G"}, {"size_kib": 5000}, {"latency_ms": 100}])
def test_a_target_that_is_met_already_is_refused(target: dict[str, Any]) -> None:
    made, spec = bench(target=target)
    with pytest.raises(ModelError, match="nothing to prune"):
        find_aim(made, net(), spec)


def test_where_every_model_is_slower_a_latency_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = count(net(), SHAPE).params
    monkeypatch.setattr(Scales, "value", lambda _, __, model: 1.0 if count(model, SHAPE).params == whole else 1.04)
    made, spec = bench(of="latency", ratio=0.02)
    with pytest.raises(ModelError, match=r"no pruned model is faster .*: 1\.04 ms at best, 1 ms before"):
        find_aim(made, net(), spec)


def test_widths_of_a_recipe_are_not_searched_for() -> None:
    made, spec = bench(of="latency", ratio=0.5, steps=2, widths={"0": [40, 24], "3": 48})
    model = net()
    aim = find_aim(made, model, spec)
    scales = Scales(None, model)
    assert (aim.kind, aim.before, aim.tries) == ("latency", scales.before("latency"), [])
    assert aim.target == pytest.approx(0.5 * aim.before)
    pruner = pruner_for(made, model, spec, aim, 2)
    pruner.prune_step(1)
    pruner.prune_step(2)
    assert pruner.step_widths == {"0": [40, 24], "3": [72, 48]}
    assert pruner.report().removed_macs == pytest.approx(aim.ratio)
    # Before training nothing needs to be weighed or timed, only whether they fit.
    unmeasured = find_aim(made, net(), spec, search=False)
    assert (unmeasured.before, unmeasured.widths) == (0.0, aim.widths)


def test_widths_that_change_nothing_or_fit_no_layer_are_refused() -> None:
    made, spec = bench(steps=1, widths={"0": 64})
    with pytest.raises(ModelError, match=r"prune\.widths remove no channel"):
        find_aim(made, net(), spec)
    made, spec = bench(steps=1, widths={"conv": 8})
    with pytest.raises(ModelError, match=r"prune\.widths: conv is no layer of this model"):
        find_aim(made, net(), spec)
