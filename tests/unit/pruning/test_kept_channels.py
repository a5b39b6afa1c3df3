"""The plan says which channels of the base model were kept: slicing its tensors by them gives the pruned model's."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.architecture import architecture_of
from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.coupling.channels import Coupled, Root
from edgecompress.pruning.coupling.cut import compose, cut
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.sources.torchvision_import import import_torchvision
from tests.unit.pruning.attention_nets import CASES
from tests.unit.pruning.attention_nets import make as make_attention
from tests.unit.pruning.pruning_nets import NETS, conv, example, make

NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def packed(path: str, side: str) -> str:
    """Name of what torch's attention packs its projections into, where a plan speaks of that."""
    if path.rpartition(".")[2] == "in_proj" or side.startswith("in_proj:"):
        return f"{path.removesuffix('.in_proj')}.in_proj"
    return ""


def sliced(base: nn.Module, plan: dict[str, Any]) -> dict[str, torch.Tensor]:  # noqa: C901 - one branch per kind of layer
    """The base model's tensors, sliced by what a plan says of channels: by hand, layer by layer."""
    state = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    modules = dict(base.named_modules())

    def take(name: str, axis: int, channels: list[int]) -> None:
        if name in state:
            state[name] = state[name].index_select(axis, torch.tensor(channels))

    for path, entry in plan["modules"].items():
        for side, channels in entry.get("kept", {}).items():
            layer = modules.get(path)
            name = packed(path, side)
            if name and side.endswith("in"):
                take(f"{name}_weight", 1, channels)
            elif name:
                take(f"{name}_weight", 0, channels)
                take(f"{name}_bias", 0, channels)
            elif ":" in side:
                name, _, axis = side.partition(":")
                take(f"{path}.{name}".removeprefix("."), int(axis), channels)
            elif isinstance(layer, NORMS) or (isinstance(layer, nn.Conv2d) and layer.groups == layer.out_channels > 1):
                for name in ("weight", "bias", "running_mean", "running_var"):
                    take(f"{path}.{name}", 0, channels)
            elif side == "out":
                take(f"{path}.weight", 1 if isinstance(layer, nn.ConvTranspose2d) else 0, channels)
                take(f"{path}.bias", 0, channels)
            else:
                groups = getattr(layer, "groups", 1)
                columns = [channel for channel in channels if channel < layer.weight.shape[1]]
                axis = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
                take(f"{path}.weight", axis, channels if groups == 1 else columns)
    return state


def check(base: nn.Module, inputs: torch.Tensor, ratio: float = 0.45, **more: Any) -> dict[str, Any]:
    model = copy.deepcopy(base)
    pruner = StructuredPruner(model, inputs, of="params", ratio=ratio, steps=3, round_to=4, **more)
    for step in (1, 2, 3):
        pruner.prune_step(step)
    plan = json.loads(json.dumps(architecture_of(base, model, kept=pruner.kept)))
    expected, found = sliced(base, plan), model.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in found.items():
        assert torch.equal(expected[name], tensor), name
    assert sum(tensor.numel() for tensor in found.values()) < 0.7 * sum(t.numel() for t in base.state_dict().values())
    return plan


@pytest.mark.parametrize("name", NETS)
def test_the_kept_channels_of_the_base_are_the_pruned_model(name):
    plan = check(make(name), example())
    assert plan["version"] == 2
    assert plan["base"]["parameters"].keys() == dict(make(name).named_parameters()).keys()


@pytest.mark.parametrize("case", ["torch", "packed by heads"])
def test_kept_heads_too(case):
    base = make_attention(CASES[case].build)
    from tests.unit.pruning.attention_nets import example as positions

    check(base, positions(), ratio=0.4)


def test_torchvisions_models_too():
    torch.manual_seed(0)
    base = import_torchvision().models.shufflenet_v2_x0_5(weights=None, num_classes=10)
    plan = check(base, torch.zeros(1, 3, 32, 32), ratio=0.35)
    inner = plan["modules"]["stage4.2.branch2.0"]
    assert inner["kept"]["out"] == plan["modules"]["stage4.2.branch2.3"]["kept"]["out"]
    assert len(inner["kept"]["out"]) == inner["attributes"]["out_channels"]


def test_channels_are_those_of_the_original_model_through_all_steps():
    first = {("a", "out"): [0, 2, 3, 5, 7]}
    second = compose(first, {("a", "out"): [1, 2, 4], ("b", "in"): [0, 9]})
    assert second == {("a", "out"): [2, 3, 7], ("b", "in"): [0, 9]}
    assert first == {("a", "out"): [0, 2, 3, 5, 7]}


def test_only_roots_can_be_cut():
    model = nn.Sequential(conv(3, 16), nn.Conv2d(16, 4, 1), nn.Flatten())
    graph = ChannelGraph(model, example())
    with pytest.raises(ValueError, match="1 is none of the roots"):
        cut(model, graph.roots, {"0.0": [1], "1": [0]})
    assert cut(model, graph.roots, {"0.0": [1, 4], "1": []})["0.0", "out"][:4] == [0, 2, 3, 5]


def test_frozen_parameters_and_gradients_stay_what_they_are():
    model = nn.Sequential(conv(3, 16), nn.Conv2d(16, 4, 1), nn.Flatten())
    model[0][0].weight.requires_grad_(False)
    model(example()).sum().backward()
    before = model[1].weight.grad.clone()
    graph = ChannelGraph(model, example())
    graph.remove({"0.0": [0, 1]})
    assert not model[0][0].weight.requires_grad
    assert torch.equal(model[1].weight.grad, before[:, 2:])


def test_norms_that_have_no_class_here_follow_with_their_shape():
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.norm, self.end = nn.Linear(8, 32), nn.RMSNorm(32), nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.end(self.norm(self.start(x)).mean((1, 2)))

    torch.manual_seed(0)
    model = Rows()
    pruner = StructuredPruner(model, example(), of="params", ratio=0.4, steps=1)
    pruner.prune_step(1)
    assert model.norm.normalized_shape == (model.start.out_features,) == tuple(model.norm.weight.shape) < (32,)
    assert pruner.kept["norm", "weight:0"] == pruner.kept["start", "out"] == pruner.kept["end", "in"]


def root_of(name: str, target: nn.Module, width: int, axis: Any = "out") -> Root:
    places = tuple(range(width))
    return Root(name, width, 1, (Coupled(name, target, axis, places, places),))


def test_tables_are_cut_along_their_features():
    model = nn.ModuleDict({"table": nn.Embedding(5, 6)})
    rows = model["table"].weight[:, [0, 1, 4]].clone()
    kept = cut(model, [root_of("table", model["table"], 6)], {"table": [2, 3, 5]})
    assert kept == {("table", "out"): [0, 1, 4]}
    assert model["table"].embedding_dim == 3
    assert torch.equal(model["table"].weight, rows)


@pytest.mark.parametrize(
    ("layer", "axis", "gone", "message"),
    [
        (nn.Dropout(), "out", [1], "channels of a Dropout cannot be cut"),
        (nn.Linear(4, 4), "out", [5], "channel 5 is out of range, there are 4"),
        (nn.Conv2d(8, 8, 1, groups=2), "in", [1], "its groups would lose different channels"),
    ],
)
def test_what_cannot_be_cut_is_named(layer, axis, gone, message):
    model = nn.ModuleDict({"it": layer})
    with pytest.raises(ModelError, match=f"channels of it cannot be removed: it: .*{message}"):
        cut(model, [root_of("it", layer, 8, axis)], {"it": gone})
