"""Layers that save next to nothing keep their channels, but never at the price of the asked share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgecompress.pruning.structured.negligible import NEGLIGIBLE, NEGLIGIBLE_TOGETHER, negligible
from edgecompress.pruning.structured.pruner import StructuredPruner
from edgecompress.pruning.structured.widths import Segment
from tests.unit.pruning.pruning_nets import conv


class Gated(nn.Module):
    """Two convs with a gate between them, whose squeeze has few MACs and not so few parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 32), conv(32, 32)
        self.squeeze, self.excite = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(self.second(x * gate).mean((2, 3)))


def pruner(of: str, ratio: float) -> StructuredPruner:
    torch.manual_seed(0)
    return StructuredPruner(Gated(), torch.zeros(1, 3, 16, 16), of=of, ratio=ratio, steps=1)


def test_a_small_layer_is_left_alone_where_it_is_small() -> None:
    by_macs, by_params = pruner("macs", 0.5), pruner("params", 0.5)
    for one, before in ((by_macs, 0.5), (by_params, 0.5)):
        one.prune_step(1)
        report = one.report()
        assert (report.removed_macs if one is by_macs else report.removed_params) == pytest.approx(before, abs=0.03)
    assert by_macs.report().widths["squeeze"] == (32, 32)
    assert by_macs.report().whole["squeeze"].startswith("at its smallest width only 0.0")
    assert "multiply-accumulates would go" in by_macs.report().whole["squeeze"]
    assert "squeeze" not in by_params.report().whole


def test_what_can_be_reached_with_all_layers_can_be_reached() -> None:
    largest = pruner("macs", 0.5).report().largest_share
    edge = pruner("macs", largest)
    edge.prune_step(1)
    assert "squeeze" not in edge.report().whole
    assert edge.report().removed_macs == pytest.approx(largest, abs=1e-9)


class Sum:
    """A cost that is a sum over roots: one atom of each saves a given share of 1."""

    def __init__(self, shares: list[float]) -> None:
        self._shares = shares

    def cost(self, _measure: str, _segments: list[Segment], removed: list[int]) -> float:
        return 1.0 - sum(share * gone for share, gone in zip(self._shares, removed, strict=True))


def spared(shares: list[float], to_spare: float) -> dict[str, float]:
    segments = [Segment(f"{n}:0", str(n), ((0,), (1,)), torch.ones(2), {}) for n in range(len(shares))]
    return negligible(segments, [1] * len(shares), Sum(shares), "macs", 1.0, to_spare)  # type: ignore[arg-type]


def test_a_layer_counts_as_small_below_half_a_percent() -> None:
    assert NEGLIGIBLE == 0.005
    assert spared([0.3, 0.0049, 0.0051], 0.5) == {"1": pytest.approx(0.0049)}


def test_deep_models_of_small_layers_are_pruned_all_the_same() -> None:
    shares = [0.0038] * 100
    found = spared(shares, 0.3)
    assert len(found) == int(NEGLIGIBLE_TOGETHER / 0.0038) == 5


def test_the_smallest_come_first_and_the_share_stays_in_reach() -> None:
    assert list(spared([0.3, 0.004, 0.001, 0.002], 0.0035)) == ["2", "3"]
    assert spared([0.3, 0.001], 0.0005) == {}
    assert spared([0.3, 0.001], -0.02) == {}
