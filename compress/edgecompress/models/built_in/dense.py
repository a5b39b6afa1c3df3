"""Networks of linear layers alone: for tables, and the auto-encoder that MLPerf Tiny finds anomalies with."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError


def dense(inputs: int, outputs: int) -> nn.Sequential:
    """Returns a linear layer with batch norm and ReLU, which all become one operator."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


class Dense(nn.Module):
    """Linear layers over all numbers of a sample."""

    def __init__(self, ends: Ends, widths: list[int]) -> None:
        """Takes the widths of the layers between the ends.

        Raises:
            ModelError: The samples are tokens, which are no quantities.
        """
        super().__init__()
        if ends.kind == "tokens":
            raise ModelError("this model takes tables or series, not tokens, whose numbers are no quantities")
        self.shape = ends.outputs
        every = [math.prod(ends.input_shape), *widths]
        self.layers = nn.Sequential(*(dense(a, b) for a, b in zip(every, widths, strict=False)))
        self.fc = nn.Linear(every[-1], math.prod(ends.outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, *outputs) for (N, *input_shape)."""
        return self.fc(self.layers(x.flatten(1))).reshape(-1, *self.shape)  # type: ignore[no-any-return]


def mlp(ends: Ends, width: int = 64, layers: int = 2) -> nn.Module:
    """Returns hidden layers with batch norm and ReLU.

    Args:
        ends: What it is built between.
        width: Units of each.
        layers: How many there are.
    """
    return Dense(ends, [width] * layers)


def fc_autoencoder(ends: Ends, width: int = 128, bottleneck: int = 8, layers: int = 4) -> nn.Module:
    """Returns MLPerf Tiny's network for anomaly detection (Banbury et al. 2021), which answers with its input.

    Args:
        ends: What it is built between.
        width: Units of each layer but the middle one.
        bottleneck: Units of the middle one.
        layers: How many lie before the middle, and as many behind it.
    """
    return Dense(ends, [*[width] * layers, bottleneck, *[width] * layers])
