"""Where one place of one width is a coarse step, the asked share is met all the same."""

from __future__ import annotations

import pytest
import torch

from edgecompress.models.built_in.resnet import resnet8
from edgecompress.pruning.coupling.channels import Root
from edgecompress.pruning.structured.pruner import StructuredPruner


class Tempting:
    """Rates the channels of one layer, a fifth of all multiplications, near the point where the cut falls."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, root: Root) -> torch.Tensor:
        ratings = torch.rand(root.width, dtype=torch.float64, generator=self._generator)
        return ratings * 0.7 if root.name == "stack1.conv1" else ratings


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_share_is_met_although_a_wide_layer_has_two_widths_only(steps: int, seed: int) -> None:
    model = resnet8((1, 28, 28), 10, width=16)
    pruner = StructuredPruner(
        model, torch.zeros(1, 1, 28, 28), of="macs", ratio=0.5, steps=steps, importance=Tempting(seed)
    )
    for step in range(1, steps + 1):
        report = pruner.prune_step(step)
        assert report.removed_macs <= 0.5 + 0.015, "nothing that is cut comes back"
    # Within 3 % of what was to be left.
    assert abs(report.removed_macs - 0.5) <= 0.015
