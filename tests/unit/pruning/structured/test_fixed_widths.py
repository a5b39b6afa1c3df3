"""Widths that are given are what comes out, step by step; what does not fit a model is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from edgecompress.errors import ModelError
from edgecompress.pruning.structured.fixed_widths import WidthPruner
from tests.unit.pruning.pruning_nets import NETS, example, make, params_of


def shapes(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def prune(model, steps=1, **more):
    pruner = WidthPruner(model, example(), **{"of": "macs", "ratio": 0.4, **more}, steps=steps)
    for step in range(1, steps + 1):
        pruner.prune_step(step)
    return pruner


@pytest.mark.parametrize("name", NETS)
def test_the_widths_of_one_pruning_repeated_give_the_same_model(name):
    first = make(name)
    second, third = copy.deepcopy(first), copy.deepcopy(first)
    found = prune(first, steps=3, round_to=4)
    # Another ratio and rounding: the widths decide.
    again = prune(second, steps=3, widths=found.step_widths, ratio=0.1, round_to=8)
    assert again.step_widths == found.step_widths
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    final = {name: widths[-1:] for name, widths in found.step_widths.items()}
    prune(third, steps=2, widths=final)
    assert shapes(third) == shapes(first)
    assert params_of(third) < params_of(make(name))


def test_widths_lead_to_the_last_ones_in_equal_steps_and_others_stay():
    model = make("plain")
    pruner = prune(model, steps=4, widths={"second.0": [40]})
    assert pruner.step_widths == {"second.0": [58, 52, 46, 40]}
    assert model.first[0].out_channels == 32
    assert model.head.in_features == 40


def test_the_least_important_channels_go():
    model = make("plain")
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer[0].weight.fill_(1.0)
        model.first[0].weight[5:25] = 1e-4
    kept = model.first[0].weight.detach()[torch.tensor([*range(5), *range(25, 32)])].clone()
    prune(model, widths={"first.0": [12]})
    assert torch.equal(model.first[0].weight, kept)


@pytest.mark.parametrize(
    ("net", "widths", "message"),
    [
        ("plain", {"third": [8]}, r"third is no layer of this model .* Those are first\.0, second\.0\."),
        ("plain", {"head": [8]}, "head is no layer of this model whose channels can be pruned"),
        ("plain", {"first.0": [48]}, r"first\.0 has 32 channels; expected one width .* or 2 that do not grow"),
        ("plain", {"first.0": [16, 24]}, "that do not grow"),
        ("plain", {"first.0": [16, 16, 8]}, "or 2 that do not grow"),
        ("plain", {"first.0": [0]}, "expected one width"),
        ("grouped", {"grouped": [30]}, "grouped needs multiples of"),
    ],
)
def test_widths_that_do_not_fit_are_refused_before_anything_is_cut(net, widths, message):
    model = make(net)
    before = shapes(model)
    with pytest.raises(ModelError, match=message):
        WidthPruner(model, example(), of="macs", ratio=0.4, steps=2, widths=widths)
    assert shapes(model) == before
