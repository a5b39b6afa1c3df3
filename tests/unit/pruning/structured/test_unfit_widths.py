"""Widths that the first trial let pass and that do not go together all the same."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.pruning.structured.pruner import StructuredPruner


class Quarrelling(nn.Module):
    """Runs only while its two hidden layers have 18 channels together, which no trace tells."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3)
        self.third = nn.Conv2d(3, 16, 3)
        self.heads = nn.ModuleList(nn.Linear(16, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.first.out_channels + self.second.out_channels < 18:
            raise RuntimeError("too few channels for both")
        hidden = [torch.relu(layer(x)).mean((2, 3)) for layer in (self.first, self.second, self.third)]
        return sum(head(one) for head, one in zip(self.heads, hidden, strict=True))


def test_widths_that_do_not_go_together_are_found_when_they_are_tried_and_one_layer_is_left_whole() -> None:
    torch.manual_seed(0)
    model = Quarrelling().eval()
    with torch.no_grad():
        model.first.weight.mul_(1e-3)
        model.second.weight.mul_(1e-3)
    pruner = StructuredPruner(model, torch.zeros(1, 3, 8, 8), of="macs", ratio=0.5, steps=1, round_to=2)
    pruner.prune_step(1)
    report = pruner.report()
    assert len({"first", "second"} & set(report.whole)) == 1
    assert "too few channels for both" in next(
        report.whole[name] for name in ("first", "second") if name in report.whole
    )
    assert abs(report.removed_macs - 0.5) < 0.05
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
