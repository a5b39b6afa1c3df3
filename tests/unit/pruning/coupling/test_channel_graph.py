"""Layers whose channels cannot be cut on their own are found, and the reason is told."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from edgecompress.errors import ModelError
from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.pruning.structured.widths import Segment, allowed_atoms, segments_of
from tests.unit.pruning.pruning_nets import conv, example, make


class Chain(nn.Module):
    """A conv, the layer under test, and a head on the mean."""

    def __init__(self, middle: nn.Module, width: int, inputs: int = 16) -> None:
        super().__init__()
        self.stem, self.middle, self.last, self.head = (
            nn.Conv2d(3, inputs, 1),
            middle,
            nn.Conv2d(width, 32, 1),
            nn.Linear(32, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.middle(self.stem(x))).mean((2, 3)))


class Rows(nn.Module):
    """An LSTM over the rows of the picture, whose hidden units are projected."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 17, batch_first=True, proj_size=16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x.mean(3).transpose(1, 2))[0].transpose(1, 2).unsqueeze(3)


class Halves(nn.Module):
    """Splits the channels; a grouped conv takes one half."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped, self.plain = nn.Conv2d(8, 16, 1, groups=2), nn.Conv2d(8, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, two = x.chunk(2, dim=1)
        return self.grouped(one) + self.plain(two)


class Beside(nn.Module):
    """A grouped conv over two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.other, self.grouped = nn.Conv2d(16, 8, 1), nn.Conv2d(24, 24, 1, groups=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.grouped(torch.cat([x, self.other(x)], dim=1))


CASES = {
    "recurrent": (Rows, 16, "middle.lstm projects its hidden units"),
    "channel multiplier": (lambda: nn.Conv2d(16, 32, 3, groups=16), 32, "groups of one channel on one side only"),
    "grouped transposed": (lambda: nn.ConvTranspose2d(16, 24, 2, groups=2), 24, "grouped transposed conv"),
    "other groups": (
        lambda: nn.Sequential(nn.GroupNorm(4, 16), nn.Conv2d(16, 16, 1, groups=8), nn.Conv2d(16, 24, 1)),
        24,
        "",
    ),
    "odd groups": (
        lambda: nn.Sequential(nn.GroupNorm(3, 24), nn.Conv2d(24, 16, 1, groups=2)),
        16,
        "divides the channels into 2 parts, another layer into 3",
    ),
    "grouped half": (Halves, 16, "divides the channels otherwise than the layer that makes them"),
    "grouped branches": (Beside, 24, "divides the channels otherwise than the layer that makes them"),
    "norm over rows": (lambda: nn.LayerNorm([16, 8, 8]), 16, "its channels cannot be followed through middle"),
}


def case_model(case: str) -> nn.Module:
    torch.manual_seed(0)
    build, width, _ = CASES[case]
    return Chain(build(), width, 24 if case == "odd groups" else 16)


@pytest.mark.parametrize("case", CASES)
def test_channels_that_must_stay_are_named_with_the_reason(case):
    reason = CASES[case][2]
    graph = ChannelGraph(case_model(case), example())
    if reason:
        assert reason in graph.whole["stem"]
    else:
        assert "stem" not in graph.whole
        assert next(root for root in graph.roots if "stem" in root.members).channel_groups == 8
    assert any(root.name == "last" for root in graph.roots)


@pytest.mark.parametrize("case", CASES)
def test_the_rest_of_such_a_model_is_pruned(case):
    model = case_model(case)
    StructuredPruner(model, example(), of="params", ratio=0.2, steps=1, round_to=2).prune_step(1)
    assert model.last.out_channels < 32
    assert model(example()).shape == (2, 10)


def test_a_slope_per_channel_goes_with_its_channel():
    torch.manual_seed(0)
    model = Chain(nn.PReLU(16), 16)
    StructuredPruner(model, example(), of="params", ratio=0.3, steps=1).prune_step(1)
    assert model.middle.num_parameters == model.middle.weight.numel() == model.stem.out_channels < 16


def test_a_layer_that_fails_while_it_is_cut_is_named():
    model = Chain(nn.ReLU(), 16)
    graph = ChannelGraph(model, example())
    model.last.weight = nn.Parameter(torch.zeros(32, 4, 1, 1))
    with pytest.raises(ModelError, match=r"channels of stem cannot be removed: .*out of"):
        graph.remove({"stem": [15]})


def test_a_change_of_the_output_is_noticed(monkeypatch):
    model = nn.Sequential(conv(3, 32), nn.Conv2d(32, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pruner = StructuredPruner(model, example(), of="params", ratio=0.3, steps=1)
    whole_remove = ChannelGraph.remove

    def remove_too_much(self, removals):
        kept = whole_remove(self, removals)
        self.model[1] = nn.Conv2d(self.model[1].in_channels, 15, 1)
        return kept

    monkeypatch.setattr(ChannelGraph, "remove", remove_too_much)
    with pytest.raises(ModelError, match="changed the shape of the model's output"):
        pruner.prune_step(1)


def test_protecting_the_whole_model_leaves_nothing():
    model = Chain(nn.ReLU(), 16)
    with pytest.raises(ModelError, match=r"no channels that can be pruned .* is protected"):
        StructuredPruner(model, example(), of="params", ratio=0.3, steps=1, protected=[model])


class Split(nn.Module):
    """A conv whose channels are split in two; `sizes` says how, None for equal halves of whatever there is."""

    def __init__(self, sizes: list[int] | None, middle: int = 48) -> None:
        super().__init__()
        self.sizes = sizes
        one, two = sizes or (middle // 2, middle // 2)
        self.stem, self.one, self.two = nn.Conv2d(3, middle, 1), nn.Conv2d(one, 32, 1), nn.Conv2d(two, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        one, two = x.split(self.sizes, dim=1) if self.sizes else x.chunk(2, dim=1)
        return self.head((self.one(one) + self.two(two)).mean((2, 3)))


def test_equal_halves_lose_the_same_places():
    torch.manual_seed(0)
    model = Split(None)
    root = next(root for root in ChannelGraph(model, example()).roots if root.name == "stem")
    (segment,) = segments_of(root, torch.arange(48, dtype=torch.float64))
    assert segment.atoms[1] == (1, 25)
    assert segment.sides == {("stem", "out"): 2, ("one", "in"): 1, ("two", "in"): 1}
    with torch.no_grad():
        for place in range(8):  # weak in both halves
            model.stem.weight[[place, 24 + place]] *= 1e-4
            model.stem.bias[[place, 24 + place]] *= 1e-4
            model.one.weight[:, place] *= 1e-4
            model.two.weight[:, place] *= 1e-4
    expected = model(example()).detach()
    StructuredPruner(model, example(), of="params", ratio=0.28, steps=1, protected=[model.one, model.two]).prune_step(1)
    assert model.stem.out_channels == 32
    assert model.one.in_channels == model.two.in_channels == 16
    torch.testing.assert_close(model(example()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([16, 32], r"split into parts of \[16, 32\]"), ([24, 24], "does not run without some of its channels")],
)
def test_a_split_at_fixed_places_keeps_its_channels(sizes, reason):
    model = Split(sizes)
    pruner = StructuredPruner(model, example(), of="params", ratio=0.2, steps=1)
    pruner.prune_step(1)
    assert re.search(reason, pruner.report().whole["stem"])
    assert model.one.out_channels == model.two.out_channels < 32


def test_branches_of_a_concatenation_are_segments_of_their_own():
    model = make("concat")
    root = next(root for root in ChannelGraph(model, example()).roots if "short" in root.members and root.width == 40)
    segments = segments_of(root, torch.arange(40, dtype=torch.float64))
    assert sorted(segment.width for segment in segments) == [16, 24]
    assert segments[0].sides[segments[0].root, "out"] == 1


@pytest.mark.parametrize(
    ("atoms", "parts", "round_to", "expected"),
    [
        (32, 1, 8, [8, 16, 24, 32]),
        (8, 1, 8, [8]),
        (12, 1, 8, [8, 12]),
        (160, 1, 8, list(range(16, 161, 8))),
        (20, 1, 1, list(range(2, 21))),
        (12, 4, 8, [2, 4, 6, 8, 10, 12]),
        (8, 3, 8, [8]),
        (16, 3, 8, [8, 16]),
        (5, 4, 1, [2, 3, 4, 5]),
    ],
)
def test_allowed_widths(atoms, parts, round_to, expected):
    channels = tuple(tuple(place + part * atoms for part in range(parts)) for place in range(atoms))
    segment = Segment("layer:0", "layer", channels, torch.zeros(atoms), {})
    assert allowed_atoms(segment, atoms, round_to) == expected
