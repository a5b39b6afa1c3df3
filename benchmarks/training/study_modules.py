"""Modules as people write them, for the study of the training defaults: each for any input of its kind."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import nn

Shape = tuple[int, ...]


class ConvNet(nn.Module):
    """Convolutions and poolings without norms, flattened by `view`."""

    def __init__(self, num_classes: int, input_shape: Shape) -> None:
        """Takes pictures."""
        super().__init__()
        channels, side = input_shape[0], input_shape[1] // 4
        self.one, self.two = nn.Conv2d(channels, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.hidden, self.head = nn.Linear(32 * side * side, 64), nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns scores."""
        x = F.max_pool2d(F.relu(self.one(x)), 2)
        x = F.max_pool2d(F.relu(self.two(x)), 2)
        scores: torch.Tensor = self.head(F.relu(self.hidden(x.view(x.size(0), -1))))
        return scores


def deep_plain(num_classes: int, input_shape: Shape) -> nn.Module:
    """Returns eight convolutions one after the other, no norms, no shortcuts."""
    widths = [input_shape[0], 16, 16, 32, 32, 32, 64, 64, 64]
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(widths)):
        layers += [nn.Conv2d(before, after, 3, 2 if number in (2, 5) else 1, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def deep_mlp(num_classes: int, input_shape: Shape, norm: bool = False) -> nn.Module:
    """Returns eight linear layers, plain or with layer norms."""
    inputs = 1
    for side in input_shape:
        inputs *= side
    layers: list[nn.Module] = [nn.Flatten()]
    for width in (inputs, *[64] * 6):
        layers += [nn.Linear(width, 64), *([nn.LayerNorm(64)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, num_classes))


class Excite(nn.Module):
    """A depthwise separable block with batch norms, squeeze-and-excite and hard swish."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        """Takes widths and stride."""
        super().__init__()
        self.depth = nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False)
        self.norm, self.out_norm = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.down, self.up = nn.Conv2d(before, max(before // 4, 4), 1), nn.Conv2d(max(before // 4, 4), before, 1)
        self.point = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the block's maps."""
        y = F.hardswish(self.norm(self.depth(x)))
        y = y * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1)))))
        out: torch.Tensor = F.hardswish(self.out_norm(self.point(y)))
        return out


def squeeze_excite(num_classes: int, input_shape: Shape) -> nn.Module:
    """Returns four such blocks."""
    stem = [nn.Conv2d(input_shape[0], 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
    blocks = [Excite(16, 24, 2), Excite(24, 40, 1), Excite(40, 40, 2), Excite(40, 64, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


class Patches(nn.Module):
    """A small vision Transformer: patches, places, two encoder layers, no batch norms."""

    def __init__(self, num_classes: int, input_shape: Shape) -> None:
        """Takes pictures."""
        super().__init__()
        patch = max(input_shape[1] // 4, 1)
        self.embed = nn.Conv2d(input_shape[0], 48, patch, patch)
        self.places = nn.Parameter(torch.randn(1, (input_shape[1] // patch) ** 2, 48) * 0.02)
        layer = nn.TransformerEncoderLayer(48, 4, 96, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns scores."""
        x = self.embed(x).flatten(2).transpose(1, 2) + self.places
        scores: torch.Tensor = self.head(self.norm(self.layers(x)).mean(1))
        return scores


class Recurrent(nn.Module):
    """A GRU over a series, read at its last step."""

    def __init__(self, num_classes: int, input_shape: Shape) -> None:
        """Takes series."""
        super().__init__()
        self.gru, self.head = nn.GRU(input_shape[1], 32, batch_first=True), nn.Linear(32, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns scores."""
        scores: torch.Tensor = self.head(self.gru(x)[0][:, -1])
        return scores
