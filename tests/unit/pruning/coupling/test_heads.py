"""Whole heads go: what is left computes what it would with these heads at zero, and costs what was predicted."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.models.attention import open_attention
from edgecompress.models.count import count
from edgecompress.pruning.architecture import apply_architecture, architecture_of
from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.coupling.heads import heads_of
from edgecompress.pruning.structured.importance import Taylor
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.pruning.structured.widths import CostModel, Segment, allowed_atoms, item_macs, segments_of
from edgecompress.sources.torchvision_import import import_torchvision
from tests.unit.pruning.attention_nets import CASES, HEADS, SIZE, WHOLE, WIDTH, Net, example, make
from tests.unit.pruning.pruning_nets import params_of


def opened(case: str) -> Net:
    model = make(CASES[case].build)
    open_attention(model)
    return model


def silenced(model: nn.Module, out: str, heads: list[int], size: int = SIZE) -> nn.Module:
    """A copy in which nothing of some heads reaches the layer out of the attention."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for head in heads:
            copied.get_submodule(out).weight[:, head * size : (head + 1) * size] = 0.0
    return copied


@pytest.mark.parametrize("heads", [[0], [1, 3], [0, 1, 2]])
@pytest.mark.parametrize("case", CASES)
def test_the_model_without_heads_gives_what_it_gives_with_them_at_zero(case, heads):
    model = opened(case)
    _, name, out = CASES[case]
    expected = silenced(model, out, heads)(example())
    graph = ChannelGraph(model, example())
    root = next(root for root in graph.roots if root.name == name)
    assert (root.kind, root.width) == ("heads", HEADS)
    before = params_of(model)
    graph.remove({name: heads})
    assert heads_of(model.get_submodule(name)) == HEADS - len(heads)
    assert model.get_submodule(out).in_features == (HEADS - len(heads)) * SIZE
    assert params_of(model) <= before - len(heads) * SIZE * 4 * WIDTH
    torch.testing.assert_close(model(example()), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, silenced(model, out, [0])(example()), atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_costs_are_predicted_exactly(case):
    model = opened(case)
    graph = ChannelGraph(model, example())
    now = count(model, (7, 6))
    costs = CostModel(graph.roots, item_macs(now, graph.roots), {"params": now.params, "macs": now.macs})
    segments = [each for root in graph.roots for each in segments_of(root, torch.arange(root.width).double())]
    removed = [len(segment.atoms) // 2 for segment in segments]
    predicted = [costs.cost(measure, segments, removed) for measure in ("params", "macs")]
    graph.remove({root.name: list(range(root.width // 2)) for root in graph.roots})
    after = count(model, (7, 6))
    assert len(segments) >= 3
    assert after.params == pytest.approx(predicted[0], abs=1e-6)
    assert after.macs == pytest.approx(predicted[1], abs=1e-6)


@pytest.mark.parametrize("case", WHOLE)
def test_heads_that_cannot_go_are_named_and_the_rest_is_pruned(case):
    build, name, reason = WHOLE[case]
    model = make(build)
    pruner = StructuredPruner(model, example(), of="params", ratio=0.1, steps=1)
    pruner.prune_step(1)
    assert reason in pruner.report().whole[name]
    assert heads_of(model.get_submodule(name)) == HEADS
    assert model.up.out_features < 32
    assert model(example()).shape == (2, 5)


def test_weak_heads_go_and_the_rest_keeps_its_weights():
    model = make(CASES["three layers"].build)
    layers = (model.block.to_q, model.block.to_k, model.block.to_v)
    with torch.no_grad():
        for layer in layers:
            layer.weight[SIZE : 2 * SIZE] *= 1e-3
        model.block.to_out.weight[:, SIZE : 2 * SIZE] *= 1e-3
    strong = [*range(SIZE), *range(2 * SIZE, WIDTH)]
    expected = [layer.weight[strong].clone() for layer in layers]
    protected = [model.start, model.up, model.down, model.block.to_out]
    StructuredPruner(model, example(), of="params", ratio=0.12, steps=1, protected=protected).prune_step(1)
    assert model.block.n_head == 3
    assert all(torch.equal(layer.weight, one) for layer, one in zip(layers, expected, strict=True))


def test_heads_go_one_by_one_and_one_stays():
    atoms = tuple((head,) for head in range(12))
    segment = Segment("block:0", "block", atoms, torch.zeros(12), {}, "heads")
    assert allowed_atoms(segment, 12, 8) == list(range(1, 13))
    model = make(CASES["torch"].build)

    def pruner_of(ratio: float) -> StructuredPruner:
        protected = [model.start, model.up, model.down]
        return StructuredPruner(model, example(), of="params", ratio=ratio, steps=3, protected=protected)

    pruner = pruner_of(pruner_of(0.1).report().largest_share)
    for step in (1, 2, 3):
        pruner.prune_step(step)
    assert pruner.report().widths["block.attention"] == (HEADS, 1)
    model.train()(example()).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("case", CASES)
def test_a_plan_makes_the_model_anew(case):
    base = make(CASES[case].build)
    model = copy.deepcopy(base)
    pruner = StructuredPruner(model, example(), of="macs", ratio=0.45, steps=2)
    pruner.prune_step(1)
    pruner.prune_step(2)
    heads, left = pruner.report().widths[CASES[case].name]
    assert left < heads == HEADS
    assert pruner.report().removed_macs == pytest.approx(0.45, abs=0.05)
    plan = json.loads(json.dumps(architecture_of(base, model)))
    fresh = make(CASES[case].build, seed=5)
    apply_architecture(fresh, plan)
    fresh.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(fresh.eval()(example()), model.eval()(example()))


def test_a_plan_with_a_class_that_does_not_fit_changes_nothing():
    base = make(CASES["torch"].build)
    model = copy.deepcopy(base)
    pruner = StructuredPruner(model, example(), of="macs", ratio=0.45, steps=1)
    pruner.prune_step(1)
    plan = architecture_of(base, model)
    assert plan["modules"]["block.attention"]["class"] == "multihead-attention"
    plan["modules"]["block.attention"]["class"] = "window-attention"
    with pytest.raises(ModelError, match="MultiheadAttention, which cannot become a window-attention"):
        apply_architecture(base, plan)
    assert type(base.block.attention) is nn.MultiheadAttention


def test_layers_that_lost_nothing_are_torchs_again():
    model = make(CASES["torch"].build)
    protected = [model.block.attention, model.start, model.down]
    pruner = StructuredPruner(model, example(), of="params", ratio=0.1, steps=1, protected=protected)
    assert "protected" in pruner.report().whole["block.attention"]
    pruner.prune_step(1)
    assert type(model.block.attention) is nn.MultiheadAttention
    assert model.up.out_features < 32


def test_gradients_rate_heads():
    model = opened("packed by heads")
    with torch.no_grad():
        model.block.proj.weight[:, 2 * SIZE : 3 * SIZE] = 0.0  # head 2 does nothing
        model.block.qkv.weight[2 * 3 * SIZE : 3 * 3 * SIZE] *= 100.0  # though it has the largest weights
    taylor = Taylor()
    loss = model(example()).square().sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    taylor.observe(model, dict(zip(names, torch.autograd.grad(loss, parameters), strict=True)))
    root = next(root for root in ChannelGraph(model, example()).roots if root.kind == "heads")
    ratings = taylor(root)
    assert ratings[2] == ratings.min() < 1e-6


@pytest.mark.parametrize("version", [1, 2])
def test_swin_loses_heads_and_comes_back_from_its_plan(version):
    swin = import_torchvision().models.swin_transformer
    kinds = {} if version == 1 else {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}

    def build() -> nn.Module:
        torch.manual_seed(0)
        return swin.SwinTransformer([2, 2], 16, [2], [2], [4, 4], num_classes=5, **kinds).eval()

    base, model = build(), build()
    x = torch.randn(1, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    protected = [layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and ".mlp" in name]
    pruner = StructuredPruner(model, x, of="params", ratio=0.1, steps=1, protected=protected)
    opened_model = copy.deepcopy(model)
    pruner.prune_step(1)
    cut = [name for name in ("features.1.0.attn", "features.1.1.attn") if heads_of(model.get_submodule(name)) == 1]
    assert cut
    for name in cut:  # the head that stayed is the one whose rows are still there
        stayed = model.get_submodule(name).qkv.weight[:8]
        gone = next(
            h for h in (0, 1) if not torch.equal(base.get_submodule(name).qkv.weight[8 * h : 8 * h + 8], stayed)
        )
        opened_model = silenced(opened_model, f"{name}.proj", [gone], 8)
    torch.testing.assert_close(model(x), opened_model(x), rtol=1e-4, atol=1e-5)
    fresh = build()
    apply_architecture(fresh, architecture_of(base, model))
    fresh.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(fresh(x), model(x))


def test_a_vision_transformer_loses_heads_and_hidden_width():
    torchvision = import_torchvision()
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(16, 4, 2, 4, 32, 64, num_classes=5)
    before = params_of(model)
    pruner = StructuredPruner(model, torch.zeros(1, 3, 16, 16), of="params", ratio=0.3, steps=2)
    pruner.prune_step(1)
    report = pruner.prune_step(2)
    widths = pruner.report().widths
    assert 1 - params_of(model) / before == pytest.approx(report.removed_params) == pytest.approx(0.3, abs=0.03)
    assert any(now < was for name, (was, now) in widths.items() if name.endswith("self_attention"))
    assert any(now < was for name, (was, now) in widths.items() if name.endswith("mlp.0"))
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 5)


def test_timms_attention_loses_heads():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    options = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 4, "num_classes": 5}
    model = timm.models.VisionTransformer(**options).eval()
    x = torch.randn(1, 3, 16, 16)
    expected = silenced(model, "blocks.0.attn.proj", [0, 2])(x)
    ChannelGraph(model, x).remove({"blocks.0.attn": [0, 2]})
    assert model.blocks[0].attn.attn_dim == 8
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
