"""Shuffles, odd reshapes and concatenations: their layers are kept whole or followed, and nothing fails on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch_pruning
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.coupling.dependencies import Graph
from edgecompress.pruning.structured.pruner import StructuredPruner
from tests.unit.pruning.pruning_nets import NETS, conv, example, make


class Flattened(nn.Module):
    """A concatenation that is added to a conv and flattened before a linear layer that takes several places of each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = conv(3, 32), conv(32, 16), conv(32, 32)
        self.across, self.head = nn.Conv2d(32, 48, 1), nn.Linear(48 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([self.left(x), self.right(x)], dim=1) + self.across(x)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))


class Twice(nn.Module):
    """The same channels twice in one concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last, self.head = conv(3, 32), conv(64, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.last(torch.cat([x, x], dim=1)).mean((2, 3)))


class Held(nn.Module):
    """Reshapes by a width that it holds in an attribute."""

    def __init__(self, *, fixed: bool = False) -> None:
        super().__init__()
        self.fixed, self.width = fixed, 32
        self.stem, self.last, self.head = conv(3, 32), conv(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.last(self.stem(x))
        return self.head(x.reshape(x.shape[0], 32 if self.fixed else self.width, -1).mean(2))


class Windows(nn.Module):
    """Cuts channels that lie behind into groups, as attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.query, self.last, self.head = (
            nn.Conv2d(3, 32, 1), nn.Linear(32, 48), nn.Linear(48, 64), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = self.query(x).reshape(x.shape[0], -1, 3, 4, 4).permute(2, 0, 3, 1, 4)
        x = (x[0] * torch.sigmoid(x[1]) + x[2]).transpose(1, 2).flatten(2)
        return self.head(torch.relu(self.last(torch.cat([x, x, x], 2))).mean(1))


def pruned(model: nn.Module, ratio: float = 0.4) -> StructuredPruner:
    pruner = StructuredPruner(model, example(), of="params", ratio=ratio, steps=1, round_to=4)
    pruner.prune_step(1)
    assert model.eval()(example()).shape == (2, 10)
    return pruner


def test_a_concatenation_before_a_flattening_linear_layer_is_followed():
    torch.manual_seed(0)
    model = Flattened()
    assert pruned(model, 0.5).report().whole.keys() == {"head"}
    left, right = model.left[0].out_channels, model.right[0].out_channels
    assert (model.across.out_channels, model.head.in_features) == (left + right, 16 * (left + right))
    assert left + right < 48


def test_channels_twice_in_a_concatenation_go_twice():
    torch.manual_seed(0)
    model = Twice()
    pruned(model)
    assert model.last[0].in_channels == 2 * model.stem[0].out_channels < 64


def test_a_width_in_an_attribute_follows():
    torch.manual_seed(0)
    model = Held()
    pruner = pruned(model)
    assert "last.0" not in pruner.report().whole
    assert model.width == model.last[0].out_channels < 32
    fixed = Held(fixed=True)
    report = pruned(fixed, 0.2).report()
    assert "does not run without" in report.whole["last.0"]
    assert (fixed.width, fixed.last[0].out_channels) == (32, 32)


def test_channels_behind_that_are_divided_are_kept():
    torch.manual_seed(0)
    model = Windows()
    whole = pruned(model, 0.2).report().whole
    assert "reshape of [64, 48] to [64, 3, 4, 4]" in whole["query"]
    assert model.query.out_features == 48
    assert model.stem.out_channels < 32 or model.last.out_features < 64


def test_what_cannot_be_traced_at_first_is_traced_with_care(monkeypatch):
    whole_build = Graph.build_dependency
    asked = []

    def fail_at_first(self, *args, **more):
        asked.append(self._careful)
        if not self._careful:
            raise ZeroDivisionError("integer division or modulo by zero")
        return whole_build(self, *args, **more)

    monkeypatch.setattr(Graph, "build_dependency", fail_at_first)
    graph = ChannelGraph(Held(), example())
    assert asked == [False, True]
    assert [root.name for root in graph.roots if root.name == "stem.0"]

    def fail_always(self, *_args, **_more):
        raise ZeroDivisionError("integer division or modulo by zero")

    monkeypatch.setattr(Graph, "build_dependency", fail_always)
    with pytest.raises(ModelError, match=r"channel dependencies of Held cannot be followed.*ZeroDivisionError"):
        ChannelGraph(Held(), example())


@pytest.mark.parametrize("name", NETS)
def test_groups_are_those_of_torch_pruning(name):
    """Where its search comes to an end, ours finds the same sides of the same layers, with the same channels."""
    model = make(name)
    graph = Graph(careful=False)
    graph.build_dependency(model, example_inputs=(example(),), verbose=False)

    def sides(group: Any) -> dict[Any, dict[int, int]]:
        items = [(item.dep, zip(item.idxs, item.root_idxs, strict=True)) for item in group.items]
        return {(dep.target, dep.handler): dict(channels) for dep, channels in items}

    layers = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module in graph.module2node
    ]
    assert layers
    for layer in layers:
        handler = graph.get_pruner_of_module(layer).prune_out_channels
        channels = list(range(graph.get_out_channels(layer)))
        ours = graph.get_pruning_group(layer, handler, channels)
        theirs = torch_pruning.DependencyGraph.get_pruning_group(graph, layer, handler, channels)
        assert sides(ours) == sides(theirs)


def test_a_way_back_that_moves_channels_comes_to_an_end():
    """torch-pruning's own search would go round for ever here, each time one channel further."""
    model = nn.Sequential(conv(3, 16), nn.Conv2d(16, 4, 1), nn.Flatten())
    graph = Graph(careful=False)
    graph.build_dependency(model, example_inputs=(example(),), verbose=False)
    norm = graph.module2node[model[0][1]]
    (activation,) = norm.outputs
    (back,) = (edge for edge in activation.dependencies if edge.target is norm)
    back.index_mapping[0] = lambda channels: [one._replace(idx=one.idx + 1) for one in channels]
    handler = graph.get_pruner_of_module(model[0][0]).prune_out_channels
    group = graph.get_pruning_group(model[0][0], handler, [3])
    (channels,) = (item.idxs for item in group.items if item.dep.target is norm)
    assert sorted(channels) == list(range(3, 17))  # the first one that is not there is seen, but leads no further
