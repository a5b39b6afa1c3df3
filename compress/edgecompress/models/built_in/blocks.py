"""What the convolutional families share: conv-bn-activation, depthwise separable layers, strides that suit the map."""

from __future__ import annotations

import math

from torch import nn

#: The last map keeps at least this many pixels a side, where the picture has them.
SMALLEST_MAP = 3


def halvings(input_shape: tuple[int, int, int], most: int) -> int:
    """Returns how often a picture is halved: at most `most` times, and only while its shorter side stays at 3 or more.

    224 and 96 pixels are halved five times, 64 four times, 28 and 32 three times, 8 once. Networks leave out the
    earliest halvings (as their CIFAR variants do), so small pictures keep their detail where it is extracted.
    """
    side = min(input_shape[1:])
    return max(0, min(most, int(math.log2(side / SMALLEST_MAP)))) if side > SMALLEST_MAP else 0


def strides(published: tuple[int, ...], input_shape: tuple[int, int, int]) -> list[int]:
    """Returns a network's published strides (1 or 2) with the earliest 2s made 1 until the picture is large enough."""
    too_many = published.count(2) - halvings(input_shape, published.count(2))
    kept = []
    for stride in published:
        skip = stride != 1 and too_many > 0
        too_many -= skip
        kept.append(1 if skip else stride)
    return kept


def halved(side: int, times: int) -> int:
    """Returns the side of a map after padded stride-2 layers, each of which rounds up."""
    for _ in range(times):
        side = math.ceil(side / 2)
    return side


def rounded(channels: float, divisor: int = 8) -> int:
    """Returns channels as a multiple of 8, at least 8, and not more than 10 % below (Sandler et al. 2018)."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class ConvBn(nn.Sequential):
    """A convolution and a batch norm, which conversion folds into it, and an activation where one is given."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int] = 1,
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        """Keeps the map's size, or halves it with `stride=2` (rounded up), where `padding` is not given."""
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        around = (height // 2, width // 2) if padding is None else padding
        self.conv = nn.Conv2d(
            channels_in, channels_out, (height, width), stride, around, dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(channels_out)
        if activation is not None:
            self.act = activation


class Separable(nn.Sequential):
    """A 3x3 depthwise and a 1x1 convolution, each with batch norm and ReLU (Howard et al. 2017)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        """Divides the map's size by `stride`."""
        super().__init__()
        self.depthwise = ConvBn(channels_in, channels_in, 3, stride=stride, groups=channels_in, activation=nn.ReLU())
        self.pointwise = ConvBn(channels_in, channels_out, activation=nn.ReLU())
