"""Five plain modules for the pruning sweep, written as a user would: every way in which channels hang together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

CLASSES = 10


def block(inputs: int, outputs: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Returns conv, batch norm and ReLU."""
    layer = nn.Conv2d(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Residuals(nn.Module):
    """Residual blocks, with and without a conv in the shortcut, and a width kept in an attribute."""

    def __init__(self, width: int = 48) -> None:
        """Takes the first width; the second is twice as large."""
        super().__init__()
        self.stem = block(3, width)
        self.one, self.two = block(width, width), block(width, width)
        self.down, self.short = block(width, 2 * width, stride=2), nn.Conv2d(width, 2 * width, 1, 2)
        self.last = block(2 * width, 2 * width)
        self.features = 2 * width
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        x = self.stem(x)
        x = x + self.two(self.one(x))
        x = self.down(x) + self.short(x)
        x = x + self.last(x)
        return self.head(x.reshape(x.shape[0], self.features, -1).mean(2))


class Splits(nn.Module):
    """Channels that are split and chunked, each part on a way of its own."""

    def __init__(self, width: int = 64) -> None:
        """Takes the width before the split."""
        super().__init__()
        self.stem = block(3, width)
        self.left, self.right = block(width // 2, width // 2), block(width // 2, width // 2)
        self.mix = block(width // 2, 2 * width, stride=2)
        self.value, self.gate = block(width, width), block(width, width)
        self.last = block(width, 2 * width)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        left, right = self.stem(x).chunk(2, dim=1)
        x = self.mix(self.left(left) + self.right(right))
        value, gate = torch.split(x, x.shape[1] // 2, dim=1)
        return self.head(self.last(self.value(value) * torch.sigmoid(self.gate(gate))).mean((2, 3)))


class Concats(nn.Module):
    """Branches side by side, dense connections, and a concatenation that is added to a conv."""

    def __init__(self, width: int = 32) -> None:
        """Takes the width of the stem."""
        super().__init__()
        self.stem = block(3, width)
        self.one, self.two = block(width, width), block(2 * width, width)
        self.squeeze = block(3 * width, 2 * width, stride=2)
        self.left, self.right, self.across = block(2 * width, width), block(2 * width, 2 * width), nn.Conv2d(64, 96, 1)
        self.head = nn.Linear(3 * width * 4, CLASSES)
        self.pool = nn.AdaptiveAvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        x = self.stem(x)
        x = torch.cat([x, self.one(x)], dim=1)
        x = self.squeeze(torch.cat([x, self.two(x)], dim=1))
        x = torch.cat([self.left(x), self.right(x)], dim=1) + self.across(x)
        return self.head(self.pool(x).flatten(1))


class SharedLayers(nn.Module):
    """One block used three times, and one head used on two scales."""

    def __init__(self, width: int = 64) -> None:
        """Takes the width of the block that is shared."""
        super().__init__()
        self.stem, self.again = block(3, width), block(width, width)
        self.down = block(width, width, stride=2)
        self.last = block(width, 2 * width)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        x = self.again(self.again(self.again(self.stem(x))))
        fine, coarse = self.last(self.down(x)), self.last(self.down(self.down(x)))
        return self.head(fine.mean((2, 3))) + self.head(coarse.mean((2, 3)))


class ShuffledGroups(nn.Module):
    """Grouped convs with a channel shuffle between them, and squeeze-and-excitation."""

    def __init__(self, width: int = 64, groups: int = 4) -> None:
        """Takes the width and the groups."""
        super().__init__()
        self.groups = groups
        self.stem = block(3, width)
        self.first, self.second = block(width, width, groups=groups), block(width, width, groups=groups)
        self.squeeze, self.excite = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width // 2, width, 1)
        self.wide, self.narrow = block(width, 4 * width, stride=2), block(4 * width, 2 * width)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits."""
        x = self.first(self.stem(x))
        count, channels, height, width = x.shape
        x = x.view(count, self.groups, channels // self.groups, height, width).transpose(1, 2)
        x = self.second(x.reshape(count, channels, height, width))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(self.narrow(self.wide(x * gate)).mean((2, 3)))


MODULES: dict[str, Callable[[], nn.Module]] = {
    "residuals": Residuals,
    "splits": Splits,
    "concats": Concats,
    "shared layers": SharedLayers,
    "shuffled groups with SE": ShuffledGroups,
}
