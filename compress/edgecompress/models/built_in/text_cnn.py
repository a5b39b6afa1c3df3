"""A convolution over words and the largest answer of each filter (Kim 2014), for text and for series."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.models.built_in.sequence import as_row, embedding_of

#: Words that a filter sees.
SPANS = (3, 4, 5)


class TextCnn(nn.Module):
    """Embedding, filters over spans of words, the maximum over time, one linear layer."""

    def __init__(self, ends: Ends, width: int, embedding: int) -> None:
        """Builds it for (length,) tokens or (steps, features) series."""
        super().__init__()
        self.embed, channels = embedding_of(ends, embedding)
        # Two-dimensional, of height 1: as such INT8 kernels know them.
        self.filters = nn.ModuleList(nn.Conv2d(channels, width, (1, span)) for span in SPANS)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(width * len(SPANS), ends.outputs[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, outputs) scores for (N, length) tokens or (N, steps, features) series."""
        x = self.embed(x) if self.embed is not None else x
        x = as_row(x)
        # Channels last, as flatbuffers have them: nothing is transposed.
        found = [torch.amax(self.relu(layer(x)).permute(0, 2, 3, 1), dim=(1, 2)) for layer in self.filters]
        scores: torch.Tensor = self.fc(self.drop(torch.cat(found, 1)))
        return scores


def text_cnn(ends: Ends, width: int = 64, embedding: int = 64) -> nn.Module:
    """Returns the network of Kim (2014), "Convolutional Neural Networks for Sentence Classification".

    Args:
        ends: What it is built between.
        width: Filters for each span.
        embedding: Numbers a token is described by.
    """
    return TextCnn(ends, width, embedding)
