"""Residual networks for small pictures: resnet8 (MLPerf Tiny), resnet20 (He et al. 2016), resnet9 (a fast teacher)."""

from __future__ import annotations

import math

import torch
from torch import nn

#: Pictures smaller than this many pixels a side are not halved any more.
SMALLEST_MAP = 2


class ConvBnRelu(nn.Sequential):
    """A 3x3 convolution, batch norm, ReLU and, if asked, a 2x2 max pool."""

    def __init__(self, channels_in: int, channels_out: int, *, pool: bool = False) -> None:
        """Keeps the picture's size, or halves it with `pool`."""
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU()
        if pool:
            self.pool = nn.MaxPool2d(2)


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        """Keeps width and size."""
        super().__init__()
        self.conv1 = ConvBnRelu(channels, channels)
        self.conv2 = ConvBnRelu(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x plus what the convolutions add."""
        return x + self.conv2(self.conv1(x))  # type: ignore[no-any-return]


class ResNet9(nn.Module):
    """The DAWNBench network: four convolution stages, two of them residual, max pools between them."""

    def __init__(self, input_shape: tuple[int, int, int], num_classes: int, width: int = 32) -> None:
        """Builds it; pools are left out where the picture is too small for them."""
        super().__init__()
        sides = [min(input_shape[1:])]
        pools = []
        for _ in range(3):
            pools.append(sides[-1] // 2 >= SMALLEST_MAP)
            sides.append(sides[-1] // 2 if pools[-1] else sides[-1])
        self.prep = ConvBnRelu(input_shape[0], width)
        self.layer1 = nn.Sequential(ConvBnRelu(width, 2 * width, pool=pools[0]), Residual(2 * width))
        self.layer2 = ConvBnRelu(2 * width, 4 * width, pool=pools[1])
        self.layer3 = nn.Sequential(ConvBnRelu(4 * width, 8 * width, pool=pools[2]), Residual(8 * width))
        halvings = 2 ** sum(pools)
        # Over the whole map, as a pool: a reduction by maximum has no INT8 kernel.
        self.pool = nn.MaxPool2d((input_shape[1] // halvings, input_shape[2] // halvings))
        self.fc = nn.Linear(8 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits, (N, classes)."""
        x = self.layer3(self.layer2(self.layer1(self.prep(x))))
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; a 1x1 convolution on the shortcut where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        """Divides the picture's size by `stride`."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns relu(shortcut + convolutions)."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(self.shortcut(x) + y)  # type: ignore[no-any-return]


class SmallResNet(nn.Module):
    """A 3x3 stem and stages of widths w, 2w, 4w and strides 1, 2, 2; three, as published, or another number."""

    def __init__(
        self, input_shape: tuple[int, int, int], num_classes: int, width: int, blocks: int, stages: int
    ) -> None:
        """Builds it with `blocks` residual blocks a stage."""
        super().__init__()
        channels, *size = input_shape
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        before = width
        self.stages = stages
        for stage in range(stages):
            stride = 1 if stage == 0 else 2
            after = width * 2**stage
            layers = [BasicBlock(before, after, stride), *(BasicBlock(after, after, 1) for _ in range(blocks - 1))]
            self.add_module(f"stack{stage + 1}", layers[0] if blocks == 1 else nn.Sequential(*layers))
            size = [math.ceil(side / stride) for side in size]
            before = after
        # As a pool over the whole map it converts without a transposition before it.
        self.pool = nn.AvgPool2d((size[0], size[1]))
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits, (N, classes)."""
        x = self.relu(self.bn(self.conv(x)))
        for stage in range(self.stages):
            x = self.get_submodule(f"stack{stage + 1}")(x)
        return self.fc(self.pool(x).flatten(1))  # type: ignore[no-any-return]


def resnet8(input_shape: tuple[int, int, int], num_classes: int, width: int = 16, stages: int = 3) -> nn.Module:
    """Returns MLPerf Tiny's image classification network (Banbury et al. 2021)."""
    return SmallResNet(input_shape, num_classes, width, blocks=1, stages=stages)


def resnet20(input_shape: tuple[int, int, int], num_classes: int, width: int = 16, stages: int = 3) -> nn.Module:
    """Returns the 20-layer network of He et al. 2016 for CIFAR, with projection shortcuts."""
    return SmallResNet(input_shape, num_classes, width, blocks=3, stages=stages)


def resnet9(input_shape: tuple[int, int, int], num_classes: int, width: int = 32) -> nn.Module:
    """Returns a network that trains fast: a good teacher for small pictures."""
    return ResNet9(input_shape, num_classes, width)
