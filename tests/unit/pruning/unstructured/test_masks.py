"""Masks have the asked number of zeros, never give a weight back, and hold through training."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.unstructured.masks import MagnitudeMasks, cubic_share, lamp_scores, prunable_weights
from tests.unit.pruning.pruning_nets import example, make


def zeros_in(model: nn.Module) -> int:
    return sum(int((weight == 0).sum()) for weight in prunable_weights(model).values())


def test_prunable_weights_are_those_of_conv_and_linear_layers_once():
    model = make("residual")
    names = prunable_weights(model).keys()
    assert {"stem.0.weight", "short.weight", "head.weight"} <= names
    assert not any("bias" in name or name == "stem.1.weight" for name in names)
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    assert list(prunable_weights(tied)) == ["0.weight"]
    assert list(prunable_weights(nn.Linear(2, 2))) == ["weight"]


def test_the_cubic_schedule_is_the_published_one():
    assert [cubic_share(step, 4, 0.9) for step in range(5)] == pytest.approx(
        [0.0, 0.9 - 0.9 * 0.75**3, 0.9 - 0.9 * 0.125, 0.9 - 0.9 * 0.25**3, 0.9]
    )
    assert cubic_share(0, 10, 0.9, initial=0.5) == 0.5
    assert cubic_share(10, 10, 0.9, initial=0.5) == cubic_share(11, 10, 0.9) == 0.9
    with pytest.raises(ValueError, match="steps >= 1"):
        cubic_share(0, 0, 0.5)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0, 0.98), score=st.sampled_from(["magnitude", "lamp"]), seed=st.integers(0, 1000))
def test_the_count_of_zeros_is_the_least_that_reaches_the_share(share, score, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(7, 11), nn.Linear(11, 13), nn.Conv2d(1, 3, 3))
    masks = MagnitudeMasks(model, score=score)
    masks.update(share)
    total = 7 * 11 + 11 * 13 + 27
    assert masks.total == total
    assert masks.zeros() == zeros_in(model) == next(count for count in range(total + 1) if count / total >= share)
    assert masks.share >= share
    assert all((weight != 0).any() for weight in prunable_weights(model).values())


def test_the_smallest_weights_of_the_whole_model_go():
    model = make("plain")
    before = torch.cat([weight.detach().abs().flatten() for weight in prunable_weights(model).values()])
    masks = MagnitudeMasks(model, layer_floor=0.0)
    masks.update(0.5)
    keep = torch.cat([mask.flatten() for mask in masks.state_dict().values()])
    assert before[~keep].max() <= before[keep].min()


def test_equal_weights_go_in_a_fixed_order():
    model = nn.Linear(8, 2, bias=False)
    nn.init.ones_(model.weight)
    MagnitudeMasks(model).update(0.5)
    assert model.weight.flatten().tolist() == [0.0] * 8 + [1.0] * 8


def test_lamp_scores_are_the_published_ones():
    weight = torch.tensor([3.0, -1.0, 2.0, 0.0])
    assert lamp_scores(weight).tolist() == pytest.approx([9 / 9, 1 / 14, 4 / 13, 0.0])
    assert lamp_scores(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def test_lamp_does_not_empty_a_layer_of_small_weights():
    """Scaling a layer changes nothing for LAMP; by plain magnitude that layer would lose nearly everything."""
    shares = {}
    for score in ("magnitude", "lamp"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
        with torch.no_grad():
            model[1].weight *= 0.001
        masks = MagnitudeMasks(model, score=score)
        masks.update(0.5)
        shares[score] = masks.layer_shares()["1.weight"]
    assert shares["magnitude"] > 0.98
    assert shares["lamp"] == pytest.approx(0.5, abs=0.1)


def test_every_layer_keeps_its_floor_and_the_total_still_holds():
    model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 10), nn.Linear(10, 2))
    with torch.no_grad():
        model[1].weight *= 1e-6
        model[2].weight *= 1e-6
    masks = MagnitudeMasks(model, layer_floor=0.02)
    masks.update(0.9)
    kept = {name: int(mask.sum()) for name, mask in masks.state_dict().items()}
    assert kept["1.weight"] == 20
    assert kept["2.weight"] == 1
    assert sum(kept.values()) == masks.total - math.ceil(0.9 * masks.total)


def test_a_share_that_would_break_the_floors_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    masks = MagnitudeMasks(model)
    with pytest.raises(ModelError, match=r"cannot prune 90\.00% .* at most 75\.00% can go"):
        masks.update(0.9)
    assert masks.zeros() == 0
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="below 1"):
            masks.update(wrong)


def test_a_pruned_weight_stays_pruned():
    model = make("residual")
    masks = MagnitudeMasks(model, score="lamp")
    gone = {name: torch.zeros_like(mask) for name, mask in masks.state_dict().items()}
    for step in range(1, 6):
        masks.update(cubic_share(step, 5, 0.9))
        with torch.no_grad():  # what was small before may be large now
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        masks.apply()
        for name, mask in masks.state_dict().items():
            assert not (mask & gone[name]).any()
            gone[name] = ~mask
    before = masks.zeros()
    masks.update(0.2)
    assert masks.zeros() == before == zeros_in(model)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masks_hold_through_training(optimizer):
    model = make("residual")
    steps = OPTIMIZERS[optimizer](model.parameters())
    masks = MagnitudeMasks(model)

    def train(*, held: bool) -> None:
        steps.zero_grad()
        model(example()).square().mean().backward()
        if held:
            masks.mask_gradients()
        steps.step()
        if held:
            masks.apply()

    for _ in range(3):
        train(held=False)  # fills the momentum of weights that will go
    masks.update(0.8)
    masks.mask_optimizer(steps)
    state = masks.state_dict()
    kept_before = {name: weight.detach().clone() for name, weight in prunable_weights(model).items()}
    for _ in range(4):
        train(held=True)
        for name, weight in prunable_weights(model).items():
            assert (weight[~state[name]] == 0).all()
            assert (weight.grad[~state[name]] == 0).all()
            moments = [
                v for v in steps.state[weight].values() if isinstance(v, torch.Tensor) and v.shape == weight.shape
            ]
            assert moments
            assert all((moment[~state[name]] == 0).all() for moment in moments)
    assert any(not torch.equal(weight, kept_before[name]) for name, weight in prunable_weights(model).items())
    assert zeros_in(model) >= math.ceil(0.8 * masks.total)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_held_gradients_leave_an_optimizer_nothing_to_remember(optimizer):
    model = make("residual")
    masks = MagnitudeMasks(model)
    masks.hold_gradients()
    masks.update(0.8)
    steps = OPTIMIZERS[optimizer](model.parameters())
    state = masks.state_dict()
    for _ in range(3):
        steps.zero_grad()
        model(example()).square().mean().backward()
        steps.step()
        for name, weight in prunable_weights(model).items():
            assert (weight.grad[~state[name]] == 0).all()
            assert weight.grad[state[name]].any()
            assert (weight[~state[name]] == 0).all()


def test_without_masked_momentum_the_optimizer_alone_would_move_pruned_weights():
    """Shows that the test above can fail: the state of a pruned weight is not zero of itself."""
    model = make("plain")
    steps = OPTIMIZERS["sgd"](model.parameters())
    model(example()).square().mean().backward()
    steps.step()
    masks = MagnitudeMasks(model)
    masks.update(0.5)
    masks.mask_gradients()
    steps.step()
    assert zeros_in(model) < math.ceil(0.5 * masks.total)


def test_masks_are_taken_over_by_name():
    first, second = make("depthwise"), make("depthwise", seed=3)
    masks, others = MagnitudeMasks(first), MagnitudeMasks(second)
    masks.update(0.7)
    others.load_state_dict(masks.state_dict())
    assert others.zeros() == masks.zeros() == zeros_in(second)
    for name, weight in prunable_weights(second).items():
        assert torch.equal(weight == 0, prunable_weights(first)[name] == 0)
    masks.state_dict()["stem.0.weight"].fill_(0)  # a copy: the masks themselves are not changed
    assert masks.zeros() == others.zeros()


def test_masks_that_do_not_fit_are_refused():
    masks = MagnitudeMasks(nn.Sequential(nn.Linear(4, 4)))
    for state, message in (
        ({}, "0.weight is not in the masks"),
        ({**masks.state_dict(), "1.weight": torch.ones(1)}, "1.weight is not in the model"),
        ({"0.weight": torch.ones(4, 3, dtype=torch.bool)}, r"is \(4, 3\) torch.bool, expected \(4, 4\)"),
        ({"0.weight": torch.ones(4, 4)}, r"torch.float32, expected \(4, 4\) torch.bool"),
    ):
        with pytest.raises(ModelError, match=message):
            masks.load_state_dict(state)
    assert masks.zeros() == 0


def test_masks_follow_a_weight_that_was_replaced_and_folding_keeps_the_zeros():
    model = make("plain").eval()
    masks = MagnitudeMasks(model)
    masks.update(0.6)
    folded = torch.nn.utils.fuse_conv_bn_eval(model.first[0], model.first[1])
    assert torch.equal(folded.weight == 0, model.first[0].weight == 0)
    model.first[0] = nn.Conv2d(3, 32, 3, padding=1)
    masks.apply()
    assert int((model.first[0].weight == 0).sum()) == int((~masks.state_dict()["first.0.weight"]).sum())


def test_loaded_masks_below_the_floor_stay_as_they_are():
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    masks = MagnitudeMasks(model)
    masks.load_state_dict(
        {"0.weight": torch.zeros(10, 10, dtype=torch.bool), "1.weight": torch.ones(10, 10, dtype=torch.bool)}
    )
    masks.update(0.6)
    assert masks.layer_shares() == pytest.approx({"0.weight": 1.0, "1.weight": 0.2})


def test_layer_shares_add_up_to_the_share():
    model = make("plain")
    masks = MagnitudeMasks(model)
    masks.update(0.75)
    sizes = {name: weight.numel() for name, weight in prunable_weights(model).items()}
    assert sum(share * sizes[name] for name, share in masks.layer_shares().items()) == pytest.approx(masks.zeros())
    assert masks.share == masks.zeros() / masks.total


def test_nothing_to_mask_and_broken_weights_are_refused():
    with pytest.raises(ModelError, match="no conv or linear layer"):
        MagnitudeMasks(nn.ReLU())
    model = nn.Linear(4, 4)
    nn.init.constant_(model.weight, float("inf"))
    with pytest.raises(ModelError, match="weight holds values that are not finite"):
        MagnitudeMasks(model).update(0.5)


def test_the_same_weights_are_masked_twice_over():
    states = []
    for _ in range(2):
        masks = MagnitudeMasks(make("concat"), score="lamp")
        for share in (0.3, 0.6):
            masks.update(share)
        states.append(masks.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(*(state.values() for state in states), strict=True))
    assert list(itertools.chain(*states)) == [*states[0], *states[1]]
