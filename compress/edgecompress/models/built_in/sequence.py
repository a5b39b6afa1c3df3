"""What networks over sequences share: embeddings of tokens, series as pictures, norms that cost nothing, padding."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.errors import ModelError


class AsPicture(nn.Module):
    """A network over pictures that takes series: (N, steps, features) as one channel, time down, features across."""

    def __init__(self, model: nn.Module) -> None:
        """Takes the network over (N, 1, steps, features)."""
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the network's answer."""
        # Channels last, turned around: conversion turns them back, and nothing is left of it.
        answer: torch.Tensor = self.model(x.unsqueeze(3).permute(0, 3, 1, 2))
        return answer


def as_row(x: torch.Tensor) -> torch.Tensor:
    """Returns (N, steps, channels) as a picture of height 1, (N, channels, 1, steps), without a transposition."""
    return x.unsqueeze(1).permute(0, 3, 1, 2)


def embedding_of(ends: Ends, width: int, spread: float = 1.0) -> tuple[nn.Module | None, int]:
    """Returns what brings samples to (N, steps, channels), None where they are so already, and how many channels.

    Tokens get a table of `width` numbers each, padding zeros.

    Args:
        ends: What the network is built between.
        width: Numbers a token is described by.
        spread: Standard deviation of the table's numbers at first.

    Raises:
        ModelError: The samples are neither tokens nor series.
    """
    if ends.kind == "tokens":
        table = nn.Embedding(ends.vocabulary, width, padding_idx=0)
        with torch.no_grad():
            table.weight.mul_(spread)
        return table, width
    if ends.kind != "series":
        raise ModelError(f"this model takes series (steps, features) or tokens, not {ends.kind} of {ends.input_shape}")
    return None, ends.input_shape[1]


class ChannelNorm(nn.BatchNorm1d):
    """Batch norm over the last axis of (N, steps, channels).

    In front of linear layers it becomes part of their weights, so it costs an INT8 model neither operators nor
    precision; a layer norm is seven operators on numbers of very different size.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the normalised values, of the same shape."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)

    @torch.no_grad()
    def fold_into(self, *layers: nn.Linear) -> None:
        """Makes linear layers that read the normalised values read the plain ones, in place."""
        if self.running_mean is None or self.running_var is None:
            raise ValueError("this norm keeps no statistics")
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        offset = self.bias - self.running_mean * factor
        for layer in layers:
            layer.bias.add_(layer.weight @ offset)
            layer.weight.mul_(factor)


class Unpadded(nn.Module):
    """Two numbers by token, one for padding and one for all others: a bias that hides what padding brings.

    It is read from a table of two rows, by token number cut off at 1: comparing and selecting would leave INT8.
    """

    table: torch.Tensor

    def __init__(self, hidden: float, shown: float) -> None:
        """Takes the two numbers."""
        super().__init__()
        self.register_buffer("table", torch.tensor([[hidden], [shown]]), persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns (N, length, 1) for (N, length) token numbers."""
        return nn.functional.embedding(tokens.clamp(max=1), self.table)
