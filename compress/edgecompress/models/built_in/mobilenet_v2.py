"""MobileNetV2 (Sandler et al. 2018): inverted residuals with linear bottlenecks."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.models.built_in.blocks import ConvBn, halved, rounded, strides

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
#: (expansion, channels, layers, stride of the first of them), table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection, and a shortcut where the shape stays the same."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        """Divides the map's size by `stride`."""
        super().__init__()
        hidden = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(ConvBn(channels_in, hidden, activation=nn.ReLU6()))
        layers.append(ConvBn(hidden, hidden, 3, stride=stride, groups=hidden, activation=nn.ReLU6()))
        layers.append(ConvBn(hidden, channels_out))
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the projection, plus x where there is a shortcut."""
        y: torch.Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """A convolution, seventeen inverted residuals, a 1x1 convolution, the mean over the map, a linear layer."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, width: float) -> None:
        """Builds it; the earliest strides are left out where the picture is small (see `blocks.halvings`)."""
        super().__init__()
        first, *others = strides((2, *(stage[3] for stage in STAGES)), input_shape)
        before = rounded(STEM_CHANNELS * width)
        self.stem = ConvBn(input_shape[0], before, 3, stride=first, activation=nn.ReLU6())
        blocks = []
        for (expansion, channels, count, _), stride in zip(STAGES, others, strict=True):
            after = rounded(channels * width)
            for number in range(count):
                blocks.append(InvertedResidual(before, after, stride if number == 0 else 1, expansion))
                before = after
        self.blocks = nn.Sequential(*blocks)
        # The paper widens the last convolution but does not narrow it.
        last = rounded(HEAD_CHANNELS * max(1.0, width))
        self.head = ConvBn(before, last, activation=nn.ReLU6())
        times = [first, *others].count(2)
        # As a pool over the whole map it converts without a transposition before it.
        self.pool = nn.AvgPool2d((halved(input_shape[1], times), halved(input_shape[2], times)))
        self.fc = nn.Linear(last, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits, (N, classes)."""
        return self.fc(self.pool(self.head(self.blocks(self.stem(x)))).flatten(1))  # type: ignore[no-any-return]


def mobilenet_v2(input_shape: tuple[int, int, int], num_classes: int, width: float = 0.35) -> nn.Module:
    """Returns MobileNetV2 with `width` times the published channels, rounded to multiples of 8.

    There is no dropout before the last layer: `weight_decay` and `augment` regularise every model alike.
    """
    return MobileNetV2(input_shape, num_classes, width)
