"""Each criterion finds the channels that are worthless by its own measure, and no other's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channel_graph import ChannelGraph, undisturbed
from edgecompress.pruning.coupling.channels import Root, is_depthwise
from edgecompress.pruning.structured.importance import IMPORTANCES, BatchNormScale, GroupMagnitude, Importance, Taylor
from edgecompress.pruning.structured.pruner import StructuredPruner
from tests.unit.pruning.pruning_nets import Plain, conv, example, make, params_of

PLANTED = [3, 8, 17, 30]
LABELS = torch.tensor([1, 7])


def loss_of(outputs: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, LABELS)


def observe(taylor: Taylor, model: nn.Module, *batches: torch.Tensor) -> Taylor:
    parameters = dict(model.named_parameters())
    with undisturbed(model):
        for x in batches:
            found = torch.autograd.grad(loss_of(model(x)), list(parameters.values()), allow_unused=True)
            taylor.observe(model, {n: g for n, g in zip(parameters, found, strict=True) if g is not None})
    return taylor


def batches() -> list[torch.Tensor]:
    return [torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def root_of(model: nn.Module, name: str) -> Root:
    return next(root for root in ChannelGraph(model, example()).roots if root.name == name)


def lowest(importance: Importance, root: Root, count: int = len(PLANTED)) -> list[int]:
    return sorted(torch.sort(importance(root), stable=True).indices[:count].tolist())


def rated(name: str, model: nn.Module) -> Importance:
    importance = IMPORTANCES[name]()
    return observe(importance, model, *batches()) if isinstance(importance, Taylor) else importance


def with_small_weights() -> nn.Module:
    """Channels whose few weights are middling, beside others with one large weight and nothing else."""
    model = Plain()
    with torch.no_grad():
        for weight in (model.first[0].weight, model.second[0].weight.transpose(0, 1)):
            flat = torch.zeros(weight.shape)
            flat.flatten(1)[:, 0] = 1.0  # L1 norm 1, squared L2 norm 1
            spread = 1.2 / weight[0].numel()
            flat[PLANTED] = spread  # L1 norm 1.2, squared L2 norm far below 1
            weight.copy_(flat)
    return model


def with_few_weights() -> nn.Module:
    """The other way round: channels with one weight, beside others with many that are small."""
    model = with_small_weights()
    with torch.no_grad():
        for weight in (model.first[0].weight, model.second[0].weight.transpose(0, 1)):
            flat = torch.full(weight.shape, 1.2 / weight[0].numel())
            flat[PLANTED] = 0.0
            flat[PLANTED, 0, 0, 0] = 1.0
            weight.copy_(flat)
    return model


def with_small_scales() -> nn.Module:
    """Channels with small batch-norm scales and all the larger weights."""
    torch.manual_seed(0)
    model = Plain()
    with torch.no_grad():
        model.first[1].weight[PLANTED] = 0.01
        model.first[1].bias[PLANTED] = 1.0
        model.first[0].weight[PLANTED] *= 9.0
        model.second[0].weight[:, PLANTED] *= 9.0
    return model


def with_dead_channels() -> nn.Module:
    """Channels that never pass their ReLU, with larger weights and scales than the others."""
    torch.manual_seed(0)
    model = Plain()
    with torch.no_grad():
        model.first[1].weight[PLANTED] = 2.0
        model.first[1].bias[PLANTED] = -1000.0
        model.first[0].weight[PLANTED] *= 3.0
        model.second[0].weight[:, PLANTED] *= 3.0
    return model


@pytest.mark.parametrize(
    ("build", "finds", "others"),
    [
        (with_small_weights, "l2", ("l1",)),
        (with_few_weights, "l1", ("l2",)),
        (with_small_scales, "bn", ("l1", "l2", "taylor")),
        (with_dead_channels, "taylor", ("l1", "l2", "bn")),
    ],
)
def test_planted_channels_are_found_by_their_criterion_and_no_other(build, finds, others) -> None:
    model = build().eval()
    root = root_of(model, "first.0")
    assert lowest(rated(finds, model), root) == PLANTED
    for other in others:
        assert not set(PLANTED) & set(lowest(rated(other, model), root))


@pytest.mark.parametrize(
    ("build", "name"),
    [(with_small_weights, "l2"), (with_few_weights, "l1"), (with_small_scales, "bn"), (with_dead_channels, "taylor")],
)
def test_planted_channels_go_in_one_step(build, name) -> None:
    model = build().eval()
    kept = [channel for channel in range(32) if channel not in PLANTED]
    expected = model.first[0].weight[kept].detach().clone()
    share = 4 * (3 * 9 + 2 + 64 * 9) / params_of(model)
    pruner = StructuredPruner(
        model, example(), of="params", ratio=share, steps=1, round_to=4, protected=[model.second],
        importance=rated(name, model),
    )  # fmt: skip
    pruner.prune_step(1)
    torch.testing.assert_close(model.first[0].weight.detach(), expected)


@pytest.mark.parametrize("name", sorted(IMPORTANCES))
def test_ratings_have_mean_one_and_are_the_same_twice(name) -> None:
    model = make("residual").eval()
    for root in ChannelGraph(model, example()).roots:
        first, second = rated(name, model)(root), rated(name, model)(root)
        assert first.shape == (root.width,)
        assert first.dtype == torch.float64
        assert float(first.mean()) == pytest.approx(1.0)
        assert torch.equal(first, second)


def gated(root: Root, gate: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns the parameters of a root with all that belongs to channel c multiplied by gate[c]."""
    changed: dict[str, torch.Tensor] = {}
    for item in root.coupled:
        module, name = item.target, item.name
        if not hasattr(module, "weight") or isinstance(module, nn.PReLU | nn.GroupNorm):
            continue
        weight = changed.get(f"{name}.weight", module.weight)
        transposed = isinstance(module, nn.ConvTranspose2d)
        if item.axis == "out" or is_depthwise(module):
            width = weight.shape[1 if transposed else 0]
            factor = torch.ones(width, dtype=gate.dtype).index_put(
                (torch.tensor(item.channels),), gate[list(item.roots)]
            )
            shape = (1, -1, 1, 1) if transposed else (-1, *[1] * (weight.dim() - 1))
            changed[f"{name}.weight"] = weight * factor.reshape(shape)
            if module.bias is not None:
                changed[f"{name}.bias"] = module.bias * factor
            continue
        width = module.in_features if isinstance(module, nn.Linear) else module.in_channels
        factor = torch.ones(width, dtype=gate.dtype).index_put((torch.tensor(item.channels),), gate[list(item.roots)])
        groups = getattr(module, "groups", 1)
        if transposed:
            changed[f"{name}.weight"] = weight * factor.reshape(-1, 1, 1, 1)
        else:  # a row of group g sees the inputs of group g alone
            rows = factor.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, 0)
            changed[f"{name}.weight"] = weight * rows.reshape(*rows.shape, *[1] * (weight.dim() - 2))
    return changed


