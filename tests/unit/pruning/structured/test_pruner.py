"""Structured pruning reaches the asked share, keeps the coupling, and refuses what it cannot do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.attention import open_attention
from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.coupling.probe import _silence
from edgecompress.pruning.structured.pruner import StructuredPruner
from tests.unit.pruning.pruning_nets import NETS, Plain, Shuffle, conv, example, macs_of, make, params_of


def prune(model: nn.Module, of: str = "macs", ratio: float = 0.5, steps: int = 1, **more: object) -> StructuredPruner:
    pruner = StructuredPruner(model, example(), of=of, ratio=ratio, steps=steps, **more)
    for step in range(1, steps + 1):
        pruner.prune_step(step)
    return pruner


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("of", "counted"), [("macs", macs_of), ("params", params_of)])
def test_the_asked_share_is_gone_and_the_model_still_learns(name, of, counted):
    model = make(name)
    open_attention(model)  # so that the hand count sees its projections as layers before and after
    before = counted(model)
    report = prune(model, of=of, ratio=0.4, steps=2, round_to=4).report()
    removed = 1 - counted(model) / before
    if of == "params" or name != "attention":  # the hand count leaves attention's own products out
        assert removed == pytest.approx(report.removed_macs if of == "macs" else report.removed_params, abs=1e-9)
    assert removed == pytest.approx(0.4, abs=0.06 if name in {"grouped", "attention"} else 0.03)
    model.train()
    loss = model(example()).square().mean()
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
    assert sum(parameter.grad is not None for parameter in model.parameters()) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "concat", "shared"])
def test_cut_channels_are_those_that_would_be_zero(name):
    """Cutting must equal setting the same channels' weights to zero (in nets whose norms do not mix channels)."""
    model, silent = make(name), make(name)
    graph = ChannelGraph(model, example())
    removals = {root.name: list(range(1, root.width, 3)) for root in graph.roots}
    graph.remove(removals)
    _silence(ChannelGraph(silent, example()).roots, removals)
    with torch.no_grad():
        expected, actual = silent.eval()(example()), model.eval()(example())
    assert params_of(model) < params_of(silent)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_grouped_conv_loses_the_same_places_in_each_group():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.grouped, self.end = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 1, groups=4), nn.Conv2d(24, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.end(self.grouped(self.stem(x))).mean((2, 3))

    torch.manual_seed(0)
    model = Net()
    dense = copy.deepcopy(model)
    with torch.no_grad():  # place 1 of each group of 4 inputs is the weakest by far
        for net in (model, dense):
            net.stem.weight[1::4] *= 1e-4
            net.stem.bias[1::4] *= 1e-4
    StructuredPruner(
        model, example(), of="params", ratio=0.15, steps=1, round_to=4, protected=[model.grouped]
    ).prune_step(1)
    assert (model.stem.out_channels, model.grouped.in_channels, model.grouped.groups) == (12, 12, 4)
    torch.testing.assert_close(model(example()), dense(example()), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise"])
def test_widths_are_multiples_of_round_to(name):
    report = prune(make(name), ratio=0.5, steps=3).report()
    cut = {layer: now for layer, (before, now) in report.widths.items() if now != before}
    assert cut
    assert all(now % 8 == 0 and now >= 8 for now in cut.values())


def test_layers_that_are_added_keep_one_width():
    model = make("residual")
    prune(model, ratio=0.5)
    assert (
        model.a2[0].out_channels == model.short.out_channels == model.b2[0].out_channels == model.head.in_features < 32
    )


def test_both_branches_of_a_concatenation_are_rounded():
    model = make("concat")
    prune(model, of="params", ratio=0.5)
    assert model.short.out_channels == model.left[0].out_channels + model.right[0].out_channels
    assert model.left[0].out_channels % 8 == model.right[0].out_channels % 8 == 0
    assert model.head.in_features == 16 * model.last[0].out_channels


def test_output_and_input_keep_their_widths():
    model = make("plain")
    pruner = prune(model, ratio=0.7)
    assert model.head.out_features == 10
    assert model.first[0].in_channels == 3
    assert pruner.report().whole["head"] == "it makes the model's output"


def test_a_conv_that_makes_the_output_is_kept():
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 32), nn.Conv2d(32, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    prune(model, ratio=0.4)
    assert model[1].out_channels == 16
    assert model[0][0].out_channels < 32


def test_no_layer_falls_below_its_floor():
    torch.manual_seed(0)
    model = nn.Sequential(conv(3, 160), conv(160, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    with torch.no_grad():
        model[0][0].weight[4:] *= 1e-3  # nearly all of the first layer is worthless
        model[1][0].weight[:, 4:] *= 1e-3
    prune(model, ratio=0.85)
    assert model[0][0].out_channels >= 16
    assert model[1][0].out_channels >= 8


def test_the_weakest_channels_go():
    model = make("plain")
    with torch.no_grad():
        strong = list(range(0, 32, 2))
        for weak in range(1, 32, 2):
            model.first[0].weight[weak] *= 0.01
            model.first[1].weight[weak] *= 0.01
            model.second[0].weight[:, weak] *= 0.01
    expected = model.first[0].weight[strong].detach().clone()
    StructuredPruner(model, example(), of="params", ratio=0.45, steps=1, protected=[model.second]).prune_step(1)
    torch.testing.assert_close(model.first[0].weight.detach(), expected)


def test_shares_rise_step_by_step_to_the_ratio():
    pruner = prune(Plain(64), of="params", ratio=0.6, steps=3, round_to=1)
    shares = [step.removed_params for step in pruner.report().steps]
    assert shares == pytest.approx([0.2, 0.4, 0.6], abs=0.01)
    assert pruner.report().removed_params == shares[-1]


def test_the_report_names_widths_before_and_after_and_the_cost_of_rounding():
    model = make("residual")
    before = params_of(model), macs_of(model)
    report = prune(model, ratio=0.5).report()
    assert (report.params, report.macs) == ((before[0], params_of(model)), (before[1], macs_of(model)))
    assert report.widths["a1.0"] == (32, model.a1[0].out_channels)
    assert report.largest_share > 0.5
    assert abs(report.rounding_points) < 100 * 0.05
    exact = prune(make("residual"), ratio=0.5, round_to=1).report()
    assert exact.rounding_points == 0
    assert abs(exact.removed_macs - 0.5) < 0.01


def test_the_same_model_is_pruned_the_same_way_twice():
    first, second = make("concat"), make("concat")
    for model in (first, second):
        prune(model, ratio=0.5, steps=2)
    states = first.state_dict(), second.state_dict()
    assert {name: tensor.shape for name, tensor in states[0].items()} == {
        name: tensor.shape for name, tensor in states[1].items()
    }
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_mode_frozen_parameters_and_hooks_are_left_alone():
    model = make("plain")
    model.train()
    model.second.eval()
    model.first[0].weight.requires_grad_(False)
    prune(model)
    assert model.training
    assert not model.second.training
    assert not model.first[0].weight.requires_grad
    assert model.second[0].weight.requires_grad
    assert not any(module._forward_hooks for module in model.modules())


def test_the_model_is_untouched_until_the_first_step():
    model = make("residual")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    StructuredPruner(model, example(), of="macs", ratio=0.5, steps=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_protected_modules_keep_their_widths():
    model = make("plain")
    report = prune(model, ratio=0.4, protected=[model.second]).report()
    assert report.widths["second.0"] == (64, 64)
    assert report.widths["first.0"][1] < 32
    assert report.whole["second.0"] == "second.0 is protected"


def test_layers_that_share_weights_are_kept_whole():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.one, self.two = conv(3, 32), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 32, 3)
            self.two.weight = self.one.weight
            self.free, self.head = nn.Conv2d(32, 64, 1), nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.free(self.two(self.one(self.stem(x)))).mean((2, 3)))

    torch.manual_seed(0)
    model = Tied()
    report = prune(model, of="params", ratio=0.1).report()
    assert report.whole["one"] == "one shares its weights with two"
    assert report.whole["stem.0"] == "one shares its weights with two"  # it would cut the inputs of `one`
    assert model.two.weight is model.one.weight
    assert model.free.out_channels < 64


def test_channels_that_change_places_are_kept_and_the_others_pruned():
    torch.manual_seed(0)
    model = Shuffle()
    report = prune(model, of="params", ratio=0.3).report()
    assert report.widths["stem.0"] == (32, 32)
    assert "change places" in report.whole["stem.0"]
    assert report.widths["after.0"][1] < 32


def test_a_width_written_into_the_code_is_kept():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = conv(3, 32), conv(32, 32), nn.Linear(32, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.b(self.a(x))
            return self.head(x.reshape(x.shape[0], 32, -1).mean(2))

    torch.manual_seed(0)
    report = prune(Fixed(), of="params", ratio=0.3).report()
    assert "does not run without" in report.whole["b.0"]
    assert report.widths["a.0"][1] < 32


def test_a_share_out_of_reach_is_refused_with_the_largest_one():
    with pytest.raises(ModelError, match=r"cannot remove 99\.0% of the parameters.*at most \d+\.\d% can go"):
        StructuredPruner(make("plain"), example(), of="params", ratio=0.99, steps=1)


def test_nothing_to_prune_is_refused_with_the_reasons():
    tiny = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    with pytest.raises(ModelError, match=r"no channels that can be pruned \(.*8 channels allow no smaller multiple"):
        StructuredPruner(tiny, example(), of="macs", ratio=0.5, steps=1)
    with pytest.raises(ModelError, match="it has no conv or linear layer"):
        StructuredPruner(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()), example(), of="params", ratio=0.5, steps=1)


def test_an_untraceable_model_is_a_clear_error():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3, 16), nn.Linear(16, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.tensor(self.a(x).detach().numpy()).mean((2, 3)))

    report = ChannelGraph(Odd(), example())
    assert not report.roots
    assert "not used" in report.whole["a.0"]
    with pytest.raises(ModelError, match=r"Odd cannot be run on an input of shape \(1, 4, 8, 8\)"):
        StructuredPruner(Odd(), torch.zeros(1, 4, 8, 8), of="macs", ratio=0.5, steps=1)


def test_shufflenet_is_pruned_where_its_channels_are_not_shuffled():
    from edgecompress.sources.torchvision_import import import_torchvision

    torchvision = import_torchvision()

    torch.manual_seed(0)
    model = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=10)
    pruner = StructuredPruner(model, torch.zeros(1, 3, 32, 32), of="macs", ratio=0.5, steps=1)
    report = pruner.prune_step(1)
    assert report.removed_macs == pytest.approx(0.5, abs=0.03)
    assert model.stage2[1].branch2[0].out_channels < 24
    assert model.stage2[1].branch2[5].out_channels == 24
    assert "change places" in pruner.report().whole["stage2.0.branch1.2"]
    assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_weights_that_are_not_finite_are_refused():
    model = make("plain")
    with torch.no_grad():
        model.second[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"first\.0|second\.0.*not finite.*diverged"):
        StructuredPruner(model, example(), of="macs", ratio=0.5, steps=1)


def test_a_model_that_cannot_be_copied_is_refused():
    model = make("plain")
    model.kept = model(example())  # a tensor with a history
    with pytest.raises(ModelError, match="cannot be copied"):
        StructuredPruner(model, example(), of="macs", ratio=0.5, steps=1)


def test_arguments_out_of_range_and_steps_out_of_turn():
    for wrong in ({"ratio": 1.0}, {"ratio": 0.0}, {"steps": 0}, {"round_to": 0}):
        with pytest.raises(ValueError, match="expected 0 < ratio < 1"):
            StructuredPruner(make("plain"), example(), **{"of": "macs", "ratio": 0.5, "steps": 1, **wrong})
    pruner = StructuredPruner(make("plain"), example(), of="macs", ratio=0.5, steps=1)
    with pytest.raises(ValueError, match="out of turn"):
        pruner.prune_step(2)
    pruner.prune_step(1)
    with pytest.raises(ValueError, match="out of turn"):
        pruner.prune_step(1)
    with pytest.raises(ModelError, match="protected Linear is not part"):
        StructuredPruner(make("plain"), example(), of="macs", ratio=0.5, steps=1, protected=[nn.Linear(1, 1)])


def test_another_importance_decides():
    model = make("plain")
    keep = model.first[0].weight[16:].detach().clone()

    def by_place(root):
        return torch.arange(root.width, dtype=torch.float64) / root.width

    StructuredPruner(
        model, example(), of="params", ratio=0.45, steps=1, protected=[model.second], importance=by_place
    ).prune_step(1)
    torch.testing.assert_close(model.first[0].weight.detach(), keep)


def test_torchvision_models_reach_half_the_macs():
    from edgecompress.sources.torchvision_import import import_torchvision

    torchvision = import_torchvision()

    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(weights=None, num_classes=10)
    pruner = StructuredPruner(model, torch.zeros(1, 3, 32, 32), of="macs", ratio=0.5, steps=2)
    pruner.prune_step(1)
    report = pruner.prune_step(2)
    assert report.removed_macs == pytest.approx(0.5, abs=0.03)
    assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)
