"""Splits along channels, rows or positions: each part goes to whoever takes it, however often."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.coupling.probe import _silence
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.pruning.structured.widths import segments_of
from tests.unit.pruning.pruning_nets import conv, example


class Parts(nn.Module):
    """The first half goes to two convs, the second to one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 32), nn.Linear(32, 10)
        self.one, self.two, self.three = conv(16, 32), conv(16, 32), conv(16, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.stem(x).chunk(2, dim=1)
        return self.head((self.three(second) + self.one(first) + self.two(first)).mean((2, 3)))


class Gated(nn.Module):
    """Values and gates from one conv, multiplied; the values are used once more."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last, self.head = conv(3, 64), conv(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.stem(x).chunk(2, dim=1)
        return self.head(self.last(value * torch.sigmoid(gate) + value).mean((2, 3)))


class Positions(nn.Module):
    """Channels behind: halves of the channels, by a positive and a negative axis, and of the positions."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.stem, self.wide, self.last, self.head = (
            nn.Conv2d(3, 32, 1), nn.Linear(32, 64), nn.Linear(32, 48), nn.Linear(48, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        first, second = x.chunk(2, dim=1)
        value, gate = self.wide(first + second).chunk(2, dim=self.axis)
        return self.head(torch.relu(self.last(value * torch.sigmoid(gate))).mean(1))


class Halves(nn.Module):
    """Upper and lower half of the picture, and left and right half."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last, self.head = conv(3, 32), conv(32, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        upper, lower = self.stem(x).split(4, dim=2)
        left, right = (upper + lower).chunk(2, dim=-1)
        return self.head(self.last(left - right).mean((2, 3)))


class Again(nn.Module):
    """One conv takes both halves, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice, self.last, self.head = conv(3, 32), conv(16, 32), conv(32, 48), nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.stem(x).chunk(2, dim=1)
        return self.head(self.last(self.twice(first) + self.twice(second)).mean((2, 3)))


def same_as_zero(model: nn.Module) -> ChannelGraph:
    """Cuts every second atom of every root, and compares with a copy in which these are zero."""
    silent = copy.deepcopy(model.eval())
    graph = ChannelGraph(model, example())
    removals = {}
    for root in graph.roots:
        segments = segments_of(root, torch.arange(root.width, dtype=torch.float64))
        removals[root.name] = [c for segment in segments for atom in segment.atoms[::2] for c in atom]
    _silence(ChannelGraph(silent, example()).roots, removals)
    graph.remove(removals)
    torch.testing.assert_close(model(example()), silent(example()), rtol=1e-4, atol=1e-5)
    return graph


@pytest.mark.parametrize(
    ("build", "whole"),
    [
        (Parts, set()),
        (Gated, set()),
        (lambda: Positions(-1), set()),
        (lambda: Positions(2), set()),
        (Halves, set()),
    ],
)
def test_what_is_cut_is_what_would_be_zero(build, whole):
    torch.manual_seed(0)
    model = build()
    before = sum(parameter.numel() for parameter in model.parameters())
    assert same_as_zero(model).whole.keys() == {"head", *whole}
    assert sum(parameter.numel() for parameter in model.parameters()) < 0.4 * before


def test_a_part_that_two_layers_take_goes_from_both():
    torch.manual_seed(0)
    model = Parts()
    root = next(root for root in ChannelGraph(model, example()).roots if root.name == "stem.0")
    (segment,) = segments_of(root, torch.zeros(32, dtype=torch.float64))
    assert segment.atoms[3] == (3, 19)
    assert {name for name, axis in segment.sides if axis == "in"} == {"one.0", "two.0", "three.0"}


def test_a_layer_that_takes_both_parts_in_turn_keeps_them():
    torch.manual_seed(0)
    model = Again()
    pruner = StructuredPruner(model, example(), of="params", ratio=0.3, steps=1)
    pruner.prune_step(1)
    assert model.stem[0].out_channels == 2 * model.twice[0].in_channels
    assert model.last[0].out_channels < 48
    assert model.eval()(example()).shape == (2, 10)