@pytest.mark.parametrize("net", ["plain", "residual", "depthwise", "concat", "grouped", "shared"])
def test_taylor_is_the_derivative_by_a_common_gate(net) -> None:
    """Computed independently: autograd on one gate per channel that scales whatever goes with the channel."""
    model = make(net).eval()
    taylor = observe(Taylor(), model, *batches())
    roots = ChannelGraph(model, example()).roots
    assert roots
    for root in roots:
        squares = []
        for x in batches():
            gate = torch.ones(root.width, requires_grad=True)
            (slope,) = torch.autograd.grad(loss_of(functional_call(model, gated(root, gate), (x,))), gate)
            squares.append(slope.double().square())
        expected = torch.stack(squares).mean(0)
        torch.testing.assert_close(taylor(root), expected / expected.mean(), rtol=2e-3, atol=1e-5)


def test_taylor_predicts_what_removing_a_little_of_a_channel_costs() -> None:
    """The estimate is of first order, so it must match the loss itself for a small part of each channel."""
    model = make("residual").eval()
    root = root_of(model, "b1.0")
    model.double()
    x = batches()[0].double()
    taylor = observe(Taylor(), model, x)
    with torch.no_grad():
        before = loss_of(model(x))
        costs = []
        for channel in range(root.width):
            gate = torch.ones(root.width, dtype=torch.float64)
            gate[channel] = 1 - 1e-6
            costs.append((loss_of(functional_call(model, gated(root, gate), (x,))) - before) / 1e-6)
    squares = torch.stack(costs).square()
    torch.testing.assert_close(taylor(root), squares / squares.mean(), rtol=1e-2, atol=1e-4)


