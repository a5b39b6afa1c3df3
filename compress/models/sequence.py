"""What networks over sequences share: embeddings of tokens, and series as pictures."""

from __future__ import annotations

import torch
from torch import nn

from compress.data.base import Ends
from compress.errors import ModelError


class AsPicture(nn.Module):
    """A network over pictures that takes series: (N, steps, features) as one channel, time down, features across."""

    def __init__(self, model: nn.Module) -> None:
        """Takes the network over (N, 1, steps, features)."""
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the network's answer."""
        answer: torch.Tensor = self.model(x[:, None])
        return answer


def embedding_of(ends: Ends, width: int) -> tuple[nn.Module | None, int]:
    """Returns what brings samples to (N, steps, channels), None where they are so already, and how many channels.

    Tokens get a table of `width` numbers each, padding zeros.

    Raises:
        ModelError: The samples are neither tokens nor series.
    """
    if ends.kind == "tokens":
        return nn.Embedding(ends.vocabulary, width, padding_idx=0), width
    if ends.kind != "series":
        raise ModelError(f"this model takes series (steps, features) or tokens, not {ends.kind} of {ends.input_shape}")
    return None, ends.input_shape[1]
