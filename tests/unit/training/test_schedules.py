"""Learning rates at the edges of a training, and which parameters decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgecompress.training.schedules import make_optimizer, rate_at
from tests.unit.training.training_task import settled

SCHEDULES = ("cosine", "linear", "constant")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_edges_with_a_warm_up(schedule: str) -> None:
    spec = settled(learning_rate=0.5, warmup=0.25, schedule=schedule)
    assert rate_at(spec, 0.0) == pytest.approx(0.005)  # a hundredth, for a rate of zero would waste the step
    assert rate_at(spec, 0.125) == pytest.approx(0.25)
    assert rate_at(spec, 0.25) == pytest.approx(0.5)
    assert rate_at(spec, 1.0) == pytest.approx(0.5 if schedule == "constant" else 0.0, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_edges_without_one(schedule: str) -> None:
    spec = settled(learning_rate=0.5, warmup=0.0, schedule=schedule)
    assert rate_at(spec, 0.0) == 0.5
    assert rate_at(spec, 1.0) == pytest.approx(0.5 if schedule == "constant" else 0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("cosine", (0.853553, 0.5, 0.146447)), ("linear", (0.75, 0.5, 0.25)), ("constant", (1, 1, 1))],
)
def test_values_in_between(schedule: str, values: tuple[float, ...]) -> None:
    spec = settled(learning_rate=1.0, warmup=0.2, schedule=schedule)
    assert [rate_at(spec, place) for place in (0.4, 0.6, 0.8)] == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.99])
def test_it_never_rises_after_the_warm_up_and_is_never_negative(schedule: str, warmup: float) -> None:
    spec = settled(learning_rate=1.0, warmup=warmup, schedule=schedule)
    rates = [rate_at(spec, step / 200) for step in range(201)]
    after = [rate for step, rate in enumerate(rates) if step / 200 >= warmup]
    assert after == sorted(after, reverse=True)
    before = [rate for step, rate in enumerate(rates) if step / 200 < warmup]
    assert before == sorted(before)
    assert min(rates) >= 0
    assert max(rates) <= 1.0


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_each_optimizer_takes_its_spec(name: str, kind: type[torch.optim.Optimizer]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    model[3].weight.requires_grad_(False)
    optimizer = make_optimizer(model, settled(optimizer=name, learning_rate=0.3, weight_decay=0.01, momentum=0.8))
    assert type(optimizer) is kind
    decayed, free = optimizer.param_groups
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight)]  # the frozen matrix is left out
    assert len(free["params"]) == 4
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    assert decayed["lr"] == 0.3
    if name == "sgd":
        assert (decayed["momentum"], decayed["nesterov"]) == (0.8, True)


def test_nesterov_needs_a_momentum() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), settled(optimizer="sgd", momentum=0.0))
    assert not optimizer.param_groups[0]["nesterov"]