def test_taylor_takes_its_gradients_anew_between_steps() -> None:
    model = make("residual").eval()
    taylor = observe(Taylor(), model, *batches())
    pruner = StructuredPruner(model, example(), of="macs", ratio=0.4, steps=2, round_to=4, importance=taylor)
    pruner.prune_step(1)
    with pytest.raises(ValueError, match="gradients are of another width; clear them"):
        pruner.prune_step(2)
    taylor.clear()
    with pytest.raises(ValueError, match="no gradients were observed"):
        pruner.prune_step(2)
    observe(taylor, model, *batches())
    assert pruner.prune_step(2).removed_macs == pytest.approx(0.4, abs=0.03)


def test_layers_the_loss_does_not_reach_are_worth_nothing() -> None:
    model = make("plain").eval()
    taylor = Taylor()
    taylor.observe(model, {"head.weight": torch.ones_like(model.head.weight)})
    assert not taylor(root_of(model, "first.0")).any()
    assert taylor(root_of(model, "second.0")).all()


@pytest.mark.parametrize("name", sorted(IMPORTANCES))
@pytest.mark.parametrize("steps", [1, 3])
def test_every_criterion_prunes_in_one_step_and_in_several(name, steps) -> None:
    model = make("residual").eval()
    importance = rated(name, model)
    pruner = StructuredPruner(model, example(), of="macs", ratio=0.5, steps=steps, round_to=4, importance=importance)
    for step in range(1, steps + 1):
        if isinstance(importance, Taylor) and step > 1:
            importance.clear()
            observe(importance, model, *batches())
        pruner.prune_step(step)
    assert pruner.report().removed_macs == pytest.approx(0.5, abs=0.03)
    assert model(example()).shape == (2, 10)


@pytest.mark.parametrize("name", sorted(IMPORTANCES))
def test_what_is_not_finite_cannot_be_ranked(name) -> None:
    model = make("plain").eval()
    importance = rated(name, model)
    bad = copy.deepcopy(model)
    with torch.no_grad():
        bad.first[0].weight[0] = float("nan")
        bad.first[1].weight[0] = float("inf")
    if isinstance(importance, Taylor):
        importance.clear()
        importance.observe(model, {"first.0.weight": bad.first[0].weight})
    with pytest.raises(ModelError, match=r"first\.[01] has weights or gradients that are not finite"):
        importance(root_of(bad, "first.0"))


def test_without_a_batch_norm_there_is_no_scale_and_the_width_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        conv(3, 32), nn.Conv2d(32, 32, 3), nn.ReLU(), conv(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip
    pruner = StructuredPruner(model, example(), of="macs", ratio=0.5, steps=1, importance=BatchNormScale())
    pruner.prune_step(1)
    report = pruner.report()
    assert report.widths["1"] == (32, 32)
    assert report.whole["1"] == "its channels have no batch norm, whose scales the importance `bn` goes by"
    assert report.widths["0.0"][1] < 32
    with pytest.raises(ModelError, match=r"at most .* smaller ratio or `round_to`, or another `importance`\."):
        StructuredPruner(model, example(), of="macs", ratio=0.95, steps=1, importance=BatchNormScale())
    StructuredPruner(copy.deepcopy(model), example(), of="macs", ratio=0.84, steps=1, importance=GroupMagnitude())


def test_channels_of_which_only_some_have_a_batch_norm_stay() -> None:
    model = make("concat")
    model.left[1] = nn.Identity()
    pruner = StructuredPruner(model, example(), of="macs", ratio=0.2, steps=1, importance=BatchNormScale())
    whole = pruner.report().whole
    assert whole["short"].startswith("only some of its channels have a batch norm")


def test_a_model_without_batch_norms_cannot_be_ranked_by_their_scales() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32, affine=False))
    with pytest.raises(ModelError, match=r"0: its channels have no batch norm.*or another `importance`, or leave out"):
        StructuredPruner(model, example(), of="macs", ratio=0.2, steps=1, importance=BatchNormScale())
