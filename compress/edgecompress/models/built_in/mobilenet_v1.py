"""MobileNetV1 (Howard et al. 2017), at width 0.25 MLPerf Tiny's network for visual wake words."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.models.built_in.blocks import ConvBn, Separable, halved, rounded, strides

STEM_CHANNELS = 32
#: (channels, stride) of the depthwise separable layers.
LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class MobileNetV1(nn.Module):
    """A convolution, thirteen depthwise separable layers, the mean over the map, a linear layer."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, width: float) -> None:
        """Builds it; the earliest strides are left out where the picture is small (see `blocks.halvings`)."""
        super().__init__()
        first, *others = strides((2, *(stride for _, stride in LAYERS)), input_shape)
        before = rounded(STEM_CHANNELS * width)
        self.stem = ConvBn(input_shape[0], before, 3, stride=first, activation=nn.ReLU())
        layers = []
        for (channels, _), stride in zip(LAYERS, others, strict=True):
            after = rounded(channels * width)
            layers.append(Separable(before, after, stride))
            before = after
        self.layers = nn.Sequential(*layers)
        times = [first, *others].count(2)
        # As a pool over the whole map it converts without a transposition before it.
        self.pool = nn.AvgPool2d((halved(input_shape[1], times), halved(input_shape[2], times)))
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits, (N, classes)."""
        return self.fc(self.pool(self.layers(self.stem(x))).flatten(1))  # type: ignore[no-any-return]


def mobilenet_v1(input_shape: tuple[int, int, int], num_classes: int, width: float = 0.25) -> nn.Module:
    """Returns MobileNetV1 with `width` times the published channels, rounded to multiples of 8."""
    return MobileNetV1(input_shape, num_classes, width)
