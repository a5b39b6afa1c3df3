"""Parameters and multiply-accumulates of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Counts:
    """Counts for one sample."""

    params: int
    nonzero_params: int
    macs: int


def count(model: nn.Module, input_shape: tuple[int, ...]) -> Counts:
    """Returns parameters, non-zero parameters and MACs of a model for one sample."""
    training = model.training
    model.eval()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *input_shape, device=device))
    model.train(training)
    params = list(model.parameters())
    return Counts(sum(p.numel() for p in params), sum(int(torch.count_nonzero(p)) for p in params), counter.get_total_flops() // 2)
