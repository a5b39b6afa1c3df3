"""A temporal convolutional network (Bai et al. 2018): dilated causal convolutions over text or series.

Only the last step is answered for, so every layer computes the steps that lead to it and no others: convolutions
without padding on as many steps as the last answer depends on, zeros in front where the sample is shorter.
"""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.data.base import Ends
from edgecompress.models.built_in.blocks import ConvBn
from edgecompress.models.built_in.sequence import as_row, embedding_of

#: Steps a convolution sees.
KERNEL = 3


class TemporalBlock(nn.Module):
    """Two dilated convolutions, added to the steps they end at."""

    def __init__(self, channels: int, width: int, dilation: int) -> None:
        """Takes channels in and out, and how far apart the steps are that a convolution sees."""
        super().__init__()
        self.lost = 2 * (KERNEL - 1) * dilation
        self.conv1 = ConvBn(channels, width, (1, KERNEL), padding=(0, 0), dilation=(1, dilation), activation=nn.ReLU())
        self.conv2 = ConvBn(width, width, (1, KERNEL), padding=(0, 0), dilation=(1, dilation), activation=None)
        self.skip = nn.Conv2d(channels, width, 1) if channels != width else None
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, width, 1, steps - lost) for (N, channels, 1, steps)."""
        ends = x[..., self.lost :]
        return self.relu(self.conv2(self.conv1(x)) + (ends if self.skip is None else self.skip(ends)))  # type: ignore[no-any-return]


class Tcn(nn.Module):
    """Blocks of doubling dilation until all steps are seen, and a linear layer on the last step."""

    def __init__(self, ends: Ends, width: int, embedding: int, layers: int) -> None:
        """Builds it for (length,) tokens or (steps, features) series."""
        super().__init__()
        self.embed, channels = embedding_of(ends, embedding)
        dilations = [2**n for n in range(layers)] or spread(ends.input_shape[0])
        self.seen = seen(dilations)
        widths = [channels, *[width] * len(dilations)]
        self.blocks = nn.Sequential(
            *(TemporalBlock(widths[n], width, dilation) for n, dilation in enumerate(dilations))
        )
        self.fc = nn.Linear(width, ends.outputs[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (N, outputs) for (N, length) tokens or (N, steps, features) series."""
        x = self.embed(x) if self.embed is not None else x
        x = x[:, -self.seen :]
        x = nn.functional.pad(x, (0, 0, self.seen - x.shape[1], 0))
        x = self.blocks(as_row(x))
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


def seen(dilations: list[int]) -> int:
    """Returns how many steps the last answer depends on."""
    return 1 + 2 * (KERNEL - 1) * sum(dilations)


def spread(steps: int) -> list[int]:
    """Returns dilations that double until all steps are seen, the last one no larger than that takes."""
    dilations = [1]
    while seen(dilations) < steps:
        left = steps - seen(dilations)
        dilations.append(min(2 ** len(dilations), -(-left // (2 * (KERNEL - 1)))))
    return dilations


def tcn(ends: Ends, width: int = 32, embedding: int = 64, layers: int = 0) -> nn.Module:
    """Returns the network of Bai et al. (2018), arXiv 1803.01271, with batch norms.

    Args:
        ends: What it is built between.
        width: Channels of each block.
        embedding: Numbers a token is described by.
        layers: Blocks; the dilation doubles from one to the next. 0, the default: as many as it takes to see all steps.
    """
    return Tcn(ends, width, embedding, layers)
