"""The depthwise separable network for keyword spotting (Zhang et al. 2017), as MLPerf Tiny has it."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.models.built_in.blocks import ConvBn, Separable, halved, halvings

#: Kernel of the first layer on a spectrogram (time x frequency), as published, and on a picture.
SPECTROGRAM_KERNEL = (10, 4)
PICTURE_KERNEL = (3, 3)
BLOCKS = 4


class DsCnn(nn.Module):
    """A convolution of stride 2, four depthwise separable blocks, the mean over the map, a linear layer."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, width: int) -> None:
        """Builds it; the first stride is 1 where a side would fall below 3 pixels."""
        super().__init__()
        channels, height, breadth = input_shape
        kernel = SPECTROGRAM_KERNEL if height >= 2 * breadth else PICTURE_KERNEL
        halving = halvings(input_shape, 1)
        if not halving and kernel == SPECTROGRAM_KERNEL:
            kernel = PICTURE_KERNEL  # at stride 1 an even kernel would change the size of the map
        stride = 1 + halving
        padding = (_padding(height, kernel[0], stride), _padding(breadth, kernel[1], stride))
        self.stem = ConvBn(channels, width, kernel, stride=stride, padding=padding, activation=nn.ReLU())
        self.blocks = nn.Sequential(*(Separable(width, width) for _ in range(BLOCKS)))
        # As a pool over the whole map it converts without a transposition before it.
        self.pool = nn.AvgPool2d((halved(height, halving), halved(breadth, halving)))
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits, (N, classes)."""
        return self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))  # type: ignore[no-any-return]


def _padding(side: int, kernel: int, stride: int) -> int:
    """Returns the zeros on each side with which the map has ceil(side / stride) pixels."""
    total = (-(-side // stride) - 1) * stride + kernel - side
    return max(0, -(-total // 2))


def ds_cnn(input_shape: tuple[int, int, int], num_classes: int, width: int = 64) -> nn.Module:
    """Returns MLPerf Tiny's keyword spotting network (Banbury et al. 2021), `width` channels throughout.

    The first kernel is 10x4 where the input is at least twice as tall as wide (time x frequency), as published, and
    3x3 on pictures. There is no dropout: `weight_decay` and `augment` regularise every model alike.
    """
    return DsCnn(input_shape, num_classes, width)
