"""The group's magnitude is torch-pruning's, and right where theirs does not look."""

from __future__ import annotations

import pytest
import torch
import torch_pruning
from torch import nn

from edgecompress.pruning.coupling.channel_graph import ChannelGraph
from edgecompress.pruning.structured.importance import GroupMagnitude
from tests.unit.pruning.pruning_nets import example, make


@pytest.mark.parametrize("p", [1, 2])
def test_group_magnitude_agrees_with_torch_pruning(p):
    """torch-pruning leaves depthwise filters out, so the comparison is on a net without them."""
    model = make("residual")
    theirs = torch_pruning.importance.GroupMagnitudeImportance(
        p=p, group_reduction="mean", normalizer="mean", bias=False, target_types=[nn.Conv2d, nn.Linear, nn.BatchNorm2d]
    )
    graph = ChannelGraph(model, example())
    assert len(graph.roots) == 4
    for root in graph.roots:
        group = graph._graph.get_pruning_group(
            model.get_submodule(root.name), torch_pruning.prune_conv_out_channels, list(range(root.width))
        )
        torch.testing.assert_close(GroupMagnitude(p)(root).float(), theirs(group), rtol=1e-5, atol=1e-6)


def test_group_magnitude_rates_each_place_of_a_grouped_conv():
    model = make("grouped")
    with torch.no_grad():
        for layer in (model.stem[0], model.stem[1]):
            layer.weight.zero_()
        model.grouped.weight.zero_()
        model.grouped.weight[12:24, 3] = 1.0  # outputs of group 1 read place 3 of group 1: channel 8 + 3
    root = next(root for root in ChannelGraph(model, example()).roots if root.name == "stem.0")
    rating = GroupMagnitude()(root)
    assert rating.nonzero().flatten().tolist() == [11]
    assert root.channel_groups == 4
